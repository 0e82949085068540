"""Large chunks over a link that is slow, cut short, or ends."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from jupyter_gpu.client import Gateway, Session
from jupyter_gpu.sync.bulk import Assembler, take
from jupyter_gpu.wire.codec import decode, encode
from jupyter_gpu.wire.errors import JupyterGpuError, SessionLost
from jupyter_gpu.wire.link import Lane
from jupyter_gpu.wire.messages import Chunk, Fetch, Wanted

pytestmark = pytest.mark.timeout(60)
MIB = 1 << 20
CPU = [Wanted(type="CPU")]


def until(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)


class Slow:
    """The kernel's end of a session, which takes ``rate`` bytes a second, and not more than one payload before ``gate`` is set."""

    def __init__(self, client: Gateway, beside: object, rate: float = 0) -> None:
        self.session: Session = client.open("slow", CPU)
        worker = next(w for w in beside.workers if w.session_id == self.session.info.session_id)  # type: ignore[attr-defined]
        self.rate = rate
        self.pieces: list[Chunk] = []
        self.whole: list[tuple[bytes, bytes]] = []
        self.wire = 0  #: bytes that came
        self.gate = asyncio.Event()
        self.gate.set()
        self.loop = beside.loop  # type: ignore[attr-defined]
        self._assembler = Assembler()
        worker.driver._on_payload = self._taken

    def _taken(self, lane: Lane, payload: memoryview) -> Awaitable[None]:
        message, buffers = decode(payload)
        self.wire += len(payload)
        if isinstance(message, Chunk):
            self.pieces.append(message)
            if (whole := take(self._assembler, None, message, buffers)) is not None:
                self.whole.append((whole[0], bytes(whole[1])))
        return self._wait(len(payload))

    async def _wait(self, size: int) -> None:
        await self.gate.wait()
        if self.rate:
            await asyncio.sleep(size / self.rate)


@pytest.fixture
def slow(client: Gateway, beside: object) -> Iterator[Slow]:
    found = Slow(client, beside)
    yield found
    found.session.close()


def test_how_far_it_is_is_told(slow: Slow) -> None:
    slow.rate = 20 * MIB
    data = os.urandom(30 * MIB)
    told: list[int] = []
    slow.session.on_progress = told.append
    slow.session.send(Chunk(digest=b"d" * 16), [data])
    assert len(told) >= 3 and told == sorted(told) and told[0] < told[-1] <= len(data)
    until(lambda: slow.whole == [(b"d" * 16, data)], "all of it arrives")


@pytest.mark.parametrize("kind", ["zeros", "noise"])
def test_compression_where_it_wins(slow: Slow, kind: str) -> None:
    slow.rate = 30 * MIB
    data = bytes(40 * MIB) if kind == "zeros" else os.urandom(40 * MIB)
    slow.session.send(Chunk(digest=b"a" * 16), [data])
    slow.session.send(Chunk(digest=b"b" * 16), [data])
    until(lambda: [name for name, _ in slow.whole] == [b"a" * 16, b"b" * 16], "both arrive", 20)
    assert all(found == data for _, found in slow.whole)
    packed = [piece.packed for piece in slow.pieces]
    if kind == "zeros":
        assert slow.wire < len(data) / 2, "what the second one costs is next to nothing"
        assert not packed[0] and packed[-1]
    else:
        assert not any(packed)


def test_no_compression_on_a_fast_link(slow: Slow) -> None:
    data = os.urandom(MIB) * 16
    for _ in range(4):
        slow.session.send(Chunk(digest=b"d" * 16), [data])
    until(lambda: len(slow.whole) == 4, "all arrive")
    assert not any(piece.packed for piece in slow.pieces)


def test_an_interrupt_leaves_nothing_half_done(slow: Slow) -> None:
    slow.loop.call_soon_threadsafe(slow.gate.clear)

    def interrupted(arrived: int) -> None:
        slow.loop.call_soon_threadsafe(slow.gate.set)
        raise KeyboardInterrupt

    slow.session.on_progress = interrupted
    first, second = os.urandom(60 * MIB), os.urandom(5 * MIB)
    with pytest.raises(KeyboardInterrupt):
        slow.session.send(Chunk(digest=b"a" * 16), [first])
    slow.session.on_progress = None
    slow.session.send(Chunk(digest=b"b" * 16), [second])
    until(lambda: bool(slow.whole), "the next one arrives whole")
    assert slow.whole == [(b"b" * 16, second)]


def test_a_sender_that_waits_ends_with_its_session(slow: Slow) -> None:
    slow.loop.call_soon_threadsafe(slow.gate.clear)
    ending = threading.Timer(0.3, slow.session.kill)
    ending.start()
    with pytest.raises(JupyterGpuError):
        slow.session.send(Chunk(digest=b"a" * 16), [bytes(60 * MIB)])
    with pytest.raises(SessionLost):
        slow.session.send(Fetch(id=1, names=[]))
    ending.join()
    slow.loop.call_soon_threadsafe(slow.gate.set)


def test_what_is_out_of_its_place_costs_no_session(client: Gateway, beside: object, caplog: pytest.LogCaptureFixture) -> None:
    session = client.open("odd", CPU)
    worker = next(w for w in beside.workers if w.session_id == session.info.session_id)  # type: ignore[attr-defined]
    heard: list[object] = []
    session.listener = lambda message, buffers: heard.append(message)
    for piece in (
        Chunk(digest=b"d" * 16, offset=5, size=10),
        Chunk(digest=b"d" * 16, size=1 << 50),
        Chunk(digest=b"d" * 16, size=9, slot=0, length=9),
    ):
        beside.loop.call_soon_threadsafe(worker.driver.send, encode(piece, [] if piece.slot == 0 else [b"x"]))  # type: ignore[attr-defined]
    worker.tell(Fetch(id=7, names=[]))
    until(lambda: heard == [Fetch(id=7, names=[])], "what comes after them")
    assert len([r for r in caplog.records if "chunk" in r.message]) == 3
    session.close()
