"""numpy: arrays that show the same memory go on doing so, and long arrays of plain objects go without a memo."""

from __future__ import annotations

import math
import pickle
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..flat import LONG, PIECE, is_flat, pickled
from .base import Route

if TYPE_CHECKING:
    from ..pickler import Pickler

#: A view brings along an array that nobody named only while that is not much larger than what is seen of it.
_MUCH = 2
#: Of functions that pickles call: the package, wherever in it they stand. A name on the wire is there for longer than a file.
_WIRE = "jupyter_gpu.sync.codecs"

trusted = frozenset(
    {
        "jupyter_gpu.sync.codecs:_view",
        "jupyter_gpu.sync.codecs:_load_flat",
        "numpy:ndarray",
        "numpy:dtype",
        "numpy._core.numeric:_frombuffer",
        "numpy._core.multiarray:_reconstruct",
        "numpy._core.multiarray:scalar",
    }
)


def route_of(kind: type, pickler: Pickler) -> Route | None:
    if kind is not sys.modules["numpy"].ndarray:
        return _reduce_fields if kind.__name__ == "VoidDType" else None
    return _reduce_array


#: A piece of an array of objects, the objects in it, and the bytes that they were made of.
LoadedFlat = tuple[Any, list[Any], Any]


class _Made(threading.local):
    def __init__(self) -> None:
        self.views: dict[int, Any] = {}
        self.flats: list[LoadedFlat] = []


_made = _Made()


def begin_load() -> None:
    """Forget what the last load on this thread made."""
    _made.views = {}
    _made.flats = []


def loaded_flats() -> list[LoadedFlat]:
    """What the last load made of arrays of objects: told once."""
    found, _made.flats = _made.flats, []
    return found


def note_flat(array: Any, pieces: list[tuple[list[Any], Any]]) -> None:
    """Remember that the load under way made an array of objects of these values, piece by piece, each made of these bytes."""
    flat = array.T.ravel() if array.flags.fnc else array.ravel()
    start = 0
    for values, data in pieces:
        _made.flats.append((flat[start : start + len(values)], values, data))
        start += len(values)


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
    pickler.met_arrays = True
    whole = pickler.views.get(id(array))
    if whole is None:
        return _reduce_flat(pickler, array) if array.dtype.hasobject and array.ndim and array.size > LONG else NotImplemented
    offset = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return _view, (whole, offset, array.shape, array.strides, array.dtype)


def _reduce_fields(pickler: Pickler, dtype: Any) -> Any:
    """The table of the fields of a structured dtype is nobody's variable: with one that is the same object in every pickle, a value
    would seem to share something with all that went before."""
    make, arguments, state = dtype.__reduce__()
    return make, arguments, tuple(dict(part) if type(part) is dict else part for part in state)


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
    made = [(pickle.loads(data), data) for data in pieces]
    for values, _ in made:
        flat[start : start + len(values)] = values
        start += len(values)
    array = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
    note_flat(array, made)
    return array


def _view(whole: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any) -> Any:
    import numpy as np

    return note_view(np.ndarray(shape, dtype, buffer=whole if whole.flags.c_contiguous else whole.T, offset=offset, strides=strides))


def note_view(view: Any) -> Any:
    """Remember an array that the load under way made as a view of another one."""
    _made.views[id(view)] = view
    return view


_view.__module__ = _load_flat.__module__ = _WIRE
