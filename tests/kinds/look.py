"""What an object looks like, as plain data: taken at both ends, each of its own object, and compared."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import deque
from collections.abc import Mapping
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
#: Attributes that are somebody's cache, clock or counter, and say nothing about the value.
_SKIP = {"_cache", "_cached_properties", "__pydantic_fields_set__", "_item_cache"}


def look(x: Any, seen: dict[int, int] | None = None) -> Any:
    seen = {} if seen is None else seen
    if x is None or isinstance(x, (bool, int, str, bytes)):
        return (type(x).__name__, repr(x)) if type(x) not in (bool, int, str, bytes, type(None)) else x
    if isinstance(x, (float, complex)):
        return type(x).__name__, repr(x)
    if id(x) in seen:
        return "seen", seen[id(x)]
    seen[id(x)] = len(seen)
    of_library = _library(x)
    if of_library is not None:
        return of_library(x, seen)
    if isinstance(x, type):
        return "class", x.__qualname__, sorted(k for k in vars(x) if not k.startswith("__"))
    if isinstance(x, (FunctionType, BuiltinFunctionType)):
        cells = [look(c, seen) for c in (getattr(x, "__closure__", None) or ())]
        return "function", x.__qualname__, look(getattr(x, "__defaults__", None), seen), cells, look(dict(getattr(x, "__dict__", {})), seen)
    if isinstance(x, CellType):
        return "cell", look(x.cell_contents, seen)
    if isinstance(x, MethodType):
        return "method", x.__name__, look(x.__self__, seen)
    if isinstance(x, ModuleType):
        return "module", x.__name__
    return _parts(x, seen)


def _parts(x: Any, seen: dict[int, int]) -> Any:
    kind = type(x).__qualname__
    found: list[Any] = [kind]
    if isinstance(x, (list, tuple, deque)):
        found.append([look(v, seen) for v in x])
    elif isinstance(x, (set, frozenset)):
        found.append(sorted(repr(look(v)) for v in x))
    elif isinstance(x, Mapping):
        found.append([(look(k, seen), look(v, seen)) for k, v in x.items()])
    elif isinstance(x, (bytearray, memoryview)):
        found.append(bytes(x))
    state = _state(x)
    if state:
        found.append([(k, look(v, seen)) for k, v in sorted(state.items(), key=lambda kv: str(kv[0])) if k not in _SKIP])
    elif len(found) == 1:
        found.append(_ADDRESS.sub("", repr(x)))
    return tuple(found)


def _state(x: Any) -> dict[str, Any]:
    state = dict(getattr(x, "__dict__", {}) or {})
    if state.get("__dict__") is x or getattr(x, "__dict__", None) is x:
        return {}
    for cls in type(x).__mro__:
        slots = vars(cls).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot not in ("__dict__", "__weakref__") and hasattr(x, slot):
                state[slot] = getattr(x, slot)
    return state


def _digest(data: Any) -> str:
    return hashlib.blake2b(bytes(data), digest_size=8).hexdigest()


def _library(x: Any) -> Any:
    kind = type(x)
    top = str(kind.__module__).partition(".")[0]
    if top == "numpy":
        return {"ndarray": _array, "memmap": _array, "recarray": _array, "MaskedArray": _masked}.get(kind.__name__)
    if top == "pandas" and hasattr(x, "to_numpy"):
        return _pandas
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, getattr(torch, "Tensor", ())):
        return _tensor
    if top in ("jaxlib", "jax") and hasattr(x, "weak_type"):
        return lambda a, _: ("jax", str(a.dtype), a.shape, a.weak_type, repr(a.tolist()) if str(a.dtype)[:3] != "key" else repr(a))
    if top == "polars":
        return lambda p, _: (
            "polars",
            str(getattr(p, "schema", getattr(p, "dtype", None))),
            str(p.rows() if hasattr(p, "rows") else list(p) if hasattr(p, "to_list") else p),
        )
    if top == "pyarrow":
        return lambda p, _: (
            "pyarrow",
            str(getattr(p, "type", getattr(p, "schema", None))),
            str(p.to_pylist()) if hasattr(p, "to_pylist") else str(p),
        )
    return None


def _array(a: Any, seen: dict[int, int]) -> Any:
    flags = a.flags.c_contiguous, a.flags.f_contiguous, a.flags.writeable
    data = [look(v, seen) for v in a.ravel().tolist()] if a.dtype.hasobject else _digest(a.tobytes())
    return type(a).__name__, str(a.dtype), a.shape, flags, data


def _masked(a: Any, seen: dict[int, int]) -> Any:
    import numpy as np

    return "masked", _array(np.asarray(a.filled()), seen), repr(np.asarray(a.mask).tolist()), repr(a.fill_value)


def _pandas(p: Any, seen: dict[int, int]) -> Any:
    if hasattr(p, "columns"):
        columns = [(look(c), str(t)) for c, t in zip(p.columns, p.dtypes)]
        return (
            type(p).__name__,
            columns,
            [_column(p.iloc[:, i]) for i in range(p.shape[1])],
            _pandas(p.index, seen),
            repr(p.attrs),
            _pandas(p.columns, seen),
        )
    rest = (
        (_pandas(p.index, seen), repr(p.attrs)) if hasattr(p, "iloc") else (repr(getattr(p, "names", None)), repr(getattr(p, "freq", None)))
    )
    return type(p).__name__, repr(getattr(p, "name", None)), _column(p), rest


def _column(c: Any) -> Any:
    dtype = c.dtype
    more = (repr(dtype.categories.tolist()), dtype.ordered) if hasattr(dtype, "categories") else repr(dtype)
    return str(dtype), more, [(type(v).__name__, repr(v)) for v in c.tolist()]


def _tensor(t: Any, seen: dict[int, int]) -> Any:
    import torch

    whole = t.detach()
    whole = whole.dequantize() if whole.is_quantized else whole.to_dense() if whole.layout is not torch.strided else whole
    grad = look(t.grad, seen) if t.is_leaf and t.grad is not None else None
    attributes = look(dict(t.__dict__), seen) if t.__dict__ else None
    return type(t).__name__, str(t.dtype), tuple(t.shape), str(t.layout), t.requires_grad, repr(whole.tolist()), grad, attributes
