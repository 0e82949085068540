from __future__ import annotations

import pickle
import struct
import subprocess
import sys
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpu.wire import codec
from jupyter_gpu.wire.errors import FrameGarbled, FrameTooLarge
from jupyter_gpu.wire.messages import Done, Fetch, Jupyter, PeerAttached

SIZES = st.lists(st.sampled_from([0, 1, 3, 63, 64, 65, 4095, 4096, 4097, 10_000]), max_size=6)


@given(SIZES, st.integers(0, 2**31))
def test_round_trip_joined_and_in_parts(sizes: list[int], number: int) -> None:
    buffers = [bytes([i % 256]) * size for i, size in enumerate(sizes)]
    parts = codec.encode(Fetch(id=number, names=["a", "b"]), buffers)
    joined = b"".join(parts)
    assert codec.size_of(parts) == len(joined)
    recut = [joined[i : i + 7] for i in range(0, len(joined), 7)]
    for payload in (joined, bytearray(joined), memoryview(joined), parts, [joined], recut, [b"", *parts]):
        message, found = codec.decode(payload)
        assert message == Fetch(id=number, names=["a", "b"])
        assert [bytes(buffer) for buffer in found] == buffers


def test_buffers_are_neither_copied_nor_misaligned() -> None:
    big = bytearray(10_000)
    parts = codec.encode(Done(id=1), [b"xyz", big, memoryview(big)[:5000]])
    assert any(isinstance(part, memoryview) and part.obj is not None and len(part) == 10_000 for part in parts)
    _, found = codec.decode(parts)
    found[1][0] = 7
    assert big[0] == 7
    payload = bytearray(b"".join(parts))
    _, found = codec.decode(payload)
    start = {len(view): payload_offset(payload, view) for view in found if len(view) > 100}
    assert start[10_000] % 64 == 0 and start[5000] % 64 == 0
    found[2][1] = 9
    assert payload[start[5000] + 1] == 9


def payload_offset(payload: bytearray, view: memoryview) -> int:
    before = bytes(view[:8])
    view[:8] = b"\xfe\xed" * 4
    at = payload.index(b"\xfe\xed" * 4)
    view[:8] = before
    return at


def test_any_object_with_the_buffer_protocol() -> None:
    import numpy as np

    fortran = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    strided = np.arange(10)[::2]
    things: list[Any] = [
        array("d", [1.0, 2.0]),
        np.arange(5, dtype=">i4"),
        np.zeros((0, 3)),
        np.array(3.5),
        fortran,
        strided,
        pickle.PickleBuffer(b"abc"),
        memoryview(b"abcdef").cast("H"),
        b"",
    ]
    expected = [memoryview(t).tobytes() for t in things]
    expected[4] = fortran.tobytes(order="F")
    _, found = codec.decode(codec.encode(Done(id=1), things))
    assert [bytes(view) for view in found] == expected


def test_a_payload_of_another_item_size_is_taken_as_bytes() -> None:
    payload = b"".join(codec.encode(Jupyter(channel="iopub")))
    padded = payload if len(payload) % 2 == 0 else b"".join(codec.encode(Jupyter(channel="stdin2")))
    assert codec.decode(memoryview(padded).cast("H"))[0] == codec.decode(padded)[0]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00" * 7,
        [],
        struct.pack("<II", 0, 5) + b"\xc0",
        struct.pack("<II", 1, 0),
        struct.pack("<II", 2**32 - 1, 0),
        struct.pack("<II", 0, 2**32 - 1),
        struct.pack("<II", 0, 1) + b"\xc0",
        struct.pack("<II", 0, 1) + b"\xc1",
        b"".join(codec.encode(PeerAttached())) + b"x",
        b"".join(codec.encode(PeerAttached(), [b"abc"]))[:-1],
        struct.pack("<IIQ", 1, 0, 2**63),
        struct.pack("<II", 0, 10_000) + b"\x91" * 10_000,
        b"".join(codec.encode(Done(id=1))).replace(b"Done", b"Dome"),
        b"".join(codec.encode(Jupyter(channel="iopub"))).replace(b"iopub", b"\xff\xff\xff\xff\xff"),
    ],
)
def test_garbage_is_refused(payload: Any) -> None:
    with pytest.raises(FrameGarbled):
        codec.decode(payload)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_fuzz(data: bytes) -> None:
    for payload in (data, struct.pack("<II", 0, len(data)) + data, [data[:9], data[9:]]):
        try:
            codec.decode(payload)
        except FrameGarbled:
            pass


@settings(max_examples=300)
@given(st.data())
def test_fuzz_by_changing_a_good_one(data: st.DataObject) -> None:
    payload = bytearray(b"".join(codec.encode(Fetch(id=7, names=["abc"]), [b"12345", b"x" * 5000])))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, 60))] = data.draw(st.integers(0, 255))
    try:
        codec.decode(payload)
    except FrameGarbled:
        pass


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_BODY", 40)
    monkeypatch.setattr(codec, "MAX_BUFFERS", 2)
    with pytest.raises(FrameTooLarge):
        codec.encode(Fetch(id=1, names=["x" * 50]))
    with pytest.raises(FrameTooLarge):
        codec.encode(Done(id=1), [b"", b"", b""])
    codec.encode(Done(id=1), [b"", b""])


def test_parts_that_were_cut_elsewhere_are_joined() -> None:
    joined = b"".join(codec.encode(Done(id=1), [b"abc", b"defg"]))
    for cut in range(len(joined) + 1):
        message, found = codec.decode([joined[:cut], joined[cut:]])
        assert message == Done(id=1) and found == [b"abc", b"defg"]


def test_the_beginning_of_a_payload_tells_where_its_buffer_goes() -> None:
    for size in (0, 1, 4095, 4096, 70_000):
        payload = b"".join(codec.encode(Fetch(id=9, names=["n"]), [bytes(size)]))
        found = codec.peek(payload[:200], len(payload))
        assert found is not None
        message, ends, begins = found
        assert message == Fetch(id=9, names=["n"]) and begins == len(payload) - size and 0 <= begins - ends < 64
        assert codec.decode([payload[:ends], *([payload[ends:begins]] if ends < begins else []), payload[begins:]])[1][0] == bytes(size)
        assert codec.peek(payload[: ends - 1], len(payload)) is None, "too short to tell"
        assert codec.peek(payload[:12], len(payload)) is None
        assert codec.peek(payload[:200], len(payload) + 1) is None, "of another size"


def test_the_beginning_of_something_else() -> None:
    for buffers in ([], [b"a", b"b"]):
        payload = b"".join(codec.encode(Fetch(id=9, names=["n"]), buffers))
        assert codec.peek(payload, len(payload)) is None
    garbled = struct.pack("<IIQ", 1, 3, 5) + b"\xc1\xc1\xc1" + bytes(5)
    with pytest.raises(FrameGarbled):
        codec.peek(garbled, len(garbled))
    assert codec.peek(struct.pack("<IIQ", 1, 2**32 - 1, 2**64 - 1), 2**63) is None


def test_garbage_with_views_of_views_does_not_crash_the_process() -> None:
    """CPython's collector breaks a memoryview of which a PickleBuffer holds the memory."""
    code = """if True:
        import gc
        from jupyter_gpu.wire import codec
        from jupyter_gpu.wire.messages import Done
        for n in range(50):
            view = memoryview(bytearray(100_000))[n:]
            cycle = []
            cycle.append((cycle, codec.encode(Done(id=1), [view])))
            del cycle, view
            gc.collect()
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
