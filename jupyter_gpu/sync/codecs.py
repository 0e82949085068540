"""How values of certain libraries are pickled, where their own way would lose what aliases what.

Each library's part is imported only when a type of that library is met.
"""

from __future__ import annotations

import io
import math
import pickle
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pickler import Pickler

#: Kinds without parts, and without an identity that matters.
_FLAT = frozenset({int, float, bool, str, bytes, complex, type(None)})
_LONG = 1000
#: A view brings along an array that nobody named only while that is not much larger than what is seen of it.
_MUCH = 2


def is_flat(content: Iterable[Any]) -> bool:
    """Whether a container (of a dict: keys and values) holds nothing but plain values."""
    values = content.values() if isinstance(content, dict) else ()
    return _FLAT.issuperset(map(type, content)) and _FLAT.issuperset(map(type, values))


def is_long_and_flat(value: Any) -> bool:
    """Whether it is a list, dict or set whose memo would be large and have nothing of use in it but the container, at index 0."""
    return type(value) in (list, dict, set) and len(value) > _LONG and is_flat(value)


#: (pickler, object) -> what ``__reduce_ex__`` gives
Route = Callable[[Any, Any], Any]


def route_of(kind: type, pickler: Pickler) -> Route | None:
    """The reducer for instances of ``kind``; None: the library's own."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is numpy.ndarray:
        pickler.met_arrays = True
        return _reduce_array
    blocks = sys.modules.get("pandas._libs.internals")
    if blocks is not None and issubclass(kind, blocks.Block):
        return _reduce_block
    managers = sys.modules.get("pandas.core.internals.managers")
    if managers is not None and issubclass(kind, managers.SingleBlockManager):
        return _reduce_single_manager
    torch = sys.modules.get("torch")
    if torch is not None and issubclass(kind, getattr(torch, "Tensor", ())):
        from . import torch_codec

        return torch_codec.reduce_tensor
    return None


# ---------------------------------------------------------------- numpy


class _Made(threading.local):
    def __init__(self) -> None:
        self.views: dict[int, Any] = {}


_made = _Made()


def begin_load() -> None:
    """Forget the views that the last load on this thread made."""
    _made.views = {}


def is_made_view(array: Any) -> bool:
    """Whether the load under way made this array as a view of another one."""
    return _made.views.get(id(array)) is array


def _memory_of(array: Any) -> Any:
    """The array at the end of the chain of views."""
    while type(array.base) is type(array):
        array = array.base
    return array


def views_among(arrays: Iterable[Any]) -> dict[int, Any]:
    """id of an array -> the array of which it is to be pickled as a view, where several show the same memory: one of them if it
    shows all of it, otherwise what owns the memory, if that is not much more than what they show."""
    groups: dict[int, tuple[Any, dict[int, Any]]] = {}
    for array in arrays:
        memory = _memory_of(array)
        groups.setdefault(id(memory), (memory, {}))[1][id(array)] = array
    found: dict[int, Any] = {}
    for memory, group in groups.values():
        if len(group) < 2 or memory.dtype.hasobject:
            continue
        whole = next((a for a in group.values() if a.nbytes == memory.nbytes and _is_contiguous(a) and not a.dtype.hasobject), None)
        if whole is None and _is_contiguous(memory) and memory.nbytes <= _MUCH * sum(a.nbytes for a in group.values()):
            whole = memory
        if whole is not None:
            found.update((key, whole) for key, a in group.items() if a is not whole and not a.dtype.hasobject)
    return found


def _is_contiguous(array: Any) -> bool:
    return bool(array.flags.c_contiguous or array.flags.f_contiguous)


def _reduce_array(pickler: Pickler, array: Any) -> Any:
    whole = pickler.views.get(id(array))
    if whole is None:
        return _reduce_flat(array) if array.dtype.hasobject and array.ndim and array.size > _LONG else NotImplemented
    offset = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return _view, (whole, offset, array.shape, array.strides, array.dtype)


def _reduce_flat(array: Any) -> Any:
    """Strings by the million: apart, without a memo, which would hold each of them."""
    if array.dtype.kind != "O" or not is_flat(values := array.ravel().tolist()):
        return NotImplemented
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 5)
    pickler.fast = True
    pickler.dump(values)
    return _load_flat, (pickle.PickleBuffer(file.getbuffer()), array.shape, bool(array.flags.fnc))


def _load_flat(data: Any, shape: tuple[int, ...], fortran: bool) -> Any:
    import numpy as np

    flat = np.empty(math.prod(shape), dtype=object)
    flat[:] = pickle.loads(data)
    return np.asfortranarray(flat.reshape(shape)) if fortran else flat.reshape(shape)


def _view(whole: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any) -> Any:
    import numpy as np

    return note_view(np.ndarray(shape, dtype, buffer=whole if whole.flags.c_contiguous else whole.T, offset=offset, strides=strides))


def note_view(view: Any) -> Any:
    """Remember an array that the load under way made as a view of another one."""
    _made.views[id(view)] = view
    return view


# ---------------------------------------------------------------- pandas


def _reduce_block(pickler: Pickler, block: Any) -> Any:
    """Frames may share a block's memory while nobody writes, and know it from reference counts that a pickle does not have: each
    must get memory of its own, or a write to one would show in the other."""
    reduced = block.__reduce__()
    values = reduced[1][0]
    own = values[...] if hasattr(values, "__array_interface__") else values[:]
    inner = own if hasattr(own, "__array_interface__") else getattr(own, "_ndarray", own)
    pickler.private[id(inner)] = inner
    return reduced[0], (own, *reduced[1][1:]), *reduced[2:]


def _reduce_single_manager(_: Pickler, manager: Any) -> Any:
    """A series' manager would give its arrays themselves, and not the block that holds them."""
    return type(manager), (manager.blocks[0], manager.axes[0])
