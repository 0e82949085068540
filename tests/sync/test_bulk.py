"""Chunks in pieces: whatever comes, the bytes are whole, or it is refused and nothing is kept of it."""

from __future__ import annotations

import os
import resource

import pytest

from jupyter_gpu.sync.bulk import PIECE, Assembler, body, split
from jupyter_gpu.sync.chunks import digest
from jupyter_gpu.wire.codec import encode, size_of
from jupyter_gpu.wire.errors import SnapshotRefused
from jupyter_gpu.wire.messages import Chunk

BIG = os.urandom(2 * PIECE + 12_345)


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, len(BIG)])
def test_pieces_are_put_together(size: int) -> None:
    data = BIG[:size]
    pieces = list(split(digest(data), data))
    assert len(pieces) == max(1, -(-size // PIECE))
    assert all(size_of(encode(piece, [part])) <= 1 << 20 for piece, part in pieces), "each fits into one frame of the link"
    it = Assembler()
    found = [it.take(piece, part) for piece, part in pieces]
    assert found[:-1] == [None] * (len(pieces) - 1)
    assert found[-1] is not None and found[-1][0] == digest(data) and bytes(found[-1][1]) == data


def test_any_contiguous_buffer_is_split_without_a_copy() -> None:
    import numpy as np

    array = np.arange(PIECE, dtype=np.float64).reshape(2, -1).T  # in Fortran's order
    parts = [part for _, part in split(b"d" * 16, array)]
    assert sum(map(len, parts)) == array.nbytes
    parts[0][:8] = bytes(8)
    assert array[0, 0] == 0


def test_what_is_received_into_its_place_is_not_copied() -> None:
    it = Assembler()
    done = None
    for piece, part in split(b"d" * 16, BIG):
        place = it.place(piece, len(part))
        place[:] = part
        before = bytes(place)
        done = it.take(piece, place)
        assert bytes(place) == before
    assert done is not None and bytes(done[1]) == BIG and not done[1].readonly


def test_a_place_that_was_not_filled_is_given_again() -> None:
    """The connection was cut in the middle of a piece, which comes again."""
    it = Assembler()
    for piece, part in split(b"d" * 16, BIG):
        it.place(piece, len(part))[:10] = b"half of it"
        found = it.take(piece, part)
    assert found is not None and bytes(found[1]) == BIG


def test_a_sender_that_was_interrupted_begins_anew() -> None:
    it = Assembler()
    (first, part), *_ = split(b"a" * 16, BIG)
    for _ in range(3):
        assert it.take(first, part) is None
    found = [it.take(*each) for each in split(b"b" * 16, BIG)]
    assert found[-1] is not None and found[-1][0] == b"b" * 16


def piece(offset: int, size: int, name: bytes = b"d" * 16) -> Chunk:
    return Chunk(digest=name, offset=offset, size=size)


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (piece(0, 2 * PIECE), PIECE + 1),
        (piece(0, 2 * PIECE), 0),
        (piece(PIECE, 2 * PIECE), PIECE),
        (piece(-1, 100), 10),
        (piece(0, 100), 101),
        (piece(1 << 62, 1 << 63), 10),
        (piece(0, 1 << 40), 10),
        (piece(0, (1 << 63) - 1), 10),
    ],
)
def test_a_first_piece_that_is_refused(message: Chunk, size: int) -> None:
    it = Assembler(limit=1 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SnapshotRefused):
        it.take(message, memoryview(bytes(size)))
    with pytest.raises(SnapshotRefused):
        it.place(message, size)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert it.take(piece(0, 3), memoryview(b"abc")) is not None


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (piece(PIECE - 1, len(BIG)), PIECE),  # overlaps
        (piece(PIECE + 1, len(BIG)), 100),  # leaves a hole
        (piece(2 * PIECE, len(BIG)), 100),
        (piece(PIECE, len(BIG) + 1), PIECE),  # of another size
        (piece(PIECE, len(BIG), b"e" * 16), PIECE),  # of another chunk
        (piece(PIECE, len(BIG)), PIECE + 1),
    ],
)
def test_a_later_piece_that_is_refused_and_drops_what_was_there(message: Chunk, size: int) -> None:
    it = Assembler()
    pieces = list(split(b"d" * 16, BIG))
    assert it.take(*pieces[0]) is None
    with pytest.raises(SnapshotRefused):
        it.take(message, memoryview(bytes(size)))
    with pytest.raises(SnapshotRefused):
        it.take(*pieces[1])
    assert [it.take(*each) for each in pieces][-1] is not None


def test_a_chunk_has_one_buffer() -> None:
    assert body([memoryview(b"x")]) == b"x"
    for wrong in ([], [memoryview(b"x")] * 2):
        with pytest.raises(SnapshotRefused):
            body(wrong)
