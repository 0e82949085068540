"""Connections by the ``websockets`` library: through proxies and TLS, and where a loop cannot watch sockets (Windows)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.asyncio.connection import broadcast
from websockets.exceptions import ConnectionClosed

from ..wire.codec import BytesLike
from .address import Address
from .connection import Connection, Data, Ending, OnMessage
from .envelope import SUBPROTOCOL, WEBSOCKET_OPTIONS, no_delay

#: websockets 14 asks no proxy and has no such parameter.
_KNOWS_PROXY = "proxy" in inspect.signature(connect).parameters


class PlainConnection(Connection):
    def __init__(self, inner: ClientConnection) -> None:
        self.inner = inner
        self.subprotocol = inner.subprotocol

    @property
    def pending(self) -> int:
        return self.inner.transport.get_write_buffer_size()

    @property
    def ending(self) -> Ending | None:
        protocol = self.inner.protocol
        if protocol.state.name != "CLOSED":
            return None
        return Ending(protocol.close_rcvd, protocol.close_sent, bool(protocol.close_rcvd_then_sent))

    def put(self, parts: Sequence[BytesLike]) -> None:
        broadcast([self.inner], b"".join(parts))

    async def room(self) -> None:
        # The library waits after a message, not before one; a pong that nobody asked for is one that costs nothing.
        try:
            await self.inner.pong()
        except ConnectionClosed:
            pass

    async def recv(self) -> Data:
        return await self.inner.recv()

    async def listen(self, on_message: OnMessage) -> Ending:
        try:
            while True:
                taking = on_message(await self.inner.recv())
                if taking is not None:
                    await taking
        except ConnectionClosed as error:
            return self.ending or Ending(error.rcvd, error.sent, bool(error.rcvd_then_sent))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.inner.close(code, reason)

    async def wait_closed(self) -> None:
        await self.inner.wait_closed()

    def abort(self) -> None:
        self.inner.transport.abort()


async def open_plain(address: Address, path: str, token: str, timeout: float) -> PlainConnection:
    """Raises what ``websockets`` raises."""
    options: dict[str, Any] = {
        **WEBSOCKET_OPTIONS,
        "subprotocols": [SUBPROTOCOL],
        "additional_headers": {"Authorization": f"Bearer {token}"},
        "open_timeout": timeout,
    }
    if _KNOWS_PROXY and address.is_local:
        options["proxy"] = None  # a proxy that the environment names could not come back to this machine
    if address.socket:
        inner = await unix_connect(address.socket, address.at(path), **options)
    else:
        inner = await connect(address.at(path), **options)
    no_delay(inner)
    return PlainConnection(inner)
