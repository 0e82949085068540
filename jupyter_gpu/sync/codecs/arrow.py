"""pyarrow: its own pickles are out of band and copy nothing; but a slice of something large would bring all of it along."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .base import Route

if TYPE_CHECKING:
    from ..pickler import Pickler

#: Bytes that may come along with a slice.
_SPARE = 1 << 16

_NAMES = """
_restore_array _reconstruct_table _reconstruct_record_batch chunked_array schema field scalar py_buffer type_for_alias timestamp duration
time32 time64 list_ large_list struct dictionary decimal128 decimal256 map_ binary
"""
trusted = frozenset(f"pyarrow.lib:{name}" for name in _NAMES.split())


def route_of(kind: type, pickler: Pickler) -> Route | None:
    lib = sys.modules["pyarrow.lib"]
    return _reduce_slice if issubclass(kind, (lib.Array, lib.ChunkedArray, lib.RecordBatch, lib.Table)) else None


def _reduce_slice(_: Pickler, data: Any) -> Any:
    """Of a small part, a copy; ``NotImplemented`` otherwise."""
    try:
        large = data.get_total_buffer_size() > 2 * data.nbytes + _SPARE
    except (AttributeError, NotImplementedError, ValueError, TypeError):
        return NotImplemented  # an array of an extension, or of a kind that cannot count itself
    if not large:
        return NotImplemented
    import pyarrow as pa

    own = data.take(pa.array(range(len(data)), pa.int64()))
    if own.get_total_buffer_size() > 2 * data.nbytes + _SPARE:
        return NotImplemented
    return own.__reduce_ex__(5)
