"""pandas: what shares memory only until somebody writes gets memory of its own, and views of columns go on being views."""

from __future__ import annotations

import copyreg
import sys
from typing import TYPE_CHECKING, Any

from .base import Route

if TYPE_CHECKING:
    from ..pickler import Pickler

_BY_OBJECT: Any = object.__reduce_ex__
#: Bytes that the buffers of an Arrow array may have beyond its values.
_SLACK = 4096

trusted = frozenset(
    {
        "pandas:DataFrame",
        "pandas:Series",
        "pandas:Index",
        "pandas:RangeIndex",
        "pandas._libs.internals:_unpickle_block",
        "pandas.core.internals.managers:BlockManager",
        "pandas.core.internals.managers:SingleBlockManager",
        "pandas.core.indexes.base:_new_Index",
    }
)


def route_of(kind: type, pickler: Pickler) -> Route | None:
    blocks = sys.modules.get("pandas._libs.internals")
    if blocks is not None and issubclass(kind, blocks.Block):
        return _reduce_block
    arrow = sys.modules.get("pandas.core.arrays.arrow.array")
    if arrow is not None and issubclass(kind, arrow.ArrowExtensionArray) and kind.__getstate__ is arrow.ArrowExtensionArray.__getstate__:
        return _reduce_arrow_column
    managers = sys.modules.get("pandas.core.internals.managers")
    if managers is not None and issubclass(kind, managers.SingleBlockManager):
        return _reduce_single_manager
    return None


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
