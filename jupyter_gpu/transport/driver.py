"""Drives a link over websockets that come and go: the same at the client and at the agent.

One task reads (``run``), one writes where the socket was full (the pump). The usual small message takes neither:
``send`` writes it itself, without waking a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from ..wire.codec import BytesLike
from ..wire.errors import FrameGarbled, FrameTooLarge, LinkBroken, SessionLost, WireError, from_record
from ..wire.link import Lane, Link
from ..wire.messages import AnyMessage, Message, PeerAttached, PeerDetached, SessionEnded
from . import envelope
from .connection import Connection, Data, Ending
from .redial import Dialer, Redialer

_log = logging.getLogger(__name__)

State = Literal["connecting", "connected", "attached", "detached", "dropped", "ended"]
OnPayload = Callable[[Lane, memoryview], "Awaitable[None] | None"]

#: Bytes that ``send`` may leave in the transport; beyond it the pump writes, which waits for the socket.
_DIRECT = 256 << 10
#: Connections in a row that brought garbage and nothing else, after which it is no accident.
_GARBLED = 5


class LinkDriver:
    """Everything is called, and calls, on the thread of one loop.

    ``dialer`` opens the websocket, and may have sent on it what comes before all else. ``on_payload(lane, payload)`` gets
    payloads in order; if it returns an awaitable for one of the DATA lane, the next of that lane waits until it is done, and
    the peer stops once its window is full, while CONTROL goes on. ``on_notice(message)`` gets what the gateway says
    beside the link. ``on_state(state, detail)``: "connecting", "connected" (to the gateway), "attached" (to the peer;
    payloads flow), "detached", "dropped" (``detail`` says why), "ended". ``give_up``, ``ack_delay`` and ``backoff`` (first
    and longest pause between attempts) in seconds; ``high_water`` in bytes."""

    def __init__(
        self,
        dialer: Dialer,
        link: Link,
        on_payload: OnPayload,
        on_notice: Callable[[AnyMessage], None] | None = None,
        on_state: Callable[[State, str], None] | None = None,
        *,
        session: str = "",
        give_up: float = 300.0,
        high_water: int = 32 << 20,
        ack_delay: float = 0.01,
        backoff: tuple[float, float] = (0.05, 5.0),
    ) -> None:
        self.link = link
        self.session = session
        self._on_payload = on_payload
        self._on_notice = on_notice or (lambda message: None)
        self._on_state = on_state or (lambda state, detail: None)
        self._high_water = high_water
        self._ack_delay = ack_delay
        self._connection: Connection | None = None
        self._attached = False
        self._garbled = 0  # connections in a row that ended in garbage, without a payload before
        self._writable = asyncio.Event()  # work for the pump
        self._moved = asyncio.Event()  # the backlog shrank, or there is no more hope that it will
        self._closing = asyncio.Event()
        self._redialer = Redialer(dialer, self._closing, session=session, give_up=give_up, backoff=backoff)
        self._ended = asyncio.Event()
        self._running = False
        self._failure: BaseException | None = None
        self._ack_timer: asyncio.TimerHandle | None = None
        self._queue: deque[memoryview] = deque()
        self._consumer: asyncio.Task[None] | None = None

    # ------------------------------------------------------------ for the user of the link

    def send(self, parts: Sequence[BytesLike], lane: Lane = Lane.DATA) -> None:
        """Send a payload; connected or not, it will arrive. Raises what ``Link.send`` raises."""
        self.link.send(parts, lane)
        self._flush()

    def notify(self, message: Message) -> bool:
        """Tell the gateway something beside the link; False: not connected, and it is not kept."""
        if self._connection is None:
            return False
        self._connection.put([envelope.notice(message)])
        return True

    async def drain(self, below: int | None = None) -> None:
        """Wait until at most ``below`` bytes (default: the high-water mark) are not acknowledged. Raises what ended the
        driver, or ``LinkBroken`` if it was closed."""
        limit = self._high_water if below is None else below
        while self.link.backlog > limit or self._ended.is_set():
            if self._ended.is_set():
                raise self._failure or LinkBroken(reason="it was closed")
            self._moved.clear()
            await self._moved.wait()

    async def close(self) -> None:
        """End: ``run()`` returns. What the peer has not acknowledged is lost; ``drain(0)`` first if it matters."""
        self._closing.set()
        if self._running:
            if (connection := self._connection) is not None:
                # The closing handshake waits for a peer that may not read.
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(connection.close(), envelope.WEBSOCKET_OPTIONS["close_timeout"])
                connection.abort()
            await self._ended.wait()
        else:
            self._finish()

    async def run(self) -> None:
        """Connect, and stay connected until ``close()``. Raises what makes going on pointless: what the dialer raised the
        first time, ``SessionLost``, ``SessionNotFound``, ``TokenRefused``, ``ProtocolMismatch``, ``LinkBroken``, the error
        of the gateway's ``SessionEnded``, ``FrameGarbled``, or what a callback raised."""
        self._running = True
        try:
            self._on_state("connecting", "")
            while (connection := await self._redialer.dial()) is not None:
                detail = await self._serve(connection)
                if self._closing.is_set():
                    break
                self._on_state("dropped", detail)
            if self._failure is not None:
                raise self._failure
        except Exception as error:
            self._failure = error
            raise
        finally:
            if self._consumer is not None:
                self._consumer.cancel()
                await asyncio.wait([self._consumer])
            self._running = False
            self._finish()

    # ------------------------------------------------------------ connections

    async def _serve(self, connection: Connection) -> str:
        """Read until the connection drops or the driver is closed; says why it dropped."""
        self._connection = connection
        pump = asyncio.ensure_future(self._pump(connection))
        try:
            self._on_state("connected", "")
            ending = await connection.listen(self._received)
            self._ended_as(ending)
            return ending.why
        except (FrameGarbled, FrameTooLarge) as error:
            self._unreadable(error)
            return error.sentence
        finally:
            self._connection = None
            if self._ack_timer is not None:
                self._ack_timer.cancel()
                self._ack_timer = None
            self._detached()
            pump.cancel()
            await asyncio.wait([pump])
            connection.abort()
            await connection.wait_closed()

    def _ended_as(self, ending: Ending) -> None:
        rcvd, sent = ending.rcvd, ending.sent
        if sent is not None and sent.code in _UNREADABLE and not ending.theirs_first:
            self._unreadable(FrameGarbled(reason=sent.reason or "a websocket frame that is not one"))
        if rcvd is not None and rcvd.code == envelope.TAKEN_OVER:  # the two would throw each other out for ever
            raise SessionLost(session=self.session, reason=rcvd.reason)

    def _unreadable(self, error: WireError) -> None:
        """A new connection mends an accident, and nothing else."""
        self._garbled += 1
        _log.warning("%s: %s", self.session or "link", error)
        if self._garbled >= _GARBLED:
            raise error

    def _fail(self, error: Exception) -> None:
        """End ``run()`` with an error that came up outside of it."""
        self._failure = error
        self._closing.set()
        if self._connection is not None:
            self._connection.abort()

    def _finish(self) -> None:
        self._queue.clear()
        self.link.close()
        if not self._ended.is_set():
            self._ended.set()
            self._moved.set()
            self._on_state("ended", "" if self._failure is None else str(self._failure))

    # ------------------------------------------------------------ reading

    def _received(self, data: Data) -> None:
        found = envelope.open_envelope(data)
        if isinstance(found, memoryview):
            payloads = self.link.receive(found)
            if not self._attached and self.link.is_resumed:
                self._attached = True
                self._on_state("attached", "")
            if payloads:
                self._garbled = 0
            for lane, payload in payloads:
                self._deliver(lane, payload)
            self._moved.set()
        else:
            self._noticed(found)
        self._redialer.good()
        self._flush()
        if self.link.owes_ack and self._ack_timer is None:
            # A little later: most often an answer goes out first, and carries it.
            self._ack_timer = asyncio.get_running_loop().call_later(self._ack_delay, self._acknowledge)

    def _noticed(self, message: AnyMessage) -> None:
        if isinstance(message, PeerAttached):
            self._detached()
            self.link.attached()
        elif isinstance(message, PeerDetached):
            self._detached(message.reason)
        self._on_notice(message)
        if isinstance(message, SessionEnded):
            raise from_record(message.error)

    def _detached(self, reason: str = "") -> None:
        self.link.detached()
        if self._attached:
            self._attached = False
            self._on_state("detached", reason)

    def _acknowledge(self) -> None:
        self._ack_timer = None
        self.link.acknowledge()
        try:
            self._flush()
        except Exception as error:
            self._fail(error)

    def _deliver(self, lane: Lane, payload: memoryview) -> None:
        if lane is Lane.DATA and self._consumer is not None:
            self._queue.append(payload)
            return
        taking = self._on_payload(lane, payload)
        if taking is None:
            return
        if lane is Lane.CONTROL:
            raise TypeError("on_payload returned an awaitable for a CONTROL payload, which must never wait")
        self.link.hold()
        self._consumer = asyncio.ensure_future(self._consume(taking))

    async def _consume(self, taking: Awaitable[None]) -> None:
        """Wait for a slow taker, and give it what came meanwhile."""
        try:
            await taking
            while self._queue:
                more = self._on_payload(Lane.DATA, self._queue.popleft())
                if more is not None:
                    await more
            self._consumer = None
            self.link.release()
            self._flush()
        except Exception as error:
            self._fail(error)

    # ------------------------------------------------------------ writing

    def _flush(self) -> None:
        """Write what may be written, as far as the transport takes it without growing."""
        connection = self._connection
        if connection is None:
            return
        while connection.pending < _DIRECT:
            frames = self.link.frames(1)
            if not frames:
                return
            for parts in frames:
                connection.put([envelope.FRAME, *parts])
        self._writable.set()

    async def _pump(self, connection: Connection) -> None:
        try:
            while True:
                await self._writable.wait()
                self._writable.clear()
                await connection.room()
                while connection.ending is None and (frames := self.link.frames(1)):
                    for parts in frames:
                        connection.put([envelope.FRAME, *parts])
                    await connection.room()
        except Exception as error:
            self._fail(error)


#: Close codes for what could not be read: protocol error, bad text, too big.
_UNREADABLE = (1002, 1007, 1009)
