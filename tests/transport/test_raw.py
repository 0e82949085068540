"""Connections on sockets of our own, one against the other; against the ``websockets`` library they stand in the other files here and in
those of the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from jupyter_gpu.transport import raw, rfc6455
from jupyter_gpu.transport.connection import Close, Ending
from jupyter_gpu.transport.envelope import MAX_MESSAGE
from jupyter_gpu.transport.raw import RawConnection
from jupyter_gpu.transport.upgrade import prepared

pytestmark = pytest.mark.timeout(20)
MIB = 1 << 20


def go(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 15))


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
        prepared(sock)
    return ours, theirs


@contextlib.asynccontextmanager
async def ends(hidden: bool = True) -> AsyncIterator[tuple[RawConnection, RawConnection]]:
    """(client, server)"""
    ours, theirs = pair()
    client, server = RawConnection(ours, server=False, hidden=hidden), RawConnection(theirs, server=True)
    try:
        yield client, server
    finally:
        client.abort()
        server.abort()
        assert ours.fileno() == theirs.fileno() == -1


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("hidden", [True, False])
def test_messages_of_any_size_both_ways(hidden: bool) -> None:
    async def test() -> None:
        async with ends(hidden) as both:
            for size in (0, 1, 200, 70_000, MAX_MESSAGE):
                data = os.urandom(size)
                for one, other in (both, both[::-1]):
                    sending = asyncio.ensure_future(one.send(data))
                    assert bytes(await other.recv()) == data  # type: ignore[arg-type]
                    await sending

    go(test())


@pytest.mark.parametrize("hidden", [True, False])
def test_what_somebody_in_between_sees(hidden: bool) -> None:
    async def test() -> None:
        ours, theirs = pair()
        client = RawConnection(ours, server=False, hidden=hidden)
        client.put([b"what is ", b"said"])
        seen = theirs.recv(100)
        assert (b"what is said" in seen) is hidden and seen[1] & 128
        client.abort()
        theirs.close()

    go(test())


@pytest.mark.parametrize("first", [0, 1])
def test_closing_in_order(first: int) -> None:
    async def test() -> None:
        async with ends() as both:
            one, other = both[first], both[1 - first]
            one.put([b"last"])
            closing = asyncio.ensure_future(one.close(4321, "enough"))
            assert await other.recv() == b"last"
            with pytest.raises(ConnectionClosedError) as caught:
                await other.recv()
            assert caught.value.rcvd == Close(4321, "enough")
            await asyncio.wait_for(closing, 1)
            assert one.ending == Ending(Close(4321, ""), Close(4321, "enough"), False)
            assert other.ending == Ending(Close(4321, "enough"), Close(4321, ""), True) and other.ending.why == "enough"
            other.put([b"too late"])
            with pytest.raises(ConnectionClosedError):
                await one.send(b"too late")
            await one.close()

    go(test())


def test_closing_without_a_reason_is_no_error() -> None:
    async def test() -> None:
        async with ends() as (client, server):
            await asyncio.gather(client.close(), server.wait_closed())
            with pytest.raises(ConnectionClosedOK):
                await server.recv()
            with pytest.raises(ConnectionClosedOK):
                await client.send(b"x")

    go(test())


def test_a_peer_that_does_not_answer_holds_up_closing_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(raw.WEBSOCKET_OPTIONS, "close_timeout", 0.05)

    async def test() -> None:
        ours, theirs = pair()
        client = RawConnection(ours, server=False)
        client.put([bytes(MIB)])
        client.put([bytes(MIB)])
        await client.close()
        assert client.ending == Ending(None, Close(1000, ""), False) and client.pending == 0
        theirs.close()

    go(test())


def test_a_peer_that_is_gone() -> None:
    async def test() -> None:
        async with ends() as (client, server):
            server.abort()
            with pytest.raises(ConnectionClosedError):
                await client.recv()
            assert client.ending is not None and "1006" in client.ending.why
        async with ends() as (client, server):
            server.abort()
            for _ in range(3):
                client.put([bytes(MIB)])
            await client.wait_closed()
            await client.room()

    go(test())


def test_a_silent_peer_is_given_up_and_one_that_answers_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(raw.WEBSOCKET_OPTIONS, "ping_interval", 0.02)
    monkeypatch.setitem(raw.WEBSOCKET_OPTIONS, "ping_timeout", 1.0)

    async def test() -> None:
        async with ends() as (client, server):
            heard = client._heard
            await until(lambda: client._heard > heard + 0.1)
            assert client.ending is None and server.ending is None
        ours, theirs = pair()
        client = RawConnection(ours, server=False)
        await client.wait_closed()
        assert client.ending is not None and "keepalive" in client.ending.why
        theirs.close()

    go(test())


def test_a_listener_that_takes_its_time_holds_up_the_sender() -> None:
    async def test() -> None:
        async with ends() as (client, server):
            taken, gate = [], asyncio.Event()

            async def wait() -> None:
                await gate.wait()

            def take(data: Any) -> Any:
                taken.append(data[:1])
                return wait() if data[:1] == b"0" else None

            listening = asyncio.ensure_future(server.listen(take))
            sent = 0
            for n in range(10):
                sending = asyncio.ensure_future(client.send(b"%d" % n + bytes(MIB)))
                if not (await asyncio.wait([sending], timeout=0.05))[0]:
                    break
                sent += 1
            assert sent < 6 and taken == [b"0"], "what the sockets hold, and no more"
            gate.set()
            await sending
            await client.close()
            await listening
            assert taken == [b"%d" % n for n in range(sent + 1)]

    go(test())


def test_what_a_listener_raises_is_heard_and_the_connection_can_still_be_closed() -> None:
    async def test() -> None:
        async with ends() as (client, server):

            async def later() -> None:
                raise LookupError("later")

            def now(data: Any) -> None:
                raise LookupError("now")

            for listener, word in ((now, "now"), (lambda data: later(), "later")):
                client.put([b"x"])
                with pytest.raises(LookupError, match=word):
                    await server.listen(listener)
            await asyncio.gather(server.close(1007, "why"), client.wait_closed())
            assert client.ending is not None and client.ending.rcvd == Close(1007, "why")

    go(test())


@pytest.mark.parametrize(
    ("garbage", "code"), [(b"\x83\x80abcd", 1002), (b"\x82\xff\x00\x00\x01" + bytes(9), 1009), (b"\x88\x81\0\0\0\0x", 1002)]
)
def test_garbage_is_answered_with_its_code_though_more_of_it_comes(garbage: bytes, code: int) -> None:
    async def test() -> None:
        ours, theirs = pair()
        server = RawConnection(theirs, server=True)
        loop = asyncio.get_running_loop()
        flood = asyncio.ensure_future(loop.sock_sendall(ours, garbage + bytes(3 * MIB)))
        answer = await loop.sock_recv(ours, 1000)
        assert answer[0] == 0x80 | rfc6455.CLOSE and int.from_bytes(answer[2:4], "big") == code
        await flood
        ours.close()
        await server.wait_closed()
        assert server.ending is not None and server.ending.sent is not None and server.ending.sent.code == code

    go(test())


def test_what_came_behind_the_handshake() -> None:
    async def test() -> None:
        ours, theirs = pair()
        rest = b"".join(rfc6455.frame(rfc6455.BINARY, [b"early"], None))
        client = RawConnection(ours, server=False, rest=rest + rest[:3])
        assert await client.recv() == b"early"
        theirs.send(rest[3:])
        assert await client.recv() == b"early"
        client.abort()
        theirs.close()

    go(test())
