"""Names of buffers, and where they are cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpu.sync.pieces import (
    COARSE,
    FINE,
    PIECE,
    STEPS,
    WIDTH,
    Known,
    changed,
    cut,
    digest,
    known,
    measure,
    names_of,
    piece_size,
    step_of,
)

rng = np.random.default_rng(7)


def test_a_digest_is_over_the_pieces() -> None:
    data = rng.bytes(5 * PIECE + 3)
    found = measure(data)
    assert found.size == len(data) and len(found.pieces) == 6 * WIDTH and len(found.digest) == WIDTH
    other = bytearray(data)
    other[3 * PIECE] ^= 1
    after = measure(other)
    assert after.digest != found.digest
    assert changed(found, after) == [(3 * PIECE, PIECE)]
    assert digest(memoryview(other)) == after.digest


def test_runs_of_changed_pieces_are_one_range_and_the_last_may_be_short() -> None:
    data = bytearray(rng.bytes(4 * PIECE + 5))
    before = measure(data)
    for at in (PIECE, 2 * PIECE, 4 * PIECE + 1):
        data[at] ^= 1
    assert changed(before, measure(data)) == [(PIECE, 2 * PIECE), (4 * PIECE, 5)]


def test_without_pieces_all_of_it_has_changed() -> None:
    data = rng.bytes(2 * PIECE)
    assert changed(Known(b"x" * WIDTH, len(data)), measure(data)) == [(0, len(data))]


def test_a_buffer_of_digests_is_not_the_buffer_that_has_them() -> None:
    whole = measure(rng.bytes(2 * PIECE))
    assert digest(whole.pieces) != whole.digest


@pytest.mark.parametrize("size", [1, PIECE, 64 << 20, 127 << 20, 128 << 20, 256 << 20, 1 << 30, 40 << 30])
def test_a_piece_is_at_most_a_thousandth_of_what_is_large(size: int) -> None:
    piece = piece_size(size)
    assert PIECE <= piece <= 1 << 20 and (piece == PIECE or piece * 1000 <= size)


def test_what_was_measured_is_not_read_again() -> None:
    data = np.frombuffer(rng.bytes(3 * PIECE), np.uint8).copy()
    found = measure(data)
    data[0] ^= 1  # nobody looks
    assert known(found.digest, data) is found
    assert known(b"another", data).digest == digest(data) != found.digest


@given(st.binary(max_size=300_000), st.sampled_from(STEPS))
@settings(max_examples=30, deadline=None)
def test_pieces_follow_one_another_and_keep_to_their_sizes(data: bytes, step: int) -> None:
    found = cut(data, step)
    assert sum(length for _, length in found) == len(data)
    assert [offset for offset, _ in found[1:]] == [sum(each) for each in found[:-1]]
    assert all(COARSE.smallest <= length <= COARSE.largest for _, length in found[:-1]) and all(
        0 < length <= COARSE.largest for _, length in found
    )


@pytest.mark.parametrize("step", STEPS)
def test_pieces_are_found_again_when_they_have_moved(step: int) -> None:
    data = rng.bytes(4 << 20)
    before = set(names_of(data, cut(data, step)))
    moved = rng.bytes(11 * step) + data
    after = names_of(moved, cut(moved, step))
    assert len(before.intersection(after)) >= len(after) - 3
    mean = len(data) / len(before)
    assert 40 << 10 < mean < 100 << 10


def test_few_different_values_are_cut_too() -> None:
    data = rng.integers(0, 100, 1 << 20).tobytes()
    assert len(cut(data, 8)) > len(data) // COARSE.largest * 2
    assert {length for _, length in cut(bytes(1 << 20), 8)} == {COARSE.largest} or len(cut(bytes(1 << 20), 8)) >= 4


@pytest.mark.parametrize(("old", "new", "step"), [(64, 128, 8), (64, 76, 4), (64, 65, 1), (64, 64, 4), (66, 66, 2), (63, 63, 1)])
def test_content_moves_by_whole_elements(old: int, new: int, step: int) -> None:
    assert step_of(old, new) == step


@pytest.mark.parametrize("sizes", [COARSE, FINE])
def test_how_long_pieces_are(sizes: Any) -> None:
    data = rng.bytes(64 * sizes.largest)
    found = cut(data, 1, sizes)
    assert sum(length for _, length in found) == len(data)
    assert all(sizes.smallest <= length <= sizes.largest for _, length in found[:-1])
    assert 0.7 < len(data) / len(found) / (sizes.smallest + sizes.between) < 1.3
