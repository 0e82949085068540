"""A change, told: what it costs, and what a damaged one does."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpu.sync import rebuild
from jupyter_gpu.sync.delta import STALE, STALE_BYTES, apply, encode, encode_from_pieces, encode_parts, encode_same_size
from jupyter_gpu.sync.pieces import PIECE, cut, digest, measure, names_of
from jupyter_gpu.wire.errors import SnapshotRefused

rng = np.random.default_rng(11)
Array = Any
X = rng.random(1 << 20)


def raw(array: Array) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def lookup_in(*buffers: bytes) -> Callable[[bytes], memoryview | None]:
    held = {digest(b): memoryview(b) for b in buffers}
    return held.get


def share(old: Array, new: Array) -> float:
    """Bytes of the delta as a share of the new ones; the result is compared."""
    before, after = raw(old), raw(new)
    told = encode(before, after, digest(before))
    assert told is not None
    made = apply(told, lookup_in(before), len(after), digest(after))
    assert bytes(made) == after and not made.readonly
    return len(told) / len(after)


def edited(array: Array, count: int) -> Array:
    other = array.copy()
    flat = other.reshape(-1)
    flat[rng.choice(flat.size, count, replace=False)] = rng.random(count) * 100
    return other


@pytest.mark.parametrize(
    ("old", "new", "most"),
    [
        pytest.param(X, edited(X, 1), 0.001, id="one element"),
        pytest.param(X, edited(X, len(X) // 1000), 0.005, id="0.1% at random"),
        pytest.param(X.astype(np.float32), edited(X.astype(np.float32), len(X) // 1000), 0.005, id="0.1% of float32"),
        pytest.param((X * 200).astype(np.uint8), edited((X * 200).astype(np.uint8), len(X) // 1000), 0.005, id="0.1% of bytes"),
        pytest.param(X, np.concatenate([X, rng.random(len(X) // 100)]), 0.011, id="appended"),
        pytest.param(X, np.concatenate([rng.random(100), X]), 0.003, id="prepended"),
        pytest.param(X, np.concatenate([edited(X[:1000], 1), rng.random(5), X[1000:], rng.random(5)]), 0.003, id="put in and edited"),
        pytest.param(X, X[: len(X) // 2], 0.001, id="cut off"),
        pytest.param(X, np.delete(X, [5, 500_000]), 0.003, id="two taken out"),
        pytest.param(X, np.roll(X, 1000), 0.003, id="rolled"),
        pytest.param(X.reshape(8, -1), np.concatenate([X.reshape(8, -1), rng.random((8, 1000))], axis=1), 0.012, id="a block of a frame"),
        pytest.param(X, X, 0.001, id="the same"),
        pytest.param(X, np.where(np.arange(len(X)) < len(X) // 100, 1.0, X), 0.0102, id="1% in one run"),
        pytest.param(X[:20_000], X[1:19_999], 0.001, id="small"),
    ],
)
def test_costs_about_what_changed(old: Array, new: Array, most: float) -> None:
    assert share(old, new) <= most


def test_bytes_may_move_by_one() -> None:
    text = " ".join(str(n) for n in range(300_000)).encode()
    told = encode(text, b"x" + text[:1000] + b"yy" + text[1000:], digest(text))
    assert told is not None and len(told) < 200_000


@pytest.mark.parametrize("size", [1 << 20, 5 << 20])
def test_what_has_nothing_in_common_is_not_told(size: int) -> None:
    one, other = rng.bytes(size * 4), rng.bytes(size * 4)
    assert encode(one, other, digest(one)) is None and encode(one, other[:-8], digest(one)) is None


def test_by_fixed_pieces() -> None:
    old = bytearray(rng.bytes(20 * PIECE + 100))
    new = bytearray(old)
    new[5 * PIECE + 7] ^= 1
    new[-1] ^= 1
    told = encode_same_size(measure(old), measure(new), new)
    assert told is not None and len(told) < PIECE + 300
    assert bytes(apply(told, lookup_in(bytes(old)), len(new), digest(new))) == bytes(new)
    assert encode_same_size(measure(bytes(len(old))), measure(new), new) is None


def test_by_pieces_that_the_receiver_has() -> None:
    old = raw(X)
    new = raw(np.concatenate([rng.random(50), X]))
    pieces = cut(new, 8)
    have = set(names_of(old, cut(old, 8)))
    lacking = {i for i, name in enumerate(names_of(new, pieces)) if name not in have}
    told = encode_from_pieces(digest(old), 8, new, pieces, lacking)
    assert told is not None and len(told) < 0.03 * len(new)
    assert bytes(apply(told, lookup_in(old), len(new), digest(new))) == new
    assert encode_from_pieces(digest(old), 8, new, pieces, set(range(len(pieces)))) is None


def test_a_buffer_of_parts_has_a_base_for_each() -> None:
    a, b = rng.bytes(PIECE), rng.bytes(PIECE)
    parts = [(memoryview(b"head"), None, b""), (memoryview(b + b"!"), memoryview(b), digest(b)), (memoryview(a), memoryview(a), digest(a))]
    told = encode_parts(parts)
    assert told is not None and len(told) < 200
    whole = b"head" + b + b"!" + a
    assert bytes(apply(told, lookup_in(a, b), len(whole), digest(whole))) == whole


# ---------------------------------------------------------------- what is not as announced

OLD = rng.bytes(3 * PIECE)
NEW = OLD[:PIECE] + b"put in" + OLD[PIECE : 2 * PIECE] + bytes(100) + OLD[2 * PIECE :]
TOLD = encode(OLD, NEW, digest(OLD)) or b""
SCATTERED = bytearray(OLD)
SCATTERED[::4096] = bytes(len(SCATTERED[::4096]))
PATCHED = encode(OLD, bytes(SCATTERED), digest(OLD)) or b""


def test_without_the_base_it_asks_for_the_whole() -> None:
    with pytest.raises(SnapshotRefused) as caught:
        apply(TOLD, lambda name: None, len(NEW), digest(NEW))
    assert caught.value.reason.startswith(STALE) and caught.value.reason.startswith(STALE_BYTES)


def test_a_wrong_base_shows_in_the_digest() -> None:
    with pytest.raises(SnapshotRefused) as caught:
        apply(TOLD, lambda name: memoryview(bytes(len(OLD))), len(NEW), digest(NEW))
    assert caught.value.reason.startswith(STALE)


def test_a_base_that_has_shrunk_is_not_read_beyond_its_end() -> None:
    with pytest.raises(SnapshotRefused):
        apply(TOLD, lambda name: memoryview(OLD)[:-1], len(NEW), digest(NEW))


@given(st.sampled_from([TOLD, PATCHED]), st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_stream_is_refused(told: bytes, data: st.DataObject) -> None:
    broken = bytearray(told)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(broken) - 1))
        how = data.draw(st.sampled_from(["change", "cut", "put in"]))
        if how == "change":
            broken[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del broken[at : at + data.draw(st.integers(1, 20))]
        else:
            broken[at:at] = data.draw(st.binary(max_size=20))
        if not broken:
            break
    wanted = NEW if told is TOLD else bytes(SCATTERED)
    try:
        made = apply(bytes(broken), lookup_in(OLD), len(wanted), digest(wanted))
    except SnapshotRefused as error:
        assert error.reason.startswith(STALE)
    else:
        assert bytes(made) == wanted


@given(st.binary(max_size=200), st.integers(0, 1000))
@settings(max_examples=300, deadline=None)
def test_noise_is_refused(noise: bytes, size: int) -> None:
    head = bytes([1, 1]) + digest(OLD)
    for stream in (noise, head + noise):
        try:
            made = apply(stream, lookup_in(OLD), size, digest(b"something else"))
        except SnapshotRefused as error:
            assert error.reason.startswith(STALE)
        else:
            raise AssertionError(bytes(made))


def test_nothing_is_allocated_for_a_stream_that_tells_another_size() -> None:
    many = bytes([1, 1]) + digest(OLD) + struct.pack("<BBQQ", 0, 0, 0, len(OLD)) * 1000
    tracemalloc.start()
    try:
        for size in (len(OLD), 1 << 62):
            with pytest.raises(SnapshotRefused):
                apply(many, lookup_in(OLD), size, digest(OLD))
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("gap", [2**63 - 1, 2**64 - 1, 10**6])
def test_gaps_that_lead_far_away_are_refused(gap: int) -> None:
    told = bytes([1, 1]) + digest(OLD) + struct.pack("<BBQQBBQ", 2, 0, 0, len(OLD), 8, 8, 2) + struct.pack("<QQQQ", gap, gap, 1, 1)
    with pytest.raises(SnapshotRefused):
        apply(told, lookup_in(OLD), len(OLD), digest(OLD))


def test_memory_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(size: int) -> memoryview:
        raise MemoryError

    monkeypatch.setattr(rebuild, "_empty", none_left)
    with pytest.raises(SnapshotRefused, match="no memory"):
        apply(TOLD, lookup_in(OLD), len(NEW), digest(NEW))
