"""The five sockets that front ends know: bound once, for the kernel's whole life."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ..transport.sockets import Sockets, zmq
from ..wire.codec import BytesLike
from ..wire.errors import ConnectionFileBad
from .connection import ConnectionFile

_KINDS = {"shell": "ROUTER", "control": "ROUTER", "stdin": "ROUTER", "hb": "ROUTER", "iopub": "XPUB"}
#: Seconds for a kernel that was here before to leave its ports.
_PATIENCE = 5.0


class Channels:
    """``on_request(channel, frames)`` gets what front ends send on shell, control and stdin; ``on_subscribed(topic)`` hears of each new
    topic on iopub. Heartbeats are answered here, until ``close("hb")``."""

    def __init__(
        self,
        connection: ConnectionFile,
        on_request: Callable[[str, list[bytes]], None],
        on_subscribed: Callable[[bytes], None],
    ) -> None:
        self._on_request = on_request
        self._on_subscribed = on_subscribed
        self._sockets = Sockets(zmq.Context(), self._received)
        for name, kind in _KINDS.items():
            socket = self._sockets.add(name, getattr(zmq, kind))
            if kind == "ROUTER":
                socket.router_handover = 1
            if connection.curve is not None:
                public, secret = connection.curve
                socket.curve_server, socket.curve_publickey, socket.curve_secretkey = 1, public.encode(), secret.encode()
            _bind(socket, connection, name)
        for name in _KINDS:
            self._sockets.watch(name)

    def _received(self, name: str, frames: list[bytes]) -> None:
        if name == "hb":
            self._sockets.send("hb", frames)
        elif name == "iopub":
            if frames[0][:1] == b"\x01":
                self._on_subscribed(frames[0][1:])
        else:
            self._on_request(name, frames)

    def send(self, name: str, frames: Sequence[BytesLike]) -> None:
        self._sockets.send(name, frames)

    def pause(self, name: str) -> None:
        self._sockets.pause(name)

    def resume(self, name: str) -> None:
        self._sockets.resume(name)

    def close(self, *names: str) -> None:
        """Those named, or all of them, once what was sent is on its way."""
        self._sockets.close(*names)
        if not names:
            self._sockets.context.term()


def _bind(socket: object, connection: ConnectionFile, name: str) -> None:
    endpoint = connection.endpoint(name)
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.bind(endpoint)  # type: ignore[attr-defined]
            return
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE or time.monotonic() > end:
                raise ConnectionFileBad(path=str(connection.path), reason=f"{endpoint} cannot be used: {error.strerror}") from None
            time.sleep(0.01)
