"""What both ends of our websockets agree on beside the messages: the subprotocol, the limits, the first byte."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, TypedDict

from websockets.asyncio.connection import Connection
from websockets.typing import Subprotocol

from ..wire.codec import BytesLike, decode, encode
from ..wire.errors import FrameGarbled
from ..wire.frames import MAX_HEADER
from ..wire.messages import AnyMessage, Message

SUBPROTOCOL = Subprotocol("jupyter-gpu.v1")

#: Close code of a client's link when another client of the same session took its place.
TAKEN_OVER = 4000

#: First byte of a binary message on a link or worker websocket.
NOTICE = b"\x00"
FRAME = b"\x01"

#: Bytes. A frame of the largest size fits, with room for notices, which are small.
MAX_MESSAGE = (1 << 20) + MAX_HEADER + 4096


class WebsocketOptions(TypedDict):
    compression: None
    max_size: int
    ping_interval: float
    ping_timeout: float
    close_timeout: float
    write_limit: tuple[int, int]


#: For ``connect`` and ``serve`` alike: ``serve(handler, ..., **WEBSOCKET_OPTIONS)``. Not compressed, since what is worth it is
#: compressed before; pings are generous, since a peer that holds the GIL or swaps is not dead; the write limit keeps one
#: frame being written while the next is made, and no more, so that control can overtake.
WEBSOCKET_OPTIONS: WebsocketOptions = {
    "compression": None,
    "max_size": MAX_MESSAGE,
    "ping_interval": 20,
    "ping_timeout": 60,
    "close_timeout": 2,
    "write_limit": (512 << 10, 128 << 10),
}


def notice(message: Message) -> bytes:
    """The websocket message that carries ``message`` beside a link."""
    return b"".join([NOTICE, *encode(message)])


def frame(parts: Sequence[BytesLike]) -> bytes:
    """The websocket message that carries a frame of the link."""
    return b"".join([FRAME, *parts])


def open_envelope(data: str | bytes | memoryview) -> AnyMessage | memoryview:
    """A notice, or the bytes of a frame. Raises ``FrameGarbled``."""
    if isinstance(data, str):
        raise FrameGarbled(reason="text on a binary websocket")
    kind = data[:1]
    if kind == FRAME:
        return memoryview(data)[1:]
    if kind == NOTICE:
        return decode(memoryview(data)[1:])[0]
    raise FrameGarbled(reason=f"a websocket message that begins with {bytes(kind)!r}")


def no_delay(connection: Connection) -> None:
    """Small messages go out at once. asyncio's own loop does this by default; others need not."""
    sock: Any = connection.transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
