"""Large chunks on their way: cut into pieces that fit into a frame of the link, and put together where they stay.

The pieces of a chunk come one behind the other (the link keeps their order), so that one number tells what is there. A sender that
was interrupted begins anew with another chunk, or with the same one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from ..wire.codec import flat
from ..wire.errors import SnapshotRefused
from ..wire.lanes import pages
from ..wire.messages import Chunk
from .squeeze import decompress

#: Bytes of a piece. With what is said about it, it fits into one frame of the link, and a slot of a ring.
PIECE = (1 << 20) - (4 << 10)


def split(digest: bytes, data: Any) -> Iterator[tuple[Chunk, memoryview]]:
    """Messages for a chunk, each with its bytes, which are views of ``data`` (any contiguous buffer)."""
    view = memoryview(flat(data))
    if len(view) <= PIECE:
        yield Chunk(digest=digest), view
        return
    for offset in range(0, len(view), PIECE):
        yield Chunk(digest=digest, offset=offset, size=len(view)), view[offset : offset + PIECE]


class Assembler:
    """Puts pieces together. ``limit``: most bytes of a chunk (default: the memory of this machine)."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = _memory() if limit is None else limit
        self._digest = b""
        self._pages: memoryview | None = None
        self._filled = 0
        self._lent = -1  #: where the memory begins that ``place`` gave for the next piece

    def place(self, message: Chunk, size: int) -> memoryview:
        """The memory where the ``size`` bytes of the next piece stay: what is received into it is not copied by ``take``. Raises
        ``SnapshotRefused``."""
        into = self._next(message, size)
        self._lent = message.offset
        return into

    def take(self, message: Chunk, data: memoryview) -> tuple[bytes, memoryview] | None:
        """Digest and bytes of a chunk that is complete with this piece; a chunk that came whole is given as it is. Raises
        ``SnapshotRefused`` for a piece that is out of its place; what was there of its chunk is dropped then."""
        if message.size < 0:
            return message.digest, data
        into = self._next(message, len(data))
        if self._lent != message.offset or data.obj is not into.obj:
            into[:] = data
        self._filled += len(data)
        self._lent = -1
        if self._filled < message.size:
            return None
        assert self._pages is not None
        done = self._pages
        self.drop()
        return message.digest, done

    def drop(self) -> None:
        """Forget what is not complete."""
        self._pages, self._digest, self._filled, self._lent = None, b"", 0, -1

    def _next(self, message: Chunk, size: int) -> memoryview:
        offset, whole = message.offset, message.size
        if not offset and self._lent < 0:
            self.drop()
        if not 0 < size <= PIECE or not 0 <= offset <= whole - size:
            raise self._refused(f"bytes {offset} to {offset + size} of a chunk of {whole}")
        if self._pages is None:
            if offset:
                raise self._refused("a chunk came without its beginning")
            self._pages, self._digest = self._allocate(whole), message.digest
        if offset != self._filled or whole != len(self._pages) or message.digest != self._digest:
            raise self._refused("a piece of a chunk came out of its place")
        return self._pages[offset : offset + size]

    def _allocate(self, whole: int) -> memoryview:
        try:
            if whole <= self._limit:
                return pages(whole)
        except (OSError, OverflowError, MemoryError):
            pass
        raise self._refused(f"a chunk of {whole:,} bytes, for which there is no room")

    def _refused(self, reason: str) -> SnapshotRefused:
        self.drop()
        return SnapshotRefused(reason=reason)


class Slots(Protocol):
    """Of shared memory (``transport.ring``)."""

    def read(self, slot: int, size: int) -> memoryview: ...
    def free(self) -> None: ...


def take(assembler: Assembler, slots: Slots | None, message: Chunk, buffers: Sequence[memoryview]) -> tuple[bytes, memoryview] | None:
    """``Assembler.take`` for a message as it came, its bytes in a buffer or in shared memory."""
    if message.packed:
        if not 0 < message.length <= PIECE:
            raise SnapshotRefused(reason=f"a compressed piece of {message.length} bytes")
        return assembler.take(message, decompress(body(buffers), message.length))
    if message.slot < 0:
        return assembler.take(message, body(buffers))
    if slots is None or message.size < 0:
        raise SnapshotRefused(reason="a piece of a chunk is said to be in shared memory, of which there is none")
    data = slots.read(message.slot, message.length)
    try:
        return assembler.take(message, data)
    finally:
        slots.free()


def body(buffers: Sequence[memoryview]) -> memoryview:
    """The only buffer of a ``Chunk``. Raises ``SnapshotRefused``."""
    if len(buffers) != 1:
        raise SnapshotRefused(reason=f"a chunk with {len(buffers)} buffers")
    return buffers[0]


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return 1 << 40
