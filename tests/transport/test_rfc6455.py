"""Frames: cut anywhere, of any size, as the ``websockets`` library writes and reads them; and what is refused."""

from __future__ import annotations

import os
import random

import pytest
from websockets.frames import Frame, Opcode

from jupyter_gpu.transport.buffers import Pool
from jupyter_gpu.transport.rfc6455 import BINARY, CLOSE, LARGE, PING, PONG, TEXT, Event, Reader, Unreadable, frame

LIMIT = 1 << 20


def reader(masked: bool = False, limit: int = LIMIT) -> Reader:
    return Reader(Pool(limit, 4), limit=limit, masked=masked)


def fed(it: Reader, data: bytes, pieces: random.Random | None = None) -> list[Event]:
    events = []
    while data:
        target = it.target()
        count = min(len(target), len(data), pieces.choice([1, 2, 9, 100, 5000, 70_000, 1 << 20]) if pieces else len(data))
        target[:count] = data[:count]
        events += it.filled(count)
        data = data[count:]
    return events


def plain(events: list[Event]) -> list[tuple[int, bytes | str]]:
    return [(kind, data if isinstance(data, str) else bytes(data)) for kind, data in events]


SIZES = [0, 1, 125, 126, 127, 65535, 65536, LARGE - 1, LARGE, LARGE + 1, 200_000, LIMIT]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_whatever_websockets_writes_is_read_however_it_is_cut(masked: bool, seed: int) -> None:
    dice = random.Random(seed)
    stream, expected = b"", []
    for _ in range(40):
        kind = dice.choice([BINARY, BINARY, BINARY, TEXT, PING, PONG, CLOSE])
        size = dice.choice([s for s in SIZES if kind < CLOSE or s <= 125])
        data = b"x" * size if kind == TEXT else dice.randbytes(size)
        expected.append((kind, data.decode() if kind == TEXT else data))
        if kind < CLOSE and dice.random() < 0.3:  # in fragments, with a ping in between
            at = dice.randrange(size + 1)
            stream += Frame(Opcode(kind), data[:at], fin=False).serialize(mask=masked)
            stream += Frame(Opcode.PING, b"?").serialize(mask=masked)
            stream += Frame(Opcode.CONT, data[at:]).serialize(mask=masked)
            expected.insert(-1, (PING, b"?"))
        else:
            stream += Frame(Opcode(kind), data).serialize(mask=masked)
    it = reader(masked)
    assert plain(fed(it, stream, dice)) == expected
    assert it.error is None


@pytest.mark.parametrize("mask", [None, bytes(4), b"\x01\x80\xff\x07"])
@pytest.mark.parametrize("size", SIZES)
def test_what_is_written_is_read(mask: bytes | None, size: int) -> None:
    data = os.urandom(size)
    parts = frame(BINARY, [data[: size // 2], memoryview(data)[size // 2 :]], mask)
    assert plain(fed(reader(mask is not None), b"".join(parts))) == [(BINARY, data)]
    if mask is None or not any(mask):
        assert sum(map(len, parts[1:])) == size and len(parts) == 3, "what is sent is the memory of the sender"


def test_what_is_large_is_memory_of_the_receivers_own() -> None:
    it = reader()
    first, second = (fed(it, b"".join(frame(BINARY, [letter * LIMIT], None)))[0].data for letter in (b"a", b"b"))
    assert isinstance(first, memoryview) and not first.readonly
    first[:] = b"c" * LIMIT
    assert bytes(second) == b"b" * LIMIT


@pytest.mark.parametrize(
    ("data", "masked", "error"),
    [
        (b"\xc2\x00", False, Unreadable(1002, "reserved bits are set")),
        (b"\x83\x00", False, Unreadable(1002, "opcode 0x3")),
        (b"\x82\x81\x00\x00\x00\x00a", False, Unreadable(1002, "a frame with a mask")),
        (b"\x82\x01a", True, Unreadable(1002, "a frame without a mask")),
        (b"\x09\x00", False, Unreadable(1002, "a control frame that is long, or in parts")),
        (b"\x89\x7e\x00\x80" + bytes(128), False, Unreadable(1002, "a control frame that is long, or in parts")),
        (b"\x80\x00", False, Unreadable(1002, "a frame out of place in its message")),
        (b"\x02\x01a\x82\x01b", False, Unreadable(1002, "a frame out of place in its message")),
        (
            b"\x82\x7f\x00\x00\x01\x00\x00\x00\x00\x00",
            False,
            Unreadable(1009, f"a message of {1 << 40} bytes exceeds limit of {LIMIT} bytes"),
        ),
        (b"\x82\x7f" + b"\xff" * 8, False, Unreadable(1009, f"a message of {(1 << 64) - 1} bytes exceeds limit of {LIMIT} bytes")),
        (b"\x81\x01\xff", False, Unreadable(1007, "text that is not UTF-8")),
    ],
)
def test_what_is_refused(data: bytes, masked: bool, error: Unreadable) -> None:
    good = b"".join(frame(BINARY, [b"good"], bytes(4) if masked else None))
    it = reader(masked)
    events = fed(it, good + data + b"anything" * 20_000)
    assert plain(events)[0] == (BINARY, b"good") and len(events) == 1
    assert it.error == error
    assert len(it.target()) > 0, "it can be read on, so that the peer hears why"


def test_fragments_do_not_get_round_the_limit() -> None:
    it = reader(limit=100_000)
    piece = Frame(Opcode.BINARY, bytes(60_000), fin=False).serialize(mask=False)
    fed(it, piece + Frame(Opcode.CONT, bytes(60_000)).serialize(mask=False))
    assert it.error is not None and it.error.code == 1009


def test_noise_is_survived() -> None:
    for seed in range(300):
        dice = random.Random(seed)
        it = reader(dice.random() < 0.5)
        fed(it, dice.randbytes(dice.choice([3, 50, 100_000])), dice)
        assert len(it.target()) > 0
