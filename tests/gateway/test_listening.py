"""Whose a unix socket is."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from jupyter_gpu_gateway.listening import listening
from played import go
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from jupyter_gpu.transport.address import Address, parse
from jupyter_gpu.transport.connection import Connection
from jupyter_gpu.wire.errors import BadOptionValue, GatewayStartFailed


async def hello(connection: Connection) -> None:
    await connection.wait_closed()


async def ok(protocol: ServerProtocol, request: Request) -> Response | None:
    return protocol.reject(200, "here\n")


def at(folder: Path) -> Address:
    return parse(f"unix://{folder / 'it.sock'}")


async def answer(path: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    lines = ["GET / HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    writer.write("\r\n".join([*lines, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]).encode())
    found = await reader.read()
    writer.close()
    return found


def dead(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)  # and never removed


def test_one_that_answers_is_left_alone(folder: Path) -> None:
    async def test() -> None:
        async with listening(at(folder), hello, ok) as url:
            assert url == f"unix://{folder / 'it.sock'}" and Path(at(folder).socket).stat().st_mode & 0o777 == 0o600
            with pytest.raises(GatewayStartFailed, match="another one answers") as caught:
                async with listening(at(folder), hello, ok):
                    raise AssertionError
            assert "--url" in str(caught.value) and at(folder).socket in str(caught.value)
            assert b"here" in await answer(at(folder).socket)
        assert list(folder.iterdir()) == []

    go(test())


def test_a_dead_one_is_taken_over_by_one_of_many(folder: Path) -> None:
    dead(at(folder).socket)

    async def test() -> None:
        served, refused, over = [], [], asyncio.Event()

        async def one() -> None:
            try:
                async with listening(at(folder), hello, ok) as url:
                    served.append(url)
                    await over.wait()
            except GatewayStartFailed as error:
                refused.append(error)
            if len(refused) == 4:
                over.set()

        await asyncio.gather(*(one() for n in range(5)))
        assert len(served) == 1 and len(refused) == 4

    go(test())
    assert list(folder.iterdir()) == []


def test_a_file_of_the_persons_is_not_removed(folder: Path) -> None:
    file = Path(at(folder).socket)
    file.write_text("a thesis")

    async def test() -> None:
        with pytest.raises(GatewayStartFailed, match="no socket"):
            async with listening(at(folder), hello, ok):
                raise AssertionError

    go(test())
    assert file.read_text() == "a thesis"


def test_what_somebody_else_put_there_meanwhile_is_not_removed(folder: Path) -> None:
    async def test() -> None:
        async with listening(at(folder), hello, ok):
            Path(at(folder).socket).rename(folder / "moved")  # so that its inode is not given away again
            dead(at(folder).socket)

    go(test())
    assert Path(at(folder).socket).is_socket()


def test_a_folder_that_is_not_there(folder: Path) -> None:
    async def test() -> None:
        with pytest.raises(FileNotFoundError):
            async with listening(parse(f"unix://{folder / 'no' / 'it.sock'}"), hello, ok):
                raise AssertionError

    go(test())


def test_tcp() -> None:
    async def test() -> None:
        async with listening(parse("ws://127.0.0.1:0"), hello, ok) as url:
            assert url.startswith("ws://127.0.0.1:") and not url.endswith(":0")
        for wrong in ("wss://127.0.0.1:1", "ws://127.0.0.1"):
            with pytest.raises(BadOptionValue):
                async with listening(parse(wrong), hello, ok):
                    raise AssertionError

    go(test())
