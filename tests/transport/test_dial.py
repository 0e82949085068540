from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from misbehaving_relay import TOKEN, answer, relaying

from jupyter_gpu.transport.dial import CARRIER, dial
from jupyter_gpu.transport.envelope import SUBPROTOCOL
from jupyter_gpu.transport.plain import PlainConnection
from jupyter_gpu.transport.raw import RawConnection
from jupyter_gpu.wire.errors import (
    BadOptionValue,
    GatewayUnreachable,
    JupyterGpuError,
    ProtocolMismatch,
    SessionNotFound,
    TokenRefused,
)

pytestmark = pytest.mark.timeout(20)


@pytest.fixture(autouse=True, params=["", "websockets"], ids=["raw", "websockets"])
def carrier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(CARRIER, request.param)
    return str(request.param)


def test_a_connection() -> None:
    async def main() -> None:
        async with relaying() as relay:
            connection = await dial(relay.url, "/v1/rpc", TOKEN)
            assert connection.subprotocol == SUBPROTOCOL
            assert isinstance(connection, PlainConnection if os.environ[CARRIER] else RawConnection)
            sock = connection.sock if isinstance(connection, RawConnection) else connection.inner.transport.get_extra_info("socket")  # type: ignore[attr-defined]
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert relay.requests[0].path == "/v1/rpc"
            await connection.close()
            assert connection.ending is not None and connection.ending.rcvd is not None and connection.ending.rcvd.code == 1000

    asyncio.run(main())


def test_over_a_unix_socket(tmp_path: Path) -> None:
    async def main() -> None:
        async with relaying(unix=str(tmp_path / "s")) as relay:
            connection = await dial(relay.url, "/v1/rpc", TOKEN)
            assert connection.subprotocol == SUBPROTOCOL
            await connection.close()

    asyncio.run(main())


def test_no_proxy_is_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    test_a_connection()


@pytest.mark.parametrize(
    ("response", "path", "expected", "said"),
    [
        (answer(HTTPStatus.UNAUTHORIZED), "/v1/rpc", TokenRefused, "JUPYTER_GPU_TOKEN"),
        (answer(HTTPStatus.FORBIDDEN), "/v1/rpc", TokenRefused, "token"),
        (
            answer(HTTPStatus.UPGRADE_REQUIRED, b"jupyter-gpu.v7\n"),
            "/v1/rpc",
            ProtocolMismatch,
            "speaks protocol jupyter-gpu.v7, this side protocol jupyter-gpu.v1",
        ),
        (answer(HTTPStatus.UPGRADE_REQUIRED, Sec_WebSocket_Protocol="jupyter-gpu.v8"), "/v1/rpc", ProtocolMismatch, "jupyter-gpu.v8"),
        (answer(HTTPStatus.NOT_FOUND), "/v1/sessions/s-1/link", SessionNotFound, "s-1"),
        (answer(HTTPStatus.NOT_FOUND), "/v1/rpc", GatewayUnreachable, "HTTP 404"),
        (answer(HTTPStatus.SERVICE_UNAVAILABLE), "/v1/rpc", GatewayUnreachable, "HTTP 503"),
    ],
)
def test_refusals(response: Any, path: str, expected: type[JupyterGpuError], said: str) -> None:
    async def main() -> None:
        async with relaying() as relay:
            relay.refuse = lambda request: response
            with pytest.raises(expected, match=said):
                await dial(relay.url, path, TOKEN)

    asyncio.run(main())


@pytest.mark.parametrize("spoken", [None, ["something-else"]])
def test_a_server_that_does_not_speak_it(spoken: Any) -> None:
    async def main() -> None:
        options: dict[str, Any] = {"subprotocols": spoken}
        if spoken:
            options["select_subprotocol"] = lambda connection, offered: spoken[0]
        async with relaying(**options) as relay:
            with pytest.raises(ProtocolMismatch):
                await dial(relay.url, "/v1/rpc", TOKEN)

    asyncio.run(main())


@contextlib.asynccontextmanager
async def saying(said: bytes | None) -> AsyncIterator[str]:
    """A server that says this, whatever it is asked; None: nothing."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if said is None:
            await reader.read()
        else:
            writer.write(said)
            await asyncio.sleep(0)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        handled.set()

    handled = asyncio.Event()
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        await handled.wait()
        server.close()


@pytest.mark.parametrize(
    ("said", "scheme", "reason"),
    [
        (None, "ws", "no answer within 0.3 seconds"),
        (b"SSH-2.0-OpenSSH\r\n", "ws", "does not speak websockets"),
        (b"", "ws", "does not speak websockets"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "wss", "does not speak TLS"),
    ],
)
def test_what_answers_is_no_gateway(said: bytes | None, scheme: str, reason: str) -> None:
    async def main() -> None:
        async with saying(said) as place:
            with pytest.raises(GatewayUnreachable, match=reason):
                await dial(f"{scheme}://{place}", "/v1/rpc", TOKEN, timeout=0.3 if said is None else 5)

    asyncio.run(main())


def test_nobody_answers(tmp_path: Path) -> None:
    stale = tmp_path / "stale"
    with socket.socket(socket.AF_UNIX) as sock, socket.socket() as free:
        sock.bind(str(stale))
        free.bind(("127.0.0.1", 0))
        for url, reason in [
            (f"ws://127.0.0.1:{free.getsockname()[1]}", "nothing listens there"),
            (f"unix://{stale}", "nothing listens there"),
            (f"unix://{tmp_path}/none", "no such socket"),
        ]:
            with pytest.raises(GatewayUnreachable, match=reason):
                asyncio.run(dial(url, "/v1/rpc", TOKEN))


def test_an_address_that_is_none() -> None:
    with pytest.raises(BadOptionValue):
        asyncio.run(dial("gpu.example", "/v1/rpc", TOKEN))
