"""Whatever is thrown at a gateway: it says in its log what came, stays as large as it was, and serves everybody else."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil
import pytest
from plain_client import dial
from played import TOKEN, End, Rpc, Running, go, until

from jupyter_gpu.transport.envelope import MAX_MESSAGE
from jupyter_gpu.wire.messages import PeerAttached

MIB = 1 << 20
NOISE = os.urandom(MAX_MESSAGE + 1)


async def raw(gateway: Running, data: bytes) -> bytes:
    """What a connection that is no websocket gets."""
    reader, writer = await asyncio.open_unix_connection(gateway.url.removeprefix("unix://"))
    writer.write(data)
    try:
        await writer.drain()
        writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def throw_everything(gateway: Running, session: str) -> None:
    for data in (b"\x00" * 10_000, b"\r\n" * 100, NOISE[:100_000], b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 200_000, b""):
        await raw(gateway, data)
    for data in (NOISE, "text", b"\xff" * 100):
        rpc = Rpc(await dial(gateway.url, "/v1/rpc", TOKEN))
        await rpc.socket.send(data)
        await rpc.socket.wait_closed()
        client = await gateway.link(session)
        await client.socket.send(data)
        await client.closed()


def test_garbage_without_end(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = await gateway.rpc()
            one, _, _ = await gateway.ready(rpc, "one")
            two, worker, _ = await gateway.ready(rpc, "two")
            other = await gateway.link(two)
            await other.hears(PeerAttached)
            process = psutil.Process(gateway.process.pid)
            for _ in range(5):
                await throw_everything(gateway, one)  # what it needs once it has then
            before, open_before = process.memory_info().rss, process.num_fds()
            for _ in range(60):
                await throw_everything(gateway, one)
            await other.frame(b"still here")
            assert await worker.hears_frame() == b"still here"
            await worker.frame(b"and back")
            assert await other.hears_frame() == b"and back"
            assert set(await rpc.sessions()) == {one, two}
            grown = process.memory_info().rss - before
            assert grown < 16 * MIB, f"{grown / MIB:.1f} MiB more, after {60 * 6 * len(NOISE) / MIB:.0f} MiB of garbage"
            await until(lambda: process.num_fds() <= open_before, "all connections closed")
            assert "Traceback" not in gateway.log, gateway.log[-4000:]

    go(test(), 60)


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        ("text", 1007, "on a binary websocket"),
        (b"", 1007, "nothing"),
        (b"\x07abc", 1007, "begins with"),
        (b"\x00\xff\xff", 1007, "cannot be read"),
        (NOISE, 1009, "exceeds limit"),
    ],
    ids=["text", "nothing", "first-byte", "notice", "too-large"],
)
def test_the_sender_and_the_log_are_told_why(folder: Path, data: str | bytes, code: int, words: str) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = await gateway.rpc()
            session, worker, _ = await gateway.ready(rpc)
            for end, path in ((await gateway.link(session), f"/v1/sessions/{session}/link"), (worker, "/v1/worker")):
                await end.socket.send(data)
                assert await end.closed() == code
                assert words in (end.socket.close_reason or ""), end.socket.close_reason
                assert words in await gateway.logged(path)
            assert list(await rpc.sessions()) == [session]

    go(test())


def test_a_request_that_is_too_large(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc, good = await gateway.rpc(), await gateway.rpc()
            await rpc.socket.send(NOISE)
            await rpc.socket.wait_closed()
            assert rpc.socket.close_code == 1009
            await gateway.logged("/v1/rpc", "exceeds limit")
            assert await good.sessions() == {}

    go(test())


def test_one_that_connects_and_says_nothing_holds_nobody_up(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            path = gateway.url.removeprefix("unix://")
            silent = [await asyncio.open_unix_connection(path) for _ in range(50)]
            ends = [End(await dial(gateway.url, "/v1/rpc", TOKEN)) for _ in range(10)]
            rpc = await gateway.rpc()
            await gateway.ready(rpc)
            for _, writer in silent:
                writer.close()
            for end in ends:
                await end.socket.close()

    go(test())
