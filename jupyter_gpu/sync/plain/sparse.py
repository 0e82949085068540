"""scipy's sparse matrices and arrays: their loops follow the indices without asking, so these are checked once, in full."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from .entry import Entry, Table, are_ints, need


class _Before:
    """One before its state came."""


def _filled(kind: Any, layout: str) -> Entry:
    def fill(_: Any, state: Any) -> Any:
        need(type(state) is dict and are_ints(state.get("_shape"), 0), "not the state of a matrix")
        made = _BY_LAYOUT[layout](kind, state, state["_shape"])
        made.check_format(full_check=True) if hasattr(made, "check_format") else None
        return made

    return Entry(new=_Before, fill=fill, must=True)


def _array(state: dict[str, Any], name: str, ndim: int, kinds: str = "iu") -> Any:
    found = state.get(name)
    need(type(found) is np.ndarray and found.ndim == ndim and found.dtype.kind in kinds, f"its {name} is no array of numbers")
    return found


_NUMBERS = "biufc"


def _compressed(kind: Any, state: dict[str, Any], shape: tuple[int, ...], ndim: int = 1) -> Any:
    parts = _array(state, "data", ndim, _NUMBERS), _array(state, "indices", 1), _array(state, "indptr", 1)
    return kind(parts, shape=shape)


def _coordinates(kind: Any, state: dict[str, Any], shape: tuple[int, ...]) -> Any:
    coords = state.get("coords", (state.get("row"), state.get("col")))
    need(type(coords) is tuple and len(coords) == len(shape), "no coordinates")
    for axis, length in zip(coords, shape):
        need(type(axis) is np.ndarray and axis.ndim == 1 and axis.dtype.kind in "iu", "its coordinates are no integers")
        need(axis.size == 0 or (int(axis.min()) >= 0 and int(axis.max()) < length), "coordinates beyond its shape")
    return kind((_array(state, "data", 1, _NUMBERS), coords), shape=shape)


def _diagonals(kind: Any, state: dict[str, Any], shape: tuple[int, ...]) -> Any:
    return kind((_array(state, "data", 2, _NUMBERS), _array(state, "offsets", 1)), shape=shape)


_BY_LAYOUT: dict[str, Any] = {
    "csr": _compressed,
    "csc": _compressed,
    "bsr": lambda kind, state, shape: _compressed(kind, state, shape, 3),
    "coo": _coordinates,
    "dia": _diagonals,
}

TABLE: Table = {
    (kind.__module__, kind.__name__): _filled(kind, layout)
    for layout in _BY_LAYOUT
    for kind in (getattr(scipy.sparse, f"{layout}_matrix"), getattr(scipy.sparse, f"{layout}_array", None))
    if kind is not None
}
