"""The table of contents of a snapshot's stream, which is made of one pickle or more.

    stream    u32 size of the table | table | pickles, one after the other
    table     for each pickle: u64 names | u64 buffers | u64 base | u64 length

Little-endian. Memo indices of different pickles are told apart by ``base``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from ..wire.codec import BytesLike

_ROW = struct.Struct("<4Q")


class Segment(NamedTuple):
    """One pickle: how many names and buffers are its, and how long it is in bytes."""

    names: int
    buffers: int
    base: int
    length: int


def written(segments: Iterable[Segment]) -> bytes:
    table = b"".join([_ROW.pack(*each) for each in segments])
    return len(table).to_bytes(4, "little") + table


def read(stream: BytesLike) -> tuple[list[Segment], int]:
    """The segments, and where the first pickle begins. Raises ``ValueError`` for what is no table."""
    view = memoryview(stream)
    start = 4 + int.from_bytes(view[:4], "little")
    if view.nbytes < start or (start - 4) % _ROW.size:
        raise ValueError("its table of contents is damaged")
    return [Segment(*row) for row in _ROW.iter_unpack(view[4:start])], start
