"""What stays at the worker without being asked to: results that are large, or that live on a device."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from jupyter_gpu.sync.sizes import device_of, size_of
from jupyter_gpu.sync.units import human_bytes

#: Code is what a notebook calls: it comes, whatever the limit.
CODE = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType)


def why_it_stays(value: Any, keep_above: int) -> str:
    """The reason for which a value that is new to the notebook stays here; "" if it goes. ``keep_above``: bytes; -1: no limit.
    Looks at the value, and pickles and copies nothing."""
    if isinstance(value, CODE):
        return ""
    if found := device_of(value):
        return f"stays on {found}"
    return "" if keep_above < 0 else why_its_size_stays(size_of(value), keep_above)


def why_its_size_stays(size: int, keep_above: int) -> str:
    """The same for a size that is known."""
    if keep_above < 0 or size <= keep_above:
        return ""
    return f"{human_bytes(size)}, more than keep_above={human_bytes(keep_above)}; `.fetch()` brings it"
