"""Where the bytes of big buffers are: what travels inside a message, what apart from it, and what not at all.

A buffer of more than ``INLINE`` bytes is a chunk, named by its digest (xxh3, 128 bits: it tells change within a session; a cache
that users share must name chunks by BLAKE3). The sender asks for what the peer lacks, and sends only that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import xxhash
from msgspec.structs import replace

from ..wire.codec import BytesLike
from ..wire.errors import SnapshotRefused
from ..wire.messages import BufferRef, Snapshot

#: Bytes up to which a buffer travels inside the message that carries its snapshot.
INLINE = 64 << 10
#: Bytes of chunks that one end keeps.
BUDGET = 512 << 20


def digest(buffer: BytesLike) -> bytes:
    """16 bytes that name the content of ``buffer``."""
    return xxhash.xxh3_128_digest(buffer)


class Parts(Protocol):
    """What ``pack`` needs of an export."""

    @property
    def snapshot(self) -> Snapshot: ...
    @property
    def stream(self) -> bytes: ...
    @property
    def buffers(self) -> Sequence[memoryview]: ...


@dataclass
class Parcel:
    """A snapshot ready to be sent. ``inline`` go with the message, ``chunks`` before it, if the peer lacks them."""

    snapshot: Snapshot
    inline: list[BytesLike] = field(default_factory=list)
    chunks: dict[bytes, BytesLike] = field(default_factory=dict)

    @property
    def inline_size(self) -> int:
        return sum(map(len, self.inline))


def pack(export: Parts, first: int = 0) -> Parcel:
    """Split the buffers of an export (``.snapshot``, ``.stream``, ``.buffers``) into inline ones and chunks. ``first``: how many
    buffers the carrying message has already."""
    inline: list[BytesLike] = []
    chunks: dict[bytes, BytesLike] = {}

    def place(ref: BufferRef, data: BytesLike) -> BufferRef:
        if ref.size <= INLINE:
            inline.append(data)
            return replace(ref, inline=first + len(inline) - 1)
        chunks[ref.digest] = data
        return replace(ref, inline=-1)

    snapshot = export.snapshot
    stream = None if snapshot.stream is None else place(snapshot.stream, export.stream)
    buffers = [place(ref, data) for ref, data in zip(snapshot.buffers, export.buffers)]
    return Parcel(replace(snapshot, stream=stream, buffers=buffers), inline, chunks)


def unpack(snapshot: Snapshot, buffers: Sequence[memoryview], store: ChunkStore) -> tuple[memoryview, list[memoryview]]:
    """The pickle stream and its buffers, all of them WRITABLE memory that nobody else uses: what is laid over a buffer may be
    changed in place. Raises ``SnapshotRefused`` for a chunk that is not there, or bytes that are not what was announced."""

    def find(ref: BufferRef) -> memoryview:
        if ref.inline >= 0:
            if ref.inline >= len(buffers):
                raise SnapshotRefused(reason=f"it refers to buffer {ref.inline} of {len(buffers)}")
            data = memoryview(bytearray(buffers[ref.inline]))
        else:
            data = store.take(ref.digest)
        if len(data) != ref.size:
            raise SnapshotRefused(reason=f"a buffer of {ref.size} bytes came with {len(data)}")
        return data

    stream = memoryview(b"") if snapshot.stream is None else find(snapshot.stream)
    return stream, [find(ref) for ref in snapshot.buffers]


class ChunkStore:
    """Chunks by digest, the least recently used dropped beyond ``budget`` bytes.

    The store never keeps memory that it has handed out: an array laid over a chunk may change it. ``take`` gives the received
    bytes themselves the first time, without a copy, and remembers nothing but what ``keep`` told it to.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = budget
        self.size = 0
        self._chunks: OrderedDict[bytes, memoryview] = OrderedDict()

    def __contains__(self, name: bytes) -> bool:
        return name in self._chunks

    def __len__(self) -> int:
        return len(self._chunks)

    def missing(self, digests: Iterable[bytes]) -> list[int]:
        """Positions of the digests that are not here."""
        return [i for i, name in enumerate(digests) if name not in self._chunks]

    def put(self, name: bytes, data: BytesLike) -> None:
        """Keep received bytes; raises ``SnapshotRefused`` if they are not what their name says."""
        if digest(data) != name:
            raise SnapshotRefused(reason="a chunk arrived damaged: its bytes are not what its digest says")
        self.discard(name)
        self._chunks[name] = memoryview(data)
        self.size += len(data)
        while self.size > self.budget and len(self._chunks) > 1:
            self.discard(next(iter(self._chunks)))

    def discard(self, name: bytes) -> None:
        if (old := self._chunks.pop(name, None)) is not None:
            self.size -= len(old)

    def take(self, name: bytes) -> memoryview:
        """Writable bytes of a chunk, which leaves the store. Raises ``SnapshotRefused`` if it is not here."""
        if name not in self._chunks:
            raise SnapshotRefused(reason="a chunk that it refers to is not here")
        data = self._chunks[name]
        self.discard(name)
        return memoryview(bytearray(data)) if data.readonly else data
