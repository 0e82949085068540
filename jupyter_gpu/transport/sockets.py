"""ZMQ sockets on an asyncio loop, without a task for each message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import zmq as _zmq

from ..wire.codec import BytesLike

zmq: Any = _zmq  #: its names are filled in as it is imported, which no type checker sees

OnFrames = Callable[[str, "list[bytes]"], None]

#: Messages in a row from one socket before the others have their turn.
_BATCH = 32
#: Bytes up to which a frame is copied: ZMQ takes a view of so little twice as slowly.
_SMALL = 1 << 16


class Sockets:
    """``on_frames(name, frames)`` gets what comes. Nothing is ever dropped: queues have no limit, and whoever must not be flooded says so
    to ``pause``."""

    def __init__(self, context: Any, on_frames: OnFrames) -> None:
        self.context = context
        self._on_frames = on_frames
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[str, Any] = {}
        self._paused: set[str] = set()

    def add(self, name: str, kind: int, **options: Any) -> Any:
        """A new socket, to be bound or connected by the caller, then ``watch``-ed."""
        socket = self._sockets[name] = self.context.socket(kind)
        socket.linger = 1000
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        for option, value in options.items():
            setattr(socket, option, value)
        return socket

    def watch(self, name: str) -> None:
        self._loop.add_reader(self._sockets[name].fd, self._readable, name)
        self._loop.call_soon(self._readable, name)  # its descriptor tells of changes alone

    def send(self, name: str, frames: Sequence[BytesLike]) -> None:
        socket = self._sockets.get(name)
        if socket is None:
            return
        socket.send_multipart([bytes(f) if len(f) < _SMALL else f for f in frames], copy=False)
        if socket.EVENTS & zmq.POLLIN:  # sending takes the change from the descriptor
            self._loop.call_soon(self._readable, name)

    def pause(self, name: str) -> None:
        self._paused.add(name)

    def resume(self, name: str) -> None:
        if name in self._paused:
            self._paused.discard(name)
            self._loop.call_soon(self._readable, name)

    def _readable(self, name: str) -> None:
        socket = self._sockets.get(name)
        if socket is None:
            return
        for _ in range(_BATCH):
            if name in self._paused or name not in self._sockets:
                return
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._on_frames(name, frames)
        self._loop.call_soon(self._readable, name)

    def names(self) -> list[str]:
        return list(self._sockets)

    def monitor(self, name: str) -> Callable[[], bool]:
        """To be asked whether the peer of this socket was there and is gone. All that it sent was received then."""
        watching = self._sockets[name].get_monitor_socket(zmq.EVENT_DISCONNECTED)

        def gone() -> bool:
            return bool(watching.closed or watching.EVENTS & zmq.POLLIN)

        return gone

    def drain(self, name: str) -> None:
        """Take all that is there now."""
        self._paused.discard(name)
        while name in self._sockets and self._sockets[name].EVENTS & zmq.POLLIN:
            self._on_frames(name, self._sockets[name].recv_multipart(zmq.NOBLOCK))

    def close(self, *names: str) -> None:
        """Those named, or all."""
        for name in names or list(self._sockets):
            socket = self._sockets.pop(name, None)
            if socket is not None:
                self._loop.remove_reader(socket.fd)
                socket.disable_monitor()
                socket.close()
