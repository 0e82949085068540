"""Chunks from the kernel: by shared memory while there is room, else by the link, and never wrong."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_gpu_worker.chunks import Receiving, Sending
from jupyter_gpu_worker.pipe import Critical

from jupyter_gpu.sync.bulk import PIECE, Assembler, split, take
from jupyter_gpu.transport import ring
from jupyter_gpu.wire.codec import decode, encode
from jupyter_gpu.wire.messages import Chunk, Fetch


class FakePipe:
    """Keeps what is sent; ``slow``: called each time, to take time."""

    def __init__(self) -> None:
        self.critical = Critical()
        self.sent: list[bytes] = []
        self.each: Any = lambda: None
        self.placed: Any = None

    def send(self, parts: Any) -> None:
        self.sent.append(b"".join(parts))
        self.each()

    def place(self, place: Any) -> None:
        self.placed = place


@pytest.fixture
def kernel() -> Iterator[Any]:
    made = ring.make()
    assert made is not None
    kernel, offer = made
    yield SimpleNamespace(pipe=FakePipe(), ring=kernel, offer=offer, log=logging.getLogger("test"))
    os.close(kernel.fd)


def received(kernel: Any, client: ring.Ring | None) -> tuple[list[tuple[bytes, bytes]], list[Chunk]]:
    it, whole, pieces = Assembler(), [], []
    for payload in kernel.pipe.sent:
        message, buffers = decode(payload)
        assert isinstance(message, Chunk)
        pieces.append(message)
        if (done := take(it, client, message, buffers)) is not None:
            whole.append((done[0], bytes(done[1])))
    kernel.pipe.sent.clear()
    return whole, pieces


def test_by_the_link_where_no_client_has_joined(kernel: Any) -> None:
    data = os.urandom(3 * PIECE)
    Sending(kernel).send(b"d" * 16, data)
    whole, pieces = received(kernel, None)
    assert whole == [(b"d" * 16, data)] and all(piece.slot < 0 for piece in pieces)


def test_a_client_that_takes_nothing_out_is_no_deadlock(kernel: Any) -> None:
    client = ring.join(kernel.offer)
    data = os.urandom((ring.SLOTS + 5) * PIECE)
    sending = Sending(kernel)
    sending.send(b"a" * 16, data)
    sending.send(b"b" * 16, data[: 2 * PIECE])
    whole, pieces = received(kernel, client)
    assert whole == [(b"a" * 16, data), (b"b" * 16, data[: 2 * PIECE])]
    assert [piece.slot for piece in pieces] == [*range(ring.SLOTS), *[-1] * 7]
    sending.send(b"c" * 16, data[: 2 * PIECE])
    assert [piece.slot for piece in received(kernel, client)[1]] == [ring.SLOTS, ring.SLOTS + 1], "there is room again"


def test_an_interrupt_between_pieces_leaves_no_slot_untold(kernel: Any) -> None:
    client = ring.join(kernel.offer)
    sending, count = Sending(kernel), 0

    def interrupt() -> None:
        nonlocal count
        count += 1
        if count == 3:
            kernel.pipe.critical.on_leave = raising

    def raising() -> None:
        kernel.pipe.critical.on_leave = None
        raise KeyboardInterrupt

    kernel.pipe.each = interrupt
    with pytest.raises(KeyboardInterrupt):
        sending.send(b"a" * 16, bytes(10 * PIECE))
    data = os.urandom(4 * PIECE)
    sending.send(b"b" * 16, data)
    whole, pieces = received(kernel, client)
    assert whole == [(b"b" * 16, data)] and [piece.slot for piece in pieces] == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("kind", ["zeros", "noise"])
def test_compression_where_the_agent_makes_the_kernel_wait(kernel: Any, kind: str) -> None:
    kernel.pipe.each = lambda: time.sleep(0.02)
    data = bytes(12 * PIECE) if kind == "zeros" else os.urandom(12 * PIECE)
    sending = Sending(kernel)
    sending.send(b"a" * 16, data)
    whole, pieces = received(kernel, None)
    assert whole == [(b"a" * 16, data)]
    assert not pieces[0].packed and pieces[-1].packed is (kind == "zeros")
    sending.send(b"b" * 16, data)
    assert received(kernel, None)[1][0].packed is (kind == "zeros"), "it is known by now"


def test_small_chunks_go_as_they_are(kernel: Any) -> None:
    ring.join(kernel.offer)
    Sending(kernel).send(b"d" * 16, b"small")
    assert [(m, bytes(b[0])) for m, b in map(decode, kernel.pipe.sent)] == [(Chunk(digest=b"d" * 16), b"small")]


def test_where_pieces_stay_is_told_and_what_is_none_of_them_is_not(kernel: Any) -> None:
    receiving = Receiving(kernel)
    data = os.urandom(2 * PIECE)
    for piece, part in split(b"d" * 16, data):
        payload = b"".join(encode(piece, [part]))
        ends, begins, memory = kernel.pipe.placed(memoryview(payload)[:500], len(payload))
        memory[:] = payload[begins:]
        parts = [memoryview(part) for part in (payload[:ends], payload[ends:begins]) if part]
        found = receiving.take([*parts, memory])
    assert found is not None and found[0] == Chunk(digest=b"d" * 16) and bytes(found[1][0]) == data
    for message in (Chunk(digest=b"d" * 16), Chunk(digest=b"d" * 16, offset=7, size=9 * PIECE), Fetch(id=1, names=[])):
        payload = b"".join(encode(message, [bytes(PIECE)]))
        assert kernel.pipe.placed(memoryview(payload)[:500], len(payload)) is None
    assert kernel.pipe.placed(memoryview(b"\x01\0\0\0\x01\0\0\0" + bytes(8) + b"\xc1"), 17) is None
