"""What is to be written to a socket: at once if it takes it, else as soon as it does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from ..wire.codec import BytesLike, size_of

#: Bytes up to which copying parts together is cheaper than handing them over one by one.
_JOINED = 16 << 10
_VECTORS = 64


class Outbox:
    """For a non-blocking stream socket on a loop with ``add_writer``. Parts are kept by reference until they are written: don't change
    them. ``on_error(error)``: the socket is broken; what waits is dropped. ``low``: bytes below which ``room()`` is given."""

    def __init__(self, sock: socket.socket, on_error: Callable[[OSError], None], *, low: int = 128 << 10) -> None:
        self.size = 0  #: bytes that wait
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._fd = sock.fileno()
        self._on_error = on_error
        self._low = low
        self._parts: deque[BytesLike] = deque()
        self._writing = False
        self._closed = False
        self._finishing = False
        self._waiting: set[asyncio.Future[None]] = set()

    def put(self, parts: Sequence[BytesLike]) -> None:
        if self._closed or self._finishing:
            return
        size = size_of(parts)
        if size <= _JOINED and len(parts) > 1:
            self._parts.append(b"".join(parts))
        else:
            self._parts.extend(part for part in parts if len(part))
        self.size += size
        if not self._writing:
            self._write()

    async def room(self) -> None:
        """Wait until little waits, or the socket is closed."""
        if self.size > self._low and not self._closed:
            future: asyncio.Future[None] = self._loop.create_future()
            self._waiting.add(future)
            try:
                await future
            finally:
                self._waiting.discard(future)

    def finish(self) -> None:
        """Nothing more will be put: the other end sees that when it has read what was."""
        self._finishing = True
        if not self._parts and not self._closed:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Before the socket is closed."""
        if not self._closed:
            self._closed = True
            if self._writing:
                self._loop.remove_writer(self._fd)
            self._parts.clear()
            self.size = 0
            self._wake()

    def _write(self) -> None:
        parts = self._parts
        try:
            while parts:
                sent = self._sock.send(parts[0]) if len(parts) == 1 else self._sock.sendmsg(list(islice(parts, _VECTORS)))
                self.size -= sent
                while parts and sent >= len(parts[0]):
                    sent -= len(parts.popleft())
                if sent:
                    parts[0] = memoryview(parts[0])[sent:]
                if self.size <= self._low and self._waiting:
                    self._wake()
        except (BlockingIOError, InterruptedError):
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._fd, self._write)
            return
        except OSError as error:
            self.close()
            self._on_error(error)
            return
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)
        self._wake()
        if self._finishing:
            self.finish()

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
