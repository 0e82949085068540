"""The seam between agent and kernel: payloads over a unix socketpair.

A frame is ``u64 length | u8 kind | bytes``. ``PAYLOAD`` is what travels on the link's DATA lane; the other kinds stay between the two.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Callable, Sequence

from jupyter_gpu.transport.buffers import Pool
from jupyter_gpu.wire.codec import BytesLike, size_of

PAYLOAD, ASSIGN, BUSY, IDLE = range(4)  #: ``BUSY`` carries the run_id of the cell that begins

HEADER = struct.Struct("<QB")
_READ = 256 << 10
#: Bytes from which a payload is read straight into memory of its own.
_LARGE = 64 << 10
#: Bytes that are asked for behind a large payload: another may follow, and what is read of it here has to be copied.
_AFTER_LARGE = 4 << 10
_VECTORS = 512  # below IOV_MAX

#: Kind and payload; one of which the buffer was received into its place comes in parts, as ``encode`` gave them.
Frame = tuple[int, "memoryview | list[memoryview]"]
#: Asked for a large payload, of which the beginning is there, and all of it will have so many bytes: (where its message ends, where its
#: buffer begins, the memory for the buffer), or None.
Place = Callable[[memoryview, int], "tuple[int, int, memoryview] | None"]


class FrameParser:
    """Cuts a stream of bytes into frames. ``target()`` gives the memory where the next bytes should go; ``filled(n)`` says how many
    went there. No I/O of its own, so that agent (asyncio) and kernel (blocking or not) share it. Large payloads: ``place`` is asked for
    their memory first, then ``pool``."""

    def __init__(self, place: Place | None = None, pool: Pool | None = None) -> None:
        self.place = place
        self._pool = pool
        self._small = bytearray(_READ)
        self._view = memoryview(self._small)
        self._end = 0
        self._ask = _READ
        self._large: memoryview | None = None
        self._large_kind = 0
        self._large_end = 0
        self._before: list[memoryview] = []  # of a payload in parts

    @property
    def in_large(self) -> bool:
        """Whether a large payload is on its way: worth reading on at once."""
        return self._large is not None

    def target(self) -> memoryview:
        if self._large is not None:
            return self._large[self._large_end :]
        return self._view[self._end :] if self._end else self._view[: self._ask]

    def filled(self, count: int) -> list[Frame]:
        if self._large is not None:
            self._large_end += count
            if self._large_end < len(self._large):
                return []
            done, self._large = self._large, None
            self._ask = _AFTER_LARGE
            if self._before:
                parts, self._before = [*self._before, done], []
                return [(self._large_kind, parts)]
            return [(self._large_kind, done)]
        self._end += count
        self._ask = _READ
        return self._cut()

    def _cut(self) -> list[Frame]:
        frames: list[Frame] = []
        at = 0
        while self._end - at >= HEADER.size:
            length, kind = HEADER.unpack_from(self._small, at)
            start = at + HEADER.size
            if self._end - start >= length:
                frames.append((kind, memoryview(bytes(self._view[start : start + length]))))
                at = start + length
            elif length >= _LARGE:
                self._begin(kind, start, length)
                at = self._end
                break
            else:
                break
        if at:
            rest = bytes(self._view[at : self._end])
            self._small[: len(rest)] = rest
            self._end = len(rest)
        return frames

    def _begin(self, kind: int, start: int, length: int) -> None:
        """A large payload, of which the beginning is in the small buffer."""
        have = self._view[start : self._end]
        placed = self.place(have, length) if self.place is not None and kind == PAYLOAD else None
        if placed is not None:
            ends, begins, self._large = placed
            self._before = [memoryview(bytes(part)) for part in (have[:ends], bytes(begins - ends)) if len(part)]
            have = have[begins:]
        elif self._pool is not None and length <= self._pool.size:
            self._large = self._pool.take(length)
        else:
            # Pages come as they are written, without being zeroed first; private, so that a fork has its own.
            self._large = memoryview(mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._large_kind = kind
        self._large_end = len(have)
        self._large[: len(have)] = have


class Critical:
    """Sections of the main thread that an interrupt must not cut in two: a frame half written, a lock taken and never released. The
    handler of SIGINT looks at ``depth``, and leaves what it would have raised to ``on_leave``."""

    def __init__(self) -> None:
        self.depth = 0
        self.on_leave: Callable[[], None] | None = None
        self._main = threading.main_thread().ident

    def __enter__(self) -> None:
        if threading.get_ident() == self._main:
            self.depth += 1

    def __exit__(self, *exc: object) -> None:
        if threading.get_ident() == self._main:
            self.depth -= 1
            if not self.depth and self.on_leave is not None:
                self.on_leave()


class Pipe:
    """The kernel's end. Any thread may send; the main thread receives."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._lock = threading.Lock()
        self._parser = FrameParser()
        self.critical = Critical()
        # A signal that comes between Python's last look and the system call that waits would wake nobody: a byte here does.
        self.wake, self._waker = socket.socketpair()
        self.wake.setblocking(False)
        self._waker.setblocking(False)

    def watch_signals(self) -> None:
        """From here on every signal of this process makes ``wake`` readable."""
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)

    def woken(self) -> None:
        """Take what signals left in ``wake``; their handlers have run by then."""
        with contextlib.suppress(BlockingIOError):
            self.wake.recv(4096)

    def send(self, parts: Sequence[BytesLike], kind: int = PAYLOAD) -> None:
        """Write one frame; blocks while the agent does not read. Raises ``OSError`` when the agent is gone."""
        with self.critical, self._lock:
            self._write([HEADER.pack(size_of(parts), kind), *parts])

    def _write(self, parts: list[BytesLike]) -> None:
        views = [memoryview(p).cast("B") if memoryview(p).ndim != 1 or memoryview(p).itemsize != 1 else memoryview(p) for p in parts]
        views = [v for v in views if len(v)]
        while views:
            sent = self.sock.sendmsg(views[:_VECTORS])
            while views and sent >= len(views[0]):
                sent -= len(views[0])
                views.pop(0)
            if sent:
                views[0] = views[0][sent:]

    def place(self, place: Place) -> None:
        """Ask ``place`` for the memory of large payloads from here on."""
        self._parser.place = place

    def receive(self, *, block: bool) -> list[Frame]:
        """Frames that are complete. Without ``block``: those that are there. Raises ``EOFError`` when the agent is gone."""
        while True:
            if block:
                readable, _, _ = select.select([self.sock, self.wake], [], [])  # an interrupt here loses nothing
                if self.wake in readable:
                    self.woken()
            try:
                count = self.sock.recv_into(self._parser.target(), 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not block:
                    return []
                continue
            if not count:
                raise EOFError("the agent is gone")
            if frames := self._parser.filled(count):
                return frames
            if not block and not self._parser.in_large:
                return []


def pair() -> tuple[socket.socket, socket.socket]:
    """(agent's end, kernel's end)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for sock in (ours, theirs):
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
        os.set_inheritable(sock.fileno(), False)
    return ours, theirs
