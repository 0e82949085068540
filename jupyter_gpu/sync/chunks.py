"""Where the bytes of big buffers are: what travels inside a message, what apart from it, and what not at all.

A buffer of more than ``INLINE`` bytes is a chunk, named by its digest (xxh3, 128 bits: it tells change within a session; what
sessions share is named by BLAKE3, see ``jupyter_gpu_worker.shared``). Where both ends had an older one, it travels as a delta
(``lineage``, ``delta``).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from ..wire.codec import BytesLike
from ..wire.errors import SnapshotRefused
from ..wire.messages import BufferRef, Snapshot
from . import delta, pages
from .copies import Copies
from .lineage import Ask, Lineage
from .pieces import digest

__all__ = ["BUDGET", "INLINE", "ChunkStore", "Parcel", "Parts", "digest", "pack", "unpack"]

#: Bytes up to which a buffer travels inside the message that carries its snapshot.
INLINE = 64 << 10
#: Bytes of chunks that one end keeps.
BUDGET = 512 << 20


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
    """A snapshot ready to be sent. ``inline`` go with the message, ``chunks`` before it, but for those that are ``left_out``: the peer
    has them from somebody else."""

    snapshot: Snapshot
    inline: list[BytesLike] = field(default_factory=list)
    chunks: dict[bytes, BytesLike] = field(default_factory=dict)
    whole: list[bytes] = field(default_factory=list)  #: names of those chunks that are buffers as they are, and no deltas
    left_out: int = 0  #: bytes

    def leave_out(self, name: bytes) -> None:
        self.left_out += len(self.chunks.pop(name))

    @property
    def inline_size(self) -> int:
        return sum(map(len, self.inline))


def pack(export: Parts, first: int = 0, lineage: Lineage | None = None, ask: Ask | None = None) -> Parcel:
    """Split the buffers of an export (``.snapshot``, ``.stream``, ``.buffers``) into inline ones and chunks. ``first``: how many
    buffers the carrying message has already. Buffers of the same content are one chunk. ``lineage``: what the peer had of them
    before; ``ask``: see ``Lineage.deltas``."""
    inline: list[BytesLike] = []
    chunks: dict[bytes, BytesLike] = {}
    deltas = {} if lineage is None else lineage.deltas(export.snapshot, export.stream, export.buffers, ask)

    def carry(ref: BufferRef, data: BytesLike) -> BufferRef:
        if ref.size <= INLINE:
            inline.append(data)
            return replace(ref, inline=first + len(inline) - 1)
        chunks[ref.digest] = data
        return replace(ref, inline=-1)

    def place(ref: BufferRef, data: BytesLike) -> BufferRef:
        told = deltas.get(ref.digest)
        return carry(ref, data) if told is None else replace(ref, inline=-1, delta=carry(BufferRef(digest(told), len(told)), told))

    snapshot = export.snapshot
    stream = None if snapshot.stream is None else place(snapshot.stream, export.stream)
    buffers = [place(ref, data) for ref, data in zip(snapshot.buffers, export.buffers)]
    whole = [ref.digest for ref in buffers if ref.inline < 0 and ref.delta is None]
    return Parcel(replace(snapshot, stream=stream, buffers=buffers), inline, chunks, list(dict.fromkeys(whole)))


def unpack(
    snapshot: Snapshot, buffers: Sequence[memoryview], store: ChunkStore, live: delta.Lookup | None = None
) -> tuple[memoryview, list[memoryview]]:
    """The pickle stream and its buffers, all of them WRITABLE memory that nobody else uses: what is laid over a buffer may be
    changed in place. ``live`` finds the bytes that a delta copies from, where the store has no copy of them. Raises
    ``SnapshotRefused`` for a chunk that is not there, or bytes that are not what was announced; the store is then as it was."""
    refs = [*([] if snapshot.stream is None else [snapshot.stream]), *snapshot.buffers]
    carriers = [ref.delta or ref for ref in refs]
    for ref in carriers:
        _verify(ref, buffers, store)
    left = Counter(ref.digest for ref in carriers if ref.inline < 0)
    made = {i: _told(ref, ref.delta, buffers, store, live) for i, ref in enumerate(refs) if ref.delta is not None}

    def find(ref: BufferRef) -> memoryview:
        if ref.inline >= 0:
            return memoryview(bytearray(buffers[ref.inline]))
        left[ref.digest] -= 1
        # Two arrays of the same content are one chunk: each gets memory of its own, and the last of them the chunk itself.
        return store.get(ref.digest) if left[ref.digest] else store.take(ref.digest)

    with store.pinned(left):
        found = [made[i] if i in made else find(ref) for i, ref in enumerate(carriers)]
        for ref in (ref for i, ref in enumerate(carriers) if i in made and ref.inline < 0):
            store.discard(ref.digest)
    store.settle()
    stream, found = (memoryview(b""), found) if snapshot.stream is None else (found[0], found[1:])
    for ref, data in zip(snapshot.buffers, found):
        pages.pages.arrived(data, ref.digest)  # before anybody can write to it
    return stream, found


def _told(ref: BufferRef, told: BufferRef, buffers: Sequence[memoryview], store: ChunkStore, live: delta.Lookup | None) -> memoryview:
    """The buffer that a delta makes."""

    def lookup(name: bytes) -> memoryview | None:
        found = store.copies.find(name)
        return found if found is not None or live is None else live(name)

    stream = buffers[told.inline] if told.inline >= 0 else store.peek(told.digest)
    return delta.apply(stream, lookup, ref.size, ref.digest)


def _verify(ref: BufferRef, buffers: Sequence[memoryview], store: ChunkStore) -> None:
    """Before anything leaves the store. The bytes of a chunk were compared with its digest when they arrived."""
    if ref.inline >= len(buffers):
        raise SnapshotRefused(reason=f"it refers to buffer {ref.inline} of {len(buffers)}")
    if ref.inline < 0 and ref.digest not in store:
        raise SnapshotRefused(reason=f"a chunk of {ref.size} bytes that it refers to is not here")
    size = len(buffers[ref.inline]) if ref.inline >= 0 else store.size_of(ref.digest)
    if size != ref.size:
        raise SnapshotRefused(reason=f"a buffer of {ref.size} bytes came with {size}")
    if ref.inline >= 0 and digest(buffers[ref.inline]) != ref.digest:
        raise SnapshotRefused(reason=f"a buffer of {ref.size} bytes arrived damaged: they are not what its digest says")


class ChunkStore:
    """Chunks by digest, the least recently used dropped beyond ``budget`` bytes.

    What has arrived and waits for its snapshot does not count against the budget: it is not a cache, and a snapshot that is larger
    than the budget must be taken over all the same. Memory that was handed out is never kept: an array laid over a chunk may change
    it. So ``take`` gives the received bytes themselves, without a copy, and forgets them, unless ``keep`` is set: then it gives a
    copy, as ``get`` always does, and the bytes stay for the next time. ``copies`` are kept of what both ends have agreed on.
    """

    def __init__(self, budget: int = BUDGET, *, keep: bool = False, copies: Copies | None = None) -> None:
        self.copies = Copies() if copies is None else copies
        self.budget = budget
        self.keep = keep
        self.size = 0  #: bytes of all that is here
        self.hits = 0  #: chunks found, by ``get`` and ``take``
        self.evicted = 0
        self._chunks: OrderedDict[bytes, memoryview] = OrderedDict()
        self._waiting: dict[bytes, int] = {}  #: arrived, not yet used -> bytes
        self._pins: Counter[bytes] = Counter()

    def __contains__(self, name: bytes) -> bool:
        return name in self._chunks

    def __len__(self) -> int:
        return len(self._chunks)

    def put(self, name: bytes, data: BytesLike) -> None:
        """Keep received bytes until they are taken; raises ``SnapshotRefused`` if they are not what their name says."""
        if digest(data) != name:
            raise SnapshotRefused(reason="a chunk arrived damaged: its bytes are not what its digest says")
        self.discard(name)
        self._chunks[name] = memoryview(data)
        self._waiting[name] = len(data)
        self.size += len(data)
        self._evict()

    def get(self, name: bytes) -> memoryview:
        """A writable copy of a chunk, which stays. Raises ``SnapshotRefused`` if it is not here."""
        return memoryview(bytearray(self._find(name)))

    def take(self, name: bytes) -> memoryview:
        """Writable bytes of a chunk, which leaves the store (``keep``: a copy, and it stays). Raises ``SnapshotRefused`` if it is not
        here."""
        if self.keep:
            return self.get(name)
        data = self._find(name)
        self.discard(name)
        return memoryview(bytearray(data)) if data.readonly else data

    def peek(self, name: bytes) -> memoryview:
        """The bytes of a chunk, which stays, and which nobody may change. Raises ``SnapshotRefused`` if it is not here."""
        return self._find(name)

    def size_of(self, name: bytes) -> int:
        """Bytes of a chunk that is here."""
        return len(self._chunks[name])

    def discard(self, name: bytes) -> None:
        if (old := self._chunks.pop(name, None)) is not None:
            self.size -= len(old)
            self._waiting.pop(name, None)

    @contextmanager
    def pinned(self, digests: Iterable[bytes]) -> Iterator[None]:
        """While these are in use nothing drops them to make room."""
        names = list(digests)
        self._pins.update(names)
        try:
            yield
        finally:
            self._pins -= Counter(names)
            self._evict()

    def settle(self) -> None:
        """A snapshot was unpacked: chunks that it did not refer to belong to one that will not come, and count from here on."""
        self._waiting.clear()
        self._evict()

    def _find(self, name: bytes) -> memoryview:
        if name not in self._chunks:
            raise SnapshotRefused(reason="a chunk that it refers to is not here")
        self.hits += 1
        self._chunks.move_to_end(name)
        return self._chunks[name]

    def _evict(self) -> None:
        excess = self.size - sum(self._waiting.values()) - self.budget
        for name in list(self._chunks) if excess > 0 else ():
            if excess <= 0:
                return
            if name in self._waiting or name in self._pins:
                continue
            excess -= self.size_of(name)
            self.discard(name)
            self.evicted += 1
