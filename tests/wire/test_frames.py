from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_gpu.wire import frames
from jupyter_gpu.wire.errors import FrameGarbled
from jupyter_gpu.wire.frames import FIRST, LAST, Ack, Data, Lane, Resume

NUMBER = st.integers(0, 2**64 - 1)
SEEN = st.tuples(NUMBER, NUMBER)


@given(st.integers(1, 2**64 - 1), NUMBER, SEEN, st.booleans())
def test_resume(epoch: int, peer: int, seen: tuple[int, int], ask: bool) -> None:
    assert frames.parse(frames.resume(epoch, peer, seen, ask)) == Resume(epoch, peer, seen, ask)


@given(SEEN)
def test_ack(seen: tuple[int, int]) -> None:
    assert frames.parse(frames.ack(seen)) == Ack(seen)


@given(st.sampled_from(Lane), NUMBER, SEEN, st.sampled_from([0, FIRST, LAST, FIRST | LAST]), NUMBER, st.binary())
def test_data(lane: Lane, number: int, seen: tuple[int, int], flags: int, total: int, chunk: bytes) -> None:
    header = frames.data_header(lane, number, seen, flags, total)
    assert len(header) <= frames.MAX_HEADER
    found = frames.parse(bytearray(header + chunk))
    assert found == Data(lane, number, seen, flags, total if flags == FIRST else 0, memoryview(chunk))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00",
        b"\xff" * 60,
        b"\x10",
        b"\x11" + b"\x00" * 17,
        b"\x20" + b"\x00" * 23,
        frames.data_header(Lane.DATA, 1, (0, 0), FIRST, 5)[:-1],
        frames.resume(1, 0, (0, 0), False)[:-1] + b"\x02",
        b"\x10\x02" + frames.resume(1, 0, (0, 0), False)[2:],
        frames.resume(0, 0, (0, 0), False),
        frames.ack((1, 2)) + b"x",
    ],
)
def test_garbage(frame: bytes) -> None:
    with pytest.raises(FrameGarbled):
        frames.parse(frame)


@given(st.binary(max_size=80))
def test_fuzz(frame: bytes) -> None:
    try:
        frames.parse(frame)
    except FrameGarbled:
        pass
