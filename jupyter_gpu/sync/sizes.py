"""How large a value is and where it lives, without pickling or copying it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

#: Parts looked at to estimate a size, and of each container.
_LOOKS = 2000
_SAMPLE = 200
_ATOMS = (int, float, complex, bool, str, bytes, type(None))


def device_of(value: Any) -> str:
    """Where a value lives if that is not the host's memory: "cuda:0", "meta", "tpu:1"; "" for all others. Sees tensors, modules,
    optimizers, arrays of jax and cupy, cudf frames, and containers that hold such values directly (of a long one, the first 1,000)."""
    if found := _device(value):
        return found
    if isinstance(value, dict):
        return next(filter(None, map(_device, islice(list(dict.values(value)), 1000))), "")
    if isinstance(value, (list, tuple, set, frozenset)):
        return next(filter(None, map(_device, islice(value, 1000))), "")
    return ""


def _device(value: Any) -> str:
    if isinstance(value, _ATOMS):
        return ""
    try:
        for library, look in _LIBRARIES.items():
            if (module := sys.modules.get(library)) is not None and (found := look(module, value)):
                return found
    except Exception:  # a library that is half imported, or an array that was deleted: then it lives nowhere
        return ""
    return ""


def _in_torch(torch: Any, value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return "" if value.device.type == "cpu" else str(value.device)
    if isinstance(value, torch.nn.Module):
        tensors: Iterable[Any] = _tensors_of(value)
    elif isinstance(value, torch.optim.Optimizer):
        tensors = (t for group in value.param_groups for t in group["params"])
    else:
        return ""
    return next((str(t.device) for t in tensors if t.device.type != "cpu"), "")


def _in_jax(jax: Any, value: Any) -> str:
    if not isinstance(value, jax.Array):
        return ""
    return next((f"{d.platform}:{d.id}" for d in value.devices() if d.platform != "cpu"), "")


def _in_cupy(cupy: Any, value: Any) -> str:
    return f"cuda:{value.device.id}" if isinstance(value, cupy.ndarray) else ""


def _in_cudf(cudf: Any, value: Any) -> str:
    return "cuda" if isinstance(value, (cudf.DataFrame, cudf.Series, cudf.Index)) else ""


_LIBRARIES = {"torch": _in_torch, "jax": _in_jax, "cupy": _in_cupy, "cudf": _in_cudf}


def _tensors_of(module: Any) -> Iterator[Any]:
    yield from module.parameters()
    yield from module.buffers()


# ---------------------------------------------------------------- size


def size_of(value: Any) -> int:
    """About how many bytes a value takes, from what it says of itself and a sample of its parts; at most 2,000 are looked at; -1: it
    says nothing that could be used. What is kept in a library's own memory, and not told of, is not seen."""
    try:
        return _Estimate().of(value)
    except Exception:  # attributes of other people's classes may do anything
        return -1


class _Estimate:
    """One walk. Shared parts count once."""

    def __init__(self) -> None:
        self._left = _LOOKS
        self._seen: set[int] = set()

    def of(self, value: Any, depth: int = 0) -> int:
        if isinstance(value, _ATOMS):
            return sys.getsizeof(value)
        if id(value) in self._seen or self._left <= 0:
            return 0
        self._seen.add(id(value))
        self._left -= 1
        known = _told(value)
        return known if known >= 0 else self._parts(value, depth)

    def _parts(self, value: Any, depth: int) -> int:
        own = sys.getsizeof(value)
        if depth > 6:
            return own
        if isinstance(value, dict):
            own += self._sampled(len(value), islice(dict.items(value), _SAMPLE), depth, pairs=True)
        elif isinstance(value, (list, tuple, set, frozenset)):
            own += self._sampled(len(value), islice(value, _SAMPLE), depth)
        attributes = _attributes(value)
        return own + sum(self._inner(part, depth) for part in attributes)

    def _inner(self, part: Any, depth: int) -> int:
        try:
            return self.of(part, depth + 1)
        except Exception:  # of one part nothing is known
            return 0

    def _sampled(self, count: int, some: Iterator[Any], depth: int, pairs: bool = False) -> int:
        parts = list(some)
        flat = [x for pair in parts for x in pair] if pairs else parts
        total = sum(self._inner(part, depth) for part in flat)
        return total * count // len(parts) if parts else 0


def _attributes(value: Any) -> list[Any]:
    if isinstance(value, type) or type(value).__module__ == "builtins":
        return []  # classes, functions and modules are code
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return []
    return list(found.values()) if isinstance(found, dict) else []


def _told(value: Any) -> int:
    """What a value of a known library says of itself; -1: nothing."""
    kind = type(value)
    if isinstance(value, (bytearray, memoryview)):
        return len(value) if isinstance(value, bytearray) else value.nbytes
    if kind.__module__ in ("builtins", "__main__"):
        return -1
    torch = sys.modules.get("torch")
    if torch is not None:
        if isinstance(value, torch.Tensor):
            return int(value.numel() * value.element_size())
        if isinstance(value, torch.nn.Module):
            return sum(int(t.numel() * t.element_size()) for t in {id(t): t for t in _tensors_of(value)}.values())
    if callable(usage := getattr(value, "memory_usage", None)):
        return _of_frame(value, usage)
    if callable(estimated := getattr(value, "estimated_size", None)):
        return int(estimated())  # polars
    size = getattr(value, "nbytes", None)
    if not isinstance(size, int):
        return -1
    dtype = getattr(value, "dtype", None)
    return size + _of_objects(value) if getattr(dtype, "kind", "") == "O" else size


def _of_frame(value: Any, usage: Any) -> int:
    told = usage(index=True) if hasattr(value, "index") else usage()
    total = int(told.sum() if hasattr(told, "sum") else told)
    columns = [value[c] for c in value.columns[:_SAMPLE]] if getattr(value, "ndim", 0) == 2 else [value]
    return total + sum(_of_objects(c.to_numpy()) for c in columns if getattr(getattr(c, "dtype", None), "kind", "") == "O")


def _of_objects(array: Any) -> int:
    """Bytes of what an array of objects refers to, from a sample."""
    step = max(1, array.size // _SAMPLE)
    some = list(islice(array.flat, 0, None, step)) if array.size <= _SAMPLE else [array.flat[i] for i in range(0, array.size, step)]
    return sum(map(sys.getsizeof, some)) * array.size // len(some) if some else 0
