"""How values of certain libraries are pickled, where their own way would lose what aliases what.

Each library's part is imported only when a type of that library is met.
"""

from __future__ import annotations

import copyreg
import math
import pickle
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .flat import LONG, PIECE, is_flat, is_long_and_flat, pickled

if TYPE_CHECKING:
    from .pickler import Pickler

_BY_OBJECT: Any = object.__reduce_ex__
#: Bytes that the buffers of an Arrow array may have beyond its values.
_SLACK = 4096
#: A view brings along an array that nobody named only while that is not much larger than what is seen of it.
_MUCH = 2


__all__ = ["Route", "begin_load", "is_flat", "is_long_and_flat", "is_made_view", "route_of", "views_among"]

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
    arrow = sys.modules.get("pandas.core.arrays.arrow.array")
    if arrow is not None and issubclass(kind, arrow.ArrowExtensionArray) and kind.__getstate__ is arrow.ArrowExtensionArray.__getstate__:
        return _reduce_arrow_column
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
        return _reduce_flat(pickler, array) if array.dtype.hasobject and array.ndim and array.size > LONG else NotImplemented
    offset = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return _view, (whole, offset, array.shape, array.strides, array.dtype)


def _reduce_flat(pickler: Pickler, array: Any) -> Any:
    """Strings by the million: apart, without a memo, which would hold each of them; in pieces, of which most stay the same."""
    if array.dtype.kind != "O":
        return NotImplemented
    fortran, pieces = bool(array.flags.fnc), []
    flat = array.T.ravel() if fortran else array.ravel()
    for start in range(0, flat.size, PIECE):
        piece = flat[start : start + PIECE]
        data: Any = pickler.flats.find(piece) if pickler.flats is not None else None
        if data is None:
            if not is_flat(values := piece.tolist()):
                return NotImplemented
            data = pickled(values)
            if pickler.flats is not None:
                pickler.flats.keep(piece, values, data)
        pieces.append(pickle.PickleBuffer(data))
    return _load_flat, (pieces, array.shape, fortran)


def _load_flat(pieces: list[Any], shape: tuple[int, ...], fortran: bool) -> Any:
    import numpy as np

    flat = np.empty(math.prod(shape), dtype=object)
    start = 0
    for values in map(pickle.loads, pieces):
        flat[start : start + len(values)] = values
        start += len(values)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _view(whole: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any) -> Any:
    import numpy as np

    view = np.ndarray(shape, dtype, buffer=whole if whole.flags.c_contiguous else whole.T, offset=offset, strides=strides)
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


def _reduce_arrow_column(_: Pickler, column: Any) -> Any:
    """Its own way copies all of it, to have it in one chunk, which it most often is already."""
    chunks = column._pa_array
    if chunks.num_chunks != 1 or type(column).__reduce_ex__ is not _BY_OBJECT:
        return column.__reduce_ex__(5)
    chunk = chunks.chunk(0)
    if chunk.offset or chunk.get_total_buffer_size() > chunk.nbytes + _SLACK:  # a part of a longer one, which would go along
        return column.__reduce_ex__(5)
    return copyreg.__newobj__, (type(column),), {**column.__dict__, "_pa_array": chunk, "_cache": {}}  # type: ignore[attr-defined]
