"""torch's tensors: memory, and how it is looked at. Modules and optimizers are code, and come as their ``state_dict``."""

from __future__ import annotations

import math
from typing import Any

import torch

from .. import torch_codec
from .arrays import as_buffer
from .entry import Entry, Table, are_ints, is_int, need

#: As ``arrays``: how many times more than its memory a tensor may show, and bytes that each may show.
_BLOWN_UP = 16
_FREE = 64 << 20
_DTYPES = [name for name, value in vars(torch).items() if isinstance(value, torch.dtype) and not name.startswith(("q", "bits"))]


class Storage(tuple):  # type: ignore[type-arg]
    """(storage, home) as ``torch_codec`` gives it; of a class that only this kit makes."""

    __slots__ = ()


def storage(data: Any, home: Any) -> Any:
    need(type(home) is str and len(home) < 40, "no name of a device")
    return Storage(torch_codec._load_storage(as_buffer(data), home))


def tensor(
    holder: Any, dtype: Any, offset: Any, shape: Any, stride: Any, requires_grad: Any, parameter: Any, grad: Any, attributes: Any
) -> Any:
    """Raises ``ValueError`` for one that reaches beyond its storage."""
    need(type(holder) is Storage and isinstance(dtype, torch.dtype), "no storage and type")
    need(is_int(offset) and offset >= 0 and are_ints(shape, 0) and are_ints(stride, 0) and len(shape) == len(stride), "no shape")
    size, memory = torch.empty(0, dtype=dtype).element_size(), holder[0].nbytes()
    if math.prod(shape):
        last = offset + sum((n - 1) * s for n, s in zip(shape, stride))
        need((last + 1) * size <= memory, "it reaches beyond its memory")
    need(math.prod(shape) * size <= max(_FREE, _BLOWN_UP * memory), "it shows its memory too many times")
    need(type(requires_grad) is bool and type(parameter) is bool, "not what a tensor writes")
    need(grad is None or type(grad) is torch.Tensor, "its gradient is no tensor")
    need(type(attributes) is dict and all(type(k) is str and not k.startswith("__") for k in attributes), "unknown attributes")
    return torch_codec._make_tensor(holder, dtype, offset, shape, stride, requires_grad, parameter, grad, attributes)


def _size(parts: Any = ()) -> Any:
    need(are_ints(parts, 0), "its parts are no integers")
    return torch.Size(parts)


def _device(*args: Any) -> Any:
    need(all(type(a) in (str, int) for a in args), "no name of a device")
    return torch.device(*args)


TABLE: Table = {
    **{("torch", name): Entry() for name in _DTYPES},
    ("torch", "Size"): Entry(make=_size),
    ("torch", "device"): Entry(make=_device),
    **{("torch", name): Entry() for name in ("strided", "contiguous_format", "preserve_format")},
}
