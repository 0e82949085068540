from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from misbehaving_relay import TOKEN, Relay, answer, relaying, say

from jupyter_gpu.transport.connection import Connection
from jupyter_gpu.transport.dial import dial
from jupyter_gpu.transport.driver import LinkDriver
from jupyter_gpu.transport.envelope import notice
from jupyter_gpu.wire.errors import (
    FrameGarbled,
    GatewayUnreachable,
    LinkBroken,
    SessionLost,
    SessionNotFound,
    TokenRefused,
    WorkerDied,
)
from jupyter_gpu.wire.link import Lane, Link
from jupyter_gpu.wire.messages import Activity, AnyMessage, PeerAttached, SessionEnded

pytestmark = pytest.mark.timeout(50)


class End:
    """A driver with everything that it said."""

    def __init__(self, relay: Relay, name: str, link: Link | None = None, **options: Any) -> None:
        self.got: list[tuple[Lane, bytes | memoryview]] = []
        self.states: list[str] = []
        self.notices: list[AnyMessage] = []
        self.details: list[str] = []
        self.on_payload: Callable[[Lane, memoryview], Awaitable[None] | None] = lambda lane, payload: None
        self.news = asyncio.Event()
        self.relay = relay
        self.name = name
        options = {"backoff": (0.002, 0.02), "session": f"s-{name}", **options}
        self.driver = LinkDriver(self.dial, link or Link(), self.taken, self.notices.append, self.stated, **options)
        self.task = asyncio.ensure_future(self.driver.run())

    async def dial(self) -> Connection:
        return await dial(self.relay.url, f"/v1/{self.name}", TOKEN)

    def taken(self, lane: Lane, payload: memoryview) -> Awaitable[None] | None:
        self.got.append((lane, bytes(payload) if len(payload) < 1000 else payload))
        self.news.set()
        return self.on_payload(lane, payload)

    def stated(self, state: str, detail: str) -> None:
        self.states.append(state)
        self.details.append(detail)
        self.news.set()

    async def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Raises what ends the driver."""

        async def wait() -> None:
            while not condition():
                if self.task.done():
                    self.task.result()
                self.news.clear()
                waiting = asyncio.ensure_future(self.news.wait())
                await asyncio.wait([waiting, self.task], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()

        await asyncio.wait_for(wait(), seconds)

    @property
    def attached(self) -> bool:
        return [state for state in self.states if state in ("attached", "detached", "dropped")][-1:] == ["attached"]

    async def end(self) -> None:
        await self.driver.close()
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await self.task


@contextlib.asynccontextmanager
async def two_ends(
    a_options: dict[str, Any] | None = None, b_options: dict[str, Any] | None = None, **relay_options: Any
) -> AsyncIterator[tuple[Relay, End, End]]:
    async with relaying(**relay_options) as relay:
        a, b = End(relay, "a", **(a_options or {})), End(relay, "b", **(b_options or {}))
        try:
            await a.until(lambda: a.attached)
            await b.until(lambda: b.attached)
            yield relay, a, b
        finally:
            await a.end()
            await b.end()


def test_both_ways_and_in_order() -> None:
    async def main() -> None:
        async with two_ends() as (_, a, b):
            for i in range(200):
                a.driver.send([b"%d" % i], Lane.DATA)
                b.driver.send([b"back %d" % i], Lane.DATA)
            a.driver.send([b"now"], Lane.CONTROL)
            await b.until(lambda: len(b.got) == 201)
            await a.until(lambda: len(a.got) == 200)
            assert [payload for lane, payload in b.got if lane is Lane.DATA] == [b"%d" % i for i in range(200)]
            assert [payload for _, payload in a.got] == [b"back %d" % i for i in range(200)]
            await a.driver.drain(0)
            assert a.driver.link.backlog == 0
            assert a.states[:3] == ["connecting", "connected", "attached"]
            assert PeerAttached() in a.notices
        assert a.states[-1] == "ended" and a.task.result() is None

    asyncio.run(main())


def test_what_is_sent_before_there_is_a_connection_arrives(tmp_path: Path) -> None:
    async def main() -> None:
        async with relaying(unix=str(tmp_path / "s")) as relay:
            a = End(relay, "a")
            a.driver.send([b"early"])
            assert not a.driver.notify(Activity(busy=True))
            b = End(relay, "b")
            await b.until(lambda: b.got == [(Lane.DATA, b"early")])
            await a.end()
            await b.end()

    asyncio.run(main())


def test_notices_to_the_gateway() -> None:
    async def main() -> None:
        async with two_ends() as (relay, a, _):
            seen: asyncio.Future[tuple[str, bytes]] = asyncio.get_running_loop().create_future()
            relay.on_message = lambda path, data: None if seen.done() else seen.set_result((path, data))
            assert a.driver.notify(Activity(busy=True))
            assert await seen == ("/v1/a", notice(Activity(busy=True)))

    asyncio.run(main())


def test_fifty_cuts_lose_nothing() -> None:
    dice = random.Random(7)

    async def main() -> None:
        async with two_ends({"link": Link(max_frame=500, window=4000)}, {"link": Link(max_frame=500, window=4000)}) as (relay, a, b):
            sent: dict[str, list[bytes]] = {"a": [], "b": []}
            cuts = 0
            number = 0
            while cuts < 50:
                for end in (a, b):
                    for _ in range(dice.randrange(6)):
                        number += 1
                        payload = b"%d " % number + bytes(dice.randrange(900))
                        sent[end.name].append(payload)
                        end.driver.send([payload])
                aim = relay.forwarded + dice.randrange(12)
                for _ in range(dice.randrange(1, 40)):
                    if relay.forwarded >= aim:
                        break
                    await asyncio.sleep(0.0005)
                cuts += relay.cut(dice.choice(["/v1/a", "/v1/b"]))
            await b.until(lambda: len(b.got) >= len(sent["a"]))
            await a.until(lambda: len(a.got) >= len(sent["b"]))
            assert [payload for _, payload in b.got] == sent["a"]
            assert [payload for _, payload in a.got] == sent["b"]
            assert a.states.count("dropped") + b.states.count("dropped") >= 25
            await asyncio.wait_for(a.driver.drain(0), 5)
            await asyncio.wait_for(b.driver.drain(0), 5)

    asyncio.run(main())


def test_a_gateway_that_is_started_again() -> None:
    async def main() -> None:
        async with two_ends() as (relay, a, b):
            a.driver.send([b"one"])
            await b.until(lambda: len(b.got) == 1)
            relay.server.close()
            await relay.server.wait_closed()
            a.driver.send([b"two"])
            await a.until(lambda: "dropped" in a.states)
            async with relaying(port=relay.port):
                await b.until(lambda: len(b.got) == 2)
                assert b.got[1] == (Lane.DATA, b"two")
                await asyncio.wait_for(a.driver.drain(0), 5)

    asyncio.run(main())


def test_64_mib_with_control_in_between() -> None:
    big = memoryview(random.Random(1).randbytes(1 << 20) * 64)

    async def main() -> None:
        async with two_ends() as (_, a, b):
            started = time.perf_counter()
            a.driver.send([b"head", big])
            a.driver.send([b"interrupt"], Lane.CONTROL)
            await b.until(lambda: len(b.got) == 2)
            seconds = time.perf_counter() - started
            assert b.got[0] == (Lane.CONTROL, b"interrupt")
            payload = b.got[1][1]
            assert payload[:4] == b"head" and payload[4:] == big
            print(f"64 MiB through two hops in {seconds:.3f} s, {64 / 1024 / seconds:.2f} GiB/s")

    asyncio.run(main())


def test_a_slow_reader_stops_the_sender_and_lets_control_pass() -> None:
    async def main() -> None:
        small: dict[str, Any] = {"max_frame": 1000, "window": 10_000}
        async with two_ends({"link": Link(**small), "high_water": 20_000}, {"link": Link(**small)}) as (relay, a, b):
            open_again = asyncio.Event()

            async def slow() -> None:
                await open_again.wait()

            b.on_payload = lambda lane, payload: slow() if lane is Lane.DATA else None
            for i in range(100):
                a.driver.send([b"%3d" % i + bytes(997)])
            a.driver.send([b"stop"], Lane.CONTROL)
            await b.until(lambda: (Lane.CONTROL, b"stop") in b.got)
            await asyncio.sleep(0.05)  # time to do wrong
            assert relay.forwarded < 40
            assert len(b.got) == 2
            assert a.driver.link.backlog > 80_000
            draining = asyncio.ensure_future(a.driver.drain())
            assert not (await asyncio.wait([draining], timeout=0.02))[0]
            open_again.set()
            await asyncio.wait_for(draining, 10)
            await b.until(lambda: len(b.got) == 101)
            assert [bytes(payload[:3]) for lane, payload in b.got if lane is Lane.DATA] == [b"%3d" % i for i in range(100)]

    asyncio.run(main())


def test_a_socket_that_is_not_read_does_not_fill_the_memory() -> None:
    async def main() -> None:
        async with two_ends() as (relay, a, b):
            relay.readable.clear()
            for _ in range(100):
                a.driver.send([bytes(1 << 20)])
            await asyncio.sleep(0.1)  # time to do wrong
            connection = a.driver._connection
            assert connection is not None
            assert connection.pending < 3 << 20
            relay.readable.set()
            await b.until(lambda: len(b.got) == 100)

    asyncio.run(main())


@pytest.mark.parametrize("garbage", [b"\x07what", b"\x01\x99", b"\x00\xc1", "text", b"\x01" + bytes(1 << 21)])
def test_garbage_on_the_socket_is_survived_once(garbage: bytes | str) -> None:
    async def main() -> None:
        async with two_ends() as (relay, a, b):
            await say(relay.ends["/v1/a"], garbage)
            await a.until(lambda: "dropped" in a.states)
            b.driver.send([b"still here"])
            await a.until(lambda: a.got == [(Lane.DATA, b"still here")])

    asyncio.run(main())


def test_nothing_but_garbage_is_an_error() -> None:
    async def main() -> None:
        async with relaying() as relay:

            async def babble(connection: Any) -> None:
                await say(connection, b"\x07what")
                await connection.wait_closed()

            relay.instead = babble
            a = End(relay, "a")
            with pytest.raises(FrameGarbled):
                await asyncio.wait_for(a.task, 10)
            assert len(relay.requests) == 5
            with pytest.raises(FrameGarbled):
                await a.driver.drain(0)
            with pytest.raises(LinkBroken):
                a.driver.send([b"x"])

    asyncio.run(main())


def test_the_first_attempt_tells_at_once() -> None:
    async def main() -> None:
        async with relaying() as relay:
            pass
        a = End(relay, "a")
        with pytest.raises(GatewayUnreachable):
            await a.task
        assert a.states == ["connecting", "ended"]
        assert "nothing listens" in a.details[-1]

    asyncio.run(main())


def test_giving_up() -> None:
    async def main() -> None:
        async with two_ends({"give_up": 0.1}) as (relay, a, b):
            await b.end()
            relay.server.close()
            with pytest.raises(SessionLost, match="nothing listens there") as caught:
                await asyncio.wait_for(a.task, 10)
            assert caught.value.session == "s-a"
            with pytest.raises(SessionLost):
                await a.driver.drain()

    asyncio.run(main())


def test_connections_that_are_closed_at_once_are_given_up_too() -> None:
    async def main() -> None:
        async with relaying() as relay:

            async def close(connection: Any) -> None:
                await connection.close()

            relay.instead = close
            a = End(relay, "a", give_up=0.1)
            with pytest.raises(SessionLost, match="closed at once"):
                await asyncio.wait_for(a.task, 10)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "error"),
    [(HTTPStatus.UNAUTHORIZED, TokenRefused), (HTTPStatus.NOT_FOUND, SessionNotFound)],
)
def test_a_refusal_while_redialing_is_final(status: HTTPStatus, error: type[Exception]) -> None:
    async def main() -> None:
        async with two_ends() as (relay, a, _):
            a.name = "sessions/s-1/link"
            relay.refuse = lambda request: answer(status) if "s-1" in request.path else None
            relay.cut("/v1/a")
            with pytest.raises(error):
                await asyncio.wait_for(a.task, 10)

    asyncio.run(main())


def test_the_session_ends() -> None:
    async def main() -> None:
        async with two_ends() as (relay, a, _):
            await say(relay.ends["/v1/a"], notice(SessionEnded(error=WorkerDied(exit=-9).to_record())))
            with pytest.raises(WorkerDied):
                await asyncio.wait_for(a.task, 10)
            assert isinstance(a.notices[-1], SessionEnded)

    asyncio.run(main())


def test_a_peer_that_lost_its_state() -> None:
    async def main() -> None:
        async with two_ends() as (relay, a, b):
            await b.end()
            await a.until(lambda: not a.attached)
            reborn = End(relay, "b")
            with pytest.raises(LinkBroken):
                await asyncio.wait_for(asyncio.gather(a.task, reborn.task), 10)
            await reborn.end()

    asyncio.run(main())


@pytest.mark.parametrize("slowly", [False, True])
def test_what_a_callback_raises_ends_the_driver(slowly: bool) -> None:
    async def main() -> None:
        async with two_ends() as (_, a, b):

            async def later() -> None:
                await asyncio.sleep(0)
                raise ZeroDivisionError

            def fail(lane: Lane, payload: memoryview) -> Awaitable[None] | None:
                if slowly:
                    return later()
                raise ZeroDivisionError

            b.on_payload = fail
            a.driver.send([b"x"])
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(b.task, 10)
            assert b.states[-1] == "ended"

    asyncio.run(main())


def test_a_control_payload_must_not_wait() -> None:
    async def main() -> None:
        async with two_ends() as (_, a, b):
            b.on_payload = lambda lane, payload: asyncio.get_running_loop().create_future()
            a.driver.send([b"x"], Lane.CONTROL)
            with pytest.raises(TypeError, match="CONTROL"):
                await asyncio.wait_for(b.task, 10)

    asyncio.run(main())


def test_closing_while_a_payload_is_being_taken() -> None:
    async def main() -> None:
        async with two_ends() as (_, a, b):
            b.on_payload = lambda lane, payload: asyncio.get_running_loop().create_future()
            a.driver.send([b"x"])
            a.driver.send([b"y"])
            await b.until(lambda: len(b.got) == 1)
            await asyncio.wait_for(b.end(), 5)
            assert len(b.got) == 1

    asyncio.run(main())


def test_closing_while_dialing_leaves_no_connection() -> None:
    async def main() -> None:
        async with relaying() as relay:
            reached, never = asyncio.Event(), asyncio.Event()

            async def slow_dial() -> Connection:
                connection = await dial(relay.url, "/v1/a", TOKEN)
                reached.set()
                try:
                    await never.wait()
                except asyncio.CancelledError:
                    pass  # as if it had come just then
                return connection

            driver = LinkDriver(slow_dial, Link(), lambda lane, payload: None)
            task = asyncio.ensure_future(driver.run())
            await reached.wait()
            await asyncio.wait_for(driver.close(), 5)
            await task
            while relay.ends:
                await asyncio.sleep(0.001)

    asyncio.run(main())


def test_closing_while_resting_and_closing_what_never_ran() -> None:
    async def main() -> None:
        async with two_ends({"backoff": (30.0, 60.0)}) as (relay, a, _):
            relay.cut("/v1/a")
            await a.until(lambda: "dropped" in a.states)
            await asyncio.wait_for(a.end(), 5)
            assert a.task.exception() is None
            with pytest.raises(LinkBroken):
                await a.driver.drain()
        driver = LinkDriver(a.dial, Link(), lambda lane, payload: None)
        await driver.close()
        await driver.close()
        with pytest.raises(LinkBroken):
            driver.send([b"x"])

    asyncio.run(main())


def test_cancelling_releases_everything() -> None:
    async def main() -> None:
        async with two_ends() as (relay, a, _):
            a.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await a.task
            with pytest.raises(LinkBroken):
                await a.driver.drain()
            while "/v1/a" in relay.ends:
                await asyncio.sleep(0.001)

    asyncio.run(main())


def test_a_spool_that_is_damaged_ends_the_driver() -> None:
    async def main() -> None:
        from jupyter_gpu.wire.spool import Spool

        spool = Spool(memory=0, disk=1 << 20)
        async with two_ends({"link": Link(spool=spool, window=2000, max_frame=1000)}) as (relay, a, _):
            relay.readable.clear()
            a.driver.send([bytes(900_000)])
            assert spool._file is not None
            spool._file.truncate(0)
            relay.readable.set()
            with pytest.raises(LinkBroken, match="damaged"):
                await asyncio.wait_for(a.task, 10)

    asyncio.run(main())


def test_a_request_and_its_answer_are_two_messages() -> None:
    async def main() -> None:
        async with two_ends() as (relay, a, b):
            b.on_payload = lambda lane, payload: b.driver.send([payload])
            times = []
            for i in range(300):
                started = time.perf_counter()
                a.driver.send([b"ping"])
                await a.until(lambda count=i + 1: len(a.got) == count)  # type: ignore[misc]
                times.append(time.perf_counter() - started)
            # One frame each way, and an acknowledgement where the timer fell into the pause.
            assert relay.forwarded < 300 * 2 + 100
            print(f"round trip through two hops: median {1e3 * statistics.median(times):.3f} ms")

    asyncio.run(main())
