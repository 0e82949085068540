"""A gateway of the test's own: pairs two ends, forwards their frames unread, and misbehaves on command."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from jupyter_gpu.transport.envelope import SUBPROTOCOL, WEBSOCKET_OPTIONS, notice
from jupyter_gpu.wire.messages import PeerAttached, PeerDetached

TOKEN = "the-token"


class Relay:
    """``ends``: open websockets by path ("/v1/a", "/v1/b")."""

    def __init__(self) -> None:
        self.ends: dict[str, ServerConnection] = {}
        self.server: Server
        self.url = ""
        self.port = 0
        self.forwarded = 0
        self.refuse: Callable[[Request], Response | None] = lambda request: None
        self.on_message: Callable[[str, bytes], None] = lambda path, data: None
        self.instead: Callable[[ServerConnection], Awaitable[None]] | None = None  #: takes over new connections
        self.readable = asyncio.Event()
        self.readable.set()
        self.requests: list[Request] = []

    def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if (response := self.refuse(request)) is not None:
            return response
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return answer(HTTPStatus.UNAUTHORIZED)
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        if self.instead is not None:
            return await self.instead(connection)
        path = connection.request.path
        if (old := self.ends.get(path)) is not None:
            old.transport.abort()
        self.ends[path] = connection
        if len(self.ends) == 2:
            for end in list(self.ends.values()):
                await say(end, notice(PeerAttached()))
        try:
            async for data in connection:
                assert isinstance(data, bytes)
                self.on_message(path, data)
                await self.readable.wait()
                for other, end in list(self.ends.items()):
                    if other != path and data[:1] == b"\x01":
                        self.forwarded += 1
                        await say(end, data)
        except ConnectionClosed:
            pass
        finally:
            if self.ends.get(path) is connection:
                del self.ends[path]
                for end in list(self.ends.values()):
                    await say(end, notice(PeerDetached(reason="cut")))

    def cut(self, path: str) -> bool:
        """The connection of this end ends here and now, without a word."""
        end = self.ends.get(path)
        if end is not None:
            end.transport.abort()
        return end is not None


async def say(end: ServerConnection, data: bytes | str) -> None:
    with contextlib.suppress(ConnectionClosed):
        await end.send(data)


def answer(status: HTTPStatus, body: bytes = b"", **headers: str) -> Response:
    fields = Headers({"Content-Length": str(len(body)), "Connection": "close"})
    for name, value in headers.items():
        fields[name.replace("_", "-")] = value
    return Response(status.value, status.phrase, fields, body)


@contextlib.asynccontextmanager
async def relaying(unix: str | None = None, port: int = 0, **options: Any) -> AsyncIterator[Relay]:
    relay = Relay()
    everything: dict[str, Any] = {**WEBSOCKET_OPTIONS, "subprotocols": [SUBPROTOCOL], "process_request": relay._check, **options}
    if unix is not None:
        opening = unix_serve(relay._handle, unix, **everything)
        relay.url = f"unix://{unix}"
    else:
        opening = serve(relay._handle, "127.0.0.1", port, **everything)
    async with opening as relay.server:
        if unix is None:
            relay.port = next(iter(relay.server.sockets)).getsockname()[1]
            relay.url = f"ws://127.0.0.1:{relay.port}"
        try:
            yield relay
        finally:
            relay.readable.set()
