"""Where the bytes of big buffers are: the same content twice, more than the budget, damage."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from jupyter_gpu.sync import delta
from jupyter_gpu.sync.chunks import INLINE, ChunkStore, Parcel, digest, pack, unpack
from jupyter_gpu.wire.errors import SnapshotRefused
from jupyter_gpu.wire.messages import BufferRef, Snapshot

BIG = INLINE + 1


@dataclass
class Export:
    snapshot: Snapshot
    stream: bytes
    buffers: list[bytes]


def export_of(*buffers: bytes, stream: bytes = b"stream") -> Export:
    refs = [BufferRef(size=len(b), digest=digest(b)) for b in buffers]
    return Export(Snapshot(serial=1, stream=BufferRef(size=len(stream), digest=digest(stream)), buffers=refs), stream, list(buffers))


def send(parcel: Parcel, store: ChunkStore) -> int:
    """What the sender does: ask, send what is missing. Bytes sent as chunks."""
    names = list(parcel.chunks)
    missing = [name for name in names if name not in store]
    for name in missing:
        store.put(name, bytearray(parcel.chunks[name]))
    return sum(len(parcel.chunks[name]) for name in missing)


def arrive(parcel: Parcel, store: ChunkStore) -> tuple[bytes, list[memoryview]]:
    stream, buffers = unpack(parcel.snapshot, [memoryview(b) for b in parcel.inline], store)
    return bytes(stream), buffers


def content(name: str, size: int = BIG) -> bytes:
    return (name.encode() * size)[:size]


def test_small_buffers_travel_inside_and_big_ones_as_chunks() -> None:
    small, big = content("s", INLINE), content("b")
    parcel = pack(export_of(small, big), first=3)
    assert parcel.inline == [b"stream", small] and list(parcel.chunks.values()) == [big]
    assert parcel.snapshot.stream is not None and parcel.snapshot.stream.inline == 3
    assert [ref.inline for ref in parcel.snapshot.buffers] == [4, -1]


def test_equal_big_buffers_are_one_chunk_and_get_memory_of_their_own() -> None:
    store, big = ChunkStore(), content("x")
    parcel = pack(export_of(big, big, big))
    assert send(parcel, store) == BIG
    stream, buffers = arrive(parcel, store)
    assert stream == b"stream" and [bytes(b) for b in buffers] == [big] * 3
    buffers[0][0] = 0
    assert bytes(buffers[1]) == big and bytes(buffers[2]) == big
    assert len(store) == 0 and store.size == 0


def test_snapshot_larger_than_the_budget_is_taken_over() -> None:
    store = ChunkStore(budget=2 * BIG)
    parts = [content(f"{i}.") for i in range(7)]
    parcel = pack(export_of(*parts))
    send(parcel, store)
    _, buffers = arrive(parcel, store)
    assert [bytes(b) for b in buffers] == parts and store.size == 0


def test_what_was_never_used_is_dropped_beyond_the_budget() -> None:
    """A snapshot whose sender went away in the middle leaves chunks: they may not grow for ever."""
    store = ChunkStore(budget=2 * BIG)
    send(pack(export_of(*(content(f"lost{i}") for i in range(5)))), store)
    assert store.size == 5 * BIG
    used = pack(export_of(content("used")))
    send(used, store)
    arrive(used, store)
    assert store.size <= 2 * BIG and store.evicted == 3


def test_keeping_store_is_asked_for_nothing_twice_and_hands_out_copies() -> None:
    store, big = ChunkStore(keep=True), content("kept")
    parcel = pack(export_of(big))
    assert send(parcel, store) == BIG
    _, (first,) = arrive(parcel, store)
    first[0] = 0
    assert send(parcel, store) == 0
    assert bytes(arrive(parcel, store)[1][0]) == big


def test_least_recently_used_goes_first() -> None:
    store = ChunkStore(budget=2 * BIG, keep=True)
    a, b, c = (pack(export_of(content(name))) for name in "abc")
    for parcel in (a, b, a, c):
        send(parcel, store)
        arrive(parcel, store)
    assert [digest(content(name)) in store for name in "abc"] == [True, False, True]


def test_pinned_chunks_are_not_dropped() -> None:
    store = ChunkStore(budget=BIG, keep=True)
    a = pack(export_of(content("a")))
    send(a, store)
    arrive(a, store)
    with store.pinned(a.chunks):
        for name in "bcd":
            other = pack(export_of(content(name)))
            send(other, store)
            arrive(other, store)
        assert digest(content("a")) in store
    assert store.size <= BIG


@pytest.mark.parametrize("way", ["missing", "short", "inline gone", "inline damaged"])
def test_what_is_not_as_announced_is_refused_and_leaves_the_store_as_it_was(way: str) -> None:
    store = ChunkStore()
    parcel = pack(export_of(content("first"), content("second"), b"small"))
    send(parcel, store)
    refs, inline = list(parcel.snapshot.buffers), [memoryview(bytearray(b)) for b in parcel.inline]
    if way == "missing":
        store.discard(refs[1].digest)
    elif way == "short":
        refs[1] = replace(refs[1], size=refs[1].size - 1)
    elif way == "inline gone":
        inline.pop()
    else:
        inline[-1][0] ^= 1
    before = (len(store), store.size)
    with pytest.raises(SnapshotRefused) as caught:
        unpack(replace(parcel.snapshot, buffers=refs), inline, store)
    assert str(caught.value)
    assert (len(store), store.size) == before


def test_damaged_chunk_is_refused() -> None:
    store = ChunkStore()
    with pytest.raises(SnapshotRefused, match="damaged"):
        store.put(digest(b"a"), b"b")
    assert len(store) == 0


def test_same_chunk_twice_counts_once() -> None:
    store, big = ChunkStore(), content("twice")
    store.put(digest(big), big)
    store.put(digest(big), bytearray(big))
    assert len(store) == 1 and store.size == BIG
    assert not store.take(digest(big)).readonly


def test_read_only_bytes_are_copied_to_be_writable() -> None:
    store, big = ChunkStore(), content("bytes")
    store.put(digest(big), big)
    store.take(digest(big))[0] = 0
    assert big == content("bytes")


# ---------------------------------------------------------------- buffers that are told by what changed


def told(store: ChunkStore, old: bytes, new: bytes, large: bool) -> tuple[Snapshot, list[memoryview]]:
    """A snapshot with one buffer, of which a delta travels: inside, or as a chunk."""
    change = delta.encode(old, new, digest(old))
    assert change is not None
    if large:
        store.put(digest(change), bytearray(change))
    carrier = BufferRef(digest(change), len(change), -1 if large else 0)
    return Snapshot(serial=1, buffers=[BufferRef(digest(new), len(new), delta=carrier)]), [] if large else [memoryview(change)]


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_a_buffer_is_made_of_a_copy_or_of_a_live_value(large: bool, kept: bool) -> None:
    store, old = ChunkStore(), content("old")
    new = old + b"new"
    if kept:
        store.copies.keep(digest(old), old)
    snapshot, inline = told(store, old, new, large)
    _, (made,) = unpack(snapshot, inline, store, lambda name: None if kept else memoryview(old))
    assert bytes(made) == new and not made.readonly and len(store) == 0 and store.size == 0


@pytest.mark.parametrize("large", [False, True])
def test_without_its_base_a_delta_is_refused_and_the_store_stays_as_it_was(large: bool) -> None:
    store, old = ChunkStore(), content("old")
    snapshot, inline = told(store, old, old + b"new", large)
    before = (len(store), store.size)
    with pytest.raises(SnapshotRefused) as caught:
        unpack(snapshot, inline, store)
    assert caught.value.reason.startswith(delta.STALE_BYTES) and (len(store), store.size) == before


def test_a_delta_that_is_not_here_is_refused() -> None:
    store, old = ChunkStore(), content("old")
    snapshot, _ = told(store, old, old + b"new", False)
    with pytest.raises(SnapshotRefused, match="buffer 0 of 0"):
        unpack(snapshot, [], store, lambda name: memoryview(old))
