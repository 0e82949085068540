"""The kernel at the other end: a session at a gateway and its link, on the caller's loop. One can take the place of another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..rpc import Rpc
from ..transport.connection import Connection
from ..transport.dial import dial
from ..transport.driver import LinkDriver
from ..wire.codec import BytesLike, decode, encode
from ..wire.errors import GatewayUnreachable, JupyterGpuError, SessionLost, from_record
from ..wire.link import Lane, Link
from ..wire.messages import (
    OVER,
    USABLE,
    ErrorRecord,
    Interrupt,
    Jupyter,
    KernelExited,
    KernelHello,
    KernelTerms,
    ListSessions,
    Message,
    Opened,
    OpenSession,
    SessionInfo,
    Sessions,
    StopSession,
    Wanted,
)
from ..wire.spool import Spool
from .gateway import Where

#: Seconds without a connection after which the kernel is lost. A worker gives up earlier, unless the gateway tells it otherwise.
_GIVE_UP = 900.0
#: Seconds for a gateway to answer.
_ANSWER = 30.0
#: Bytes that wait for the other end, beyond which front ends wait.
HIGH = 64 << 20


@dataclass(frozen=True)
class Order:
    """What to ask a gateway for."""

    key: str
    wanted: list[Wanted]
    terms: KernelTerms
    cwd: str = ""
    interpreter: str = ""
    env: dict[str, str] = field(default_factory=dict)
    owner: str = ""
    alone: float = -1.0
    idle: float = 0.0

    def request(self, number: int, anew: bool) -> OpenSession:
        return OpenSession(
            id=number,
            key=self.key,
            wanted=self.wanted,
            kernel=self.terms,
            cwd=self.cwd,
            interpreter=self.interpreter,
            env=self.env,
            owner=self.owner,
            alone=self.alone,
            idle=self.idle,
            anew=anew,
        )


async def end_session(url: str, token: str, key: str) -> None:
    """End the session of this key, if there is one. Raises what asking a gateway raises."""
    rpc = Rpc(url, token, lambda info, error: None)
    await rpc.connect()
    try:
        found = await rpc.request(lambda i: ListSessions(id=i))
        assert isinstance(found, Sessions)
        for session_id in [s.session_id for s in found.sessions if s.key == key]:
            await rpc.request(partial(_stop, session_id))
    finally:
        await rpc.close()


def _stop(session_id: str, number: int) -> StopSession:
    return StopSession(id=number, session_id=session_id, kill=True)


def key_of(session: str) -> str:
    """By which a gateway knows the session of a record."""
    return f"kernel-{session}"


class Remote:
    """``on_message(channel, frames, failures)`` gets what the kernel sends; an awaitable from it holds up the next. ``on_over(error)``:
    the kernel is gone; None: it ended by itself, in order. ``on_news(info)`` hears of a session that starts."""

    def __init__(
        self,
        where: Where,
        on_message: Callable[[str, list[memoryview], int], asyncio.Future[None] | None],
        on_over: Callable[[JupyterGpuError | int], None],
        on_news: Callable[[SessionInfo], None] = lambda info: None,
    ) -> None:
        self._where = where
        self._on_message = on_message
        self._on_over = on_over
        self._on_news = on_news
        self._rpc: Rpc | None = None
        self._news: asyncio.Queue[tuple[SessionInfo | None, ErrorRecord | None]] = asyncio.Queue()
        self._over = False
        self.up = asyncio.Event()  #: a kernel that was started for this session answers, or has ended
        self._closing = False
        self._running: asyncio.Task[None] | None = None
        self.info: SessionInfo
        self.order: Order
        self.created = False
        link = Link(spool=Spool())
        link.expect_heirs()
        self.driver = LinkDriver(self._dial, link, self._received, give_up=_GIVE_UP, high_water=HIGH)

    # ------------------------------------------------------------ opening

    async def open(self, order: Order, *, anew: bool = False) -> None:
        """Find or create the session, and connect. Returns when the kernel can be talked to. What this call created is ended again if
        it fails. Raises what ``client.Gateway.open`` raises."""
        self.order = order
        opened = await self._ask(lambda i: order.request(i, anew))
        assert isinstance(opened, Opened)
        self.info, self.created = opened.session, opened.created
        self.driver.session = self.info.session_id
        try:
            await self._ready()
        except BaseException:
            if self.created:
                await self.stop(kill=True)
            raise
        self._running = asyncio.ensure_future(self._run())

    async def restart(self) -> None:
        """Ask for a fresh kernel on the same hardware, for whoever opens the session next; this one's end is at hand."""
        self._closing = True
        await self._ask(lambda i: self.order.request(i, True))

    async def _ask(self, make: Callable[[int], Message]) -> Message:
        for attempt in (1, 2):
            try:
                rpc = self._rpc
                if rpc is None or not rpc.alive:
                    url, token = await self._where.now()
                    rpc = self._rpc = Rpc(url, token, lambda info, error: self._news.put_nowait((info, error)))
                    await rpc.connect()
                return await asyncio.wait_for(rpc.request(make), _ANSWER)
            except GatewayUnreachable:
                self._where.failed()
                if attempt == 2:
                    raise
            except asyncio.TimeoutError:
                raise GatewayUnreachable(url=self._where.name, reason=f"no answer within {_ANSWER:g} seconds") from None
        raise AssertionError("unreachable")

    async def _ready(self) -> None:
        info = self.info
        while True:
            self._on_news(info)
            if info.state in USABLE:
                self.info = info
                return
            news, error = await self._news.get()
            if news is None:
                opened = await self._ask(lambda i: self.order.request(i, False))  # the gateway was restarted
                assert isinstance(opened, Opened)
                info = opened.session
            elif news.session_id == info.session_id:
                if error is not None:
                    raise from_record(error)
                if news.state in OVER:
                    raise SessionLost(session=news.session_id, reason=news.reason)
                info = news

    # ------------------------------------------------------------ the link

    async def _dial(self) -> Connection:
        url, token = await self._where.now()
        try:
            return await dial(url, f"/v1/sessions/{self.info.session_id}/link", token)
        except GatewayUnreachable:
            self._where.failed()
            raise

    async def _run(self) -> None:
        try:
            await self.driver.run()
        except JupyterGpuError as error:
            self._gone(error)
        except Exception as error:
            self._gone(SessionLost(session=self.info.session_id, reason=repr(error)))

    def _gone(self, error: JupyterGpuError | int) -> None:
        self.up.set()
        if not self._over and not self._closing:
            self._over = True
            self._on_over(error)

    def _received(self, lane: Lane, payload: memoryview) -> asyncio.Future[None] | None:
        message, frames = decode(payload)
        if isinstance(message, Jupyter):
            return self._on_message(message.channel, frames, message.seen)
        if isinstance(message, KernelHello) and message.whole:
            self.up.set()
        if isinstance(message, KernelExited):
            from ..wire.errors import WorkerDied

            self._gone(0 if message.code == 0 else WorkerDied(exit=message.code, detail=message.detail))
        return None

    def send(self, channel: str, frames: Sequence[BytesLike], seen: int) -> bool:
        """Send a front end's message; True: too much waits, and ``drained`` tells when it does no more. Raises what the link raises."""
        lane = Lane.CONTROL if channel == "control" else Lane.DATA
        self.driver.send(encode(Jupyter(channel=channel, seen=seen), frames), lane)
        return self.driver.link.backlog > HIGH

    async def drained(self) -> None:
        await self.driver.drain(HIGH // 2)

    def signal(self, number: int) -> None:
        """To the kernel and its children, ahead of all else."""
        self.driver.send(encode(Interrupt(number=number)), Lane.CONTROL)

    # ------------------------------------------------------------ ends

    async def stop(self, kill: bool = False) -> None:
        """End the session. One that has ended is no error; one that cannot be reached ends by itself when its time is over."""
        self._closing = True
        with contextlib.suppress(JupyterGpuError, OSError):
            await self._ask(lambda i: StopSession(id=i, session_id=self.info.session_id, kill=kill))

    async def close(self) -> None:
        """Leave; the session goes on."""
        self._closing = True
        await self.driver.close()
        if self._running is not None:
            await asyncio.wait([self._running])
        if self._rpc is not None:
            await self._rpc.close()
