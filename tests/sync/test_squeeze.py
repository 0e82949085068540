"""Compression: what comes out is as large as was said, and it is used where it wins."""

from __future__ import annotations

import os
import resource
import time

import pytest

from jupyter_gpu.sync import squeeze
from jupyter_gpu.sync.bulk import PIECE, Assembler, take
from jupyter_gpu.sync.squeeze import Meter, compress, decompress
from jupyter_gpu.wire.errors import SnapshotRefused
from jupyter_gpu.wire.messages import Chunk

DATA = memoryview(b"all the same, " * 10_000)


def test_there_and_back() -> None:
    packed = compress(DATA)
    assert len(packed) < len(DATA) / 10
    assert decompress(memoryview(packed), len(DATA)) == DATA


@pytest.mark.parametrize("size", [0, 1, len(DATA) - 1, len(DATA) + 1, 1 << 62])
def test_another_size_than_was_said(size: int) -> None:
    with pytest.raises(SnapshotRefused):
        decompress(memoryview(compress(DATA)), size)


@pytest.mark.parametrize("wrong", [b"", b"x", b"\x28\xb5\x2f\xfd", os.urandom(1000), compress(DATA)[:-3], compress(DATA) + b"more"])
def test_what_is_not_compressed_at_all(wrong: bytes) -> None:
    with pytest.raises(SnapshotRefused):
        decompress(memoryview(wrong), len(DATA))


def test_a_bomb_is_not_unpacked() -> None:
    bomb = memoryview(compress(memoryview(bytes(256 << 20))))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SnapshotRefused):
        decompress(bomb, PIECE)
    for length in (256 << 20, 0, -1):
        with pytest.raises(SnapshotRefused):
            take(Assembler(), None, Chunk(digest=b"d" * 16, size=256 << 20, length=length, packed=True), [bomb])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_pieces_of_both_kinds_make_one_chunk() -> None:
    it, whole = Assembler(), bytes(PIECE) + os.urandom(PIECE)
    first = Chunk(digest=b"d" * 16, size=2 * PIECE, length=PIECE, packed=True)
    assert take(it, None, first, [memoryview(compress(memoryview(whole)[:PIECE]))]) is None
    done = take(it, None, Chunk(digest=b"d" * 16, offset=PIECE, size=2 * PIECE), [memoryview(whole)[PIECE:]])
    assert done is not None and bytes(done[1]) == whole


def test_it_pays_where_the_link_is_slow_and_the_data_are_not_noise() -> None:
    meter = Meter()
    assert not meter.pays(DATA), "nothing is known of the link"
    assert not meter.seen(1000, 1e-6) and not meter.rate, "that says more of buffers than of the link"
    assert meter.seen(4 << 20, 4.0) and meter.rate == 1 << 20
    assert meter.pays(DATA) and not meter.pays(os.urandom(200_000))
    assert meter.seen(1 << 40, 1.0) and not meter.pays(DATA)


def test_a_rate_is_not_believed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter()
    meter.seen(4 << 20, 4.0)
    later = time.monotonic() + squeeze._VALID + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert not meter.rate and not meter.pays(DATA)
