"""Websocket frames on a socket of our own: what our clients, agents and gateways speak to each other, and to any other websocket.

No transport of asyncio's is in between: it would copy what it cannot write at once, and again as that shrinks.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Sequence

from websockets.frames import Close

from ..wire.codec import BytesLike
from . import rfc6455
from .buffers import Pool
from .connection import Connection, Data, Ending, OnMessage
from .envelope import MAX_MESSAGE, WEBSOCKET_OPTIONS
from .outbox import Outbox
from .rfc6455 import Event, Reader

#: Received messages that wait for ``recv`` before no more is read.
_QUEUE = 16
#: Reads in a row before other connections have their turn.
_READS = 4
#: Pieces of memory, of a largest message each, that a loop keeps for all of its connections.
_KEEP = 24
_NO_MASK = bytes(4)
_ABNORMAL = 1006

_pools: dict[int, Pool] = {}


class RawConnection(Connection):
    """Takes over ``sock`` (connected, non-blocking, its handshake done). ``rest``: what came behind the handshake. ``server``: this end
    is the server's. ``hidden``: a client's frames are seen by nobody in between, so that they need no mask that changes them (what
    RFC 6455, section 10.3, wants it for are intermediaries)."""

    def __init__(
        self, sock: socket.socket, *, server: bool, rest: bytes = b"", hidden: bool = True, subprotocol: str | None = None
    ) -> None:
        self.subprotocol = subprotocol
        self.sock = sock
        self._server = server
        self._hidden = hidden
        self._loop = asyncio.get_running_loop()
        self._fd = sock.fileno()
        self._reader = Reader(pool_of(self._loop), limit=MAX_MESSAGE, masked=server)
        self._out = Outbox(sock, self._lost, low=WEBSOCKET_OPTIONS["write_limit"][1])
        self._events: deque[Event] = deque()
        self._inbox: deque[Data] = deque()
        self._listener: OnMessage | None = None
        self._taking: asyncio.Future[None] | None = None  # the listener's
        self._failure: BaseException | None = None  # what the listener raised
        self._news = asyncio.Event()  # for recv and listen
        self._reading = False
        self._paused = False  # by the user of the connection
        self._sent: Close | None = None
        self._rcvd: Close | None = None
        self._theirs_first = False
        self._ending: Ending | None = None
        self._over = asyncio.Event()
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(WEBSOCKET_OPTIONS["ping_interval"], self._ping)
        self._read_on()
        if rest:
            self._events.extend(self._reader.feed(rest))
            self._dispatch()

    # ------------------------------------------------------------ for its user

    @property
    def pending(self) -> int:
        return self._out.size

    @property
    def ending(self) -> Ending | None:
        return self._ending

    def put(self, parts: Sequence[BytesLike]) -> None:
        if self._sent is None and self._ending is None:
            self._write(rfc6455.BINARY, parts)

    async def room(self) -> None:
        await self._out.room()

    async def recv(self) -> Data:
        while not self._inbox:
            if self._ending is not None:
                raise self._ending.exception
            self._news.clear()
            await self._news.wait()
        data = self._inbox.popleft()
        self._read_on()
        return data

    async def listen(self, on_message: OnMessage) -> Ending:
        self._listener = on_message
        self._events.extendleft(Event(rfc6455.BINARY, data) for data in reversed(self._inbox))
        self._inbox.clear()
        try:
            self._dispatch()
            self._read_on()
            while self._failure is None and self._ending is None:
                self._news.clear()
                await self._news.wait()
            if self._failure is None and self._taking is not None:
                await asyncio.wait([self._taking])
            if self._failure is not None:
                raise self._failure
            assert self._ending is not None
            return self._ending
        finally:
            self._listener, self._failure = None, None
            if self._taking is not None:
                self._taking.cancel()
                self._taking = None

    def pause_reading(self) -> None:
        """Take nothing from the socket until ``resume_reading()``."""
        self._paused = True
        self._read_no_more()

    def resume_reading(self) -> None:
        self._paused = False
        self._read_on()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self._inbox.clear()
        self._close(code, reason)
        await self._over.wait()

    async def wait_closed(self) -> None:
        await self._over.wait()

    def abort(self) -> None:
        self._end()

    # ------------------------------------------------------------ writing

    def _write(self, kind: int, parts: Sequence[BytesLike]) -> None:
        mask = None if self._server else _NO_MASK if self._hidden else rfc6455.new_mask()
        self._out.put(rfc6455.frame(kind, parts, mask))

    def _close(self, code: int, reason: str) -> None:
        """Say that this end closes; the other one is given a while."""
        if self._sent is None and self._ending is None:
            self._sent = Close(code, reason)
            self._write(rfc6455.CLOSE, [self._sent.serialize()])
            self._timer.cancel()
            self._timer = self._loop.call_later(WEBSOCKET_OPTIONS["close_timeout"], self._end)
            self._read_on()

    def _ping(self) -> None:
        pool_of(self._loop).tidy()
        silent = self._loop.time() - self._heard
        if silent > WEBSOCKET_OPTIONS["ping_interval"] + WEBSOCKET_OPTIONS["ping_timeout"] and self._reading:
            self._sent = self._sent or Close(1011, "keepalive ping timeout")
            self._end()
            return
        if self._sent is None:
            self._write(rfc6455.PING, [b"jgpu"])
        self._timer = self._loop.call_later(WEBSOCKET_OPTIONS["ping_interval"], self._ping)

    # ------------------------------------------------------------ reading

    def _read_on(self) -> None:
        held = self._sent is None and (self._paused or self._taking is not None or len(self._inbox) >= _QUEUE)
        if not self._reading and not held and self._ending is None:
            self._reading = True
            self._heard = self._loop.time()
            self._loop.add_reader(self._fd, self._readable)

    def _read_no_more(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def _readable(self) -> None:
        self._heard = self._loop.time()
        for _ in range(_READS):
            target = self._reader.target()
            try:
                count = self.sock.recv_into(target)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._lost(error)
                return
            if not count:
                self._end()
                return
            if events := self._reader.filled(count):
                self._events.extend(events)
                self._dispatch()
            elif self._reader.error is not None:
                self._dispatch()
            if not self._reading or count < len(target):
                return

    def _dispatch(self) -> None:
        while self._events and self._taking is None and self._failure is None:
            kind, data = self._events.popleft()
            if kind >= rfc6455.CLOSE:
                assert isinstance(data, bytes)
                self._control(kind, data)
            elif self._sent is not None:
                pass  # this end is closing, and has said so
            elif self._listener is None:
                self._inbox.append(data)
                if len(self._inbox) >= _QUEUE:
                    self._read_no_more()
            else:
                self._give(self._listener, data)
        if self._reader.error is not None and not self._events and self._sent is None:
            self._close(*self._reader.error)
            self._out.finish()
        self._news.set()

    def _give(self, listener: OnMessage, data: Data) -> None:
        try:
            taking = listener(data)
        except Exception as error:
            self._failure = error
            self._read_no_more()
            return
        if taking is not None:
            self._read_no_more()
            self._taking = asyncio.ensure_future(self._take(taking))

    async def _take(self, taking: Awaitable[None]) -> None:
        try:
            await taking
        except Exception as error:
            self._failure = error
            self._news.set()
            return
        finally:
            self._taking = None
        self._dispatch()
        self._read_on()

    def _control(self, kind: int, data: bytes) -> None:
        if kind == rfc6455.PING:
            if self._sent is None:
                self._write(rfc6455.PONG, [data])
        elif kind == rfc6455.CLOSE and self._rcvd is None:
            try:
                self._rcvd = Close.parse(data)
            except Exception as error:  # websockets' own, or a reason that is no text
                self._close(rfc6455.PROTOCOL_ERROR, str(error)[:100])
                self._out.finish()
                return
            self._theirs_first = self._sent is None
            if self._theirs_first:
                code = self._rcvd.code
                self._close(1000 if code == 1005 else code, "")  # 1005: it gave none, and none may be sent
            self._out.finish()

    # ------------------------------------------------------------ the end

    def _lost(self, error: OSError) -> None:
        self._end()

    def _end(self) -> None:
        if self._ending is not None:
            return
        self._ending = Ending(self._rcvd, self._sent, self._theirs_first)
        self._timer.cancel()
        self._read_no_more()
        self._out.close()
        self.sock.close()
        self._events.clear()
        self._news.set()
        self._over.set()


def pool_of(loop: asyncio.AbstractEventLoop) -> Pool:
    """The memory that the connections of a loop share."""
    key = id(loop)
    if key not in _pools:
        _pools.clear()  # of a loop that is gone, most likely
        _pools[key] = Pool(MAX_MESSAGE, _KEEP)
    return _pools[key]
