"""The client's side of a gateway: blocking calls for the notebook's main thread, all I/O on one daemon thread."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from .config import JupyterGPU, load
from .iothread import IoThread
from .rpc import Rpc, check_versions
from .transport.dial import dial
from .transport.driver import LinkDriver
from .wire.codec import decode, encode, size_of
from .wire.errors import GatewayUnreachable, JupyterGpuError, LinkBroken, SessionLost, WorkerDied, from_record
from .wire.link import Lane, Link
from .wire.messages import (
    AnyMessage,
    Applied,
    CellDone,
    Done,
    ErrorRecord,
    Fetch,
    Fetched,
    GetInventory,
    Gpu,
    Interrupt,
    Inventory,
    Kept,
    KernelExited,
    KernelHello,
    ListSessions,
    Message,
    Offer,
    Opened,
    OpenSession,
    RunCell,
    SessionInfo,
    Sessions,
    SessionState,
    StopSession,
    Versions,
    Want,
    Wanted,
    Welcome,
)
from .wire.spool import Spool

T = TypeVar("T")
_USABLE = (SessionState.READY, SessionState.BUSY, SessionState.IDLE)
_OVER = (SessionState.LOST, SessionState.ENDED)

#: Bytes not acknowledged beyond which ``Session.send`` waits.
_HIGH = 32 << 20
#: Seconds for an answer to a request.
_ANSWER = 30.0
#: Times that one's own gateway is looked for, or started, before that is given up.
_ATTEMPTS = 8


class Gateway:
    """A connection to a gateway. ``Gateway.connect()`` gives one per address."""

    _open: dict[tuple[int, str], Gateway] = {}

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._token = token
        self._io = IoThread.get()
        self._sessions: dict[str, Session] = {}
        self._rpc = Rpc(url, token, self._changed)
        self._watchers: dict[str, SimpleQueue[tuple[SessionInfo, ErrorRecord | None]]] = {}
        self._last: dict[str, tuple[SessionInfo, ErrorRecord | None]] = {}
        self.closed = False
        self._own: JupyterGPU | None = None  #: set: this is one's own gateway, and is started again if it dies

    @classmethod
    def connect(cls, config: JupyterGPU | None = None, *, start: bool = True) -> Gateway:
        """The gateway that ``config`` names, else one's own; ``start``: start that if it does not run. Raises
        ``GatewayUnreachable``, ``GatewayStartFailed``, ``TokenRefused``, ``TokenFileExposed``, ``ProtocolMismatch``."""
        config = config or load()
        for attempt in range(_ATTEMPTS):
            try:
                return cls._connect(config, start)
            except GatewayUnreachable:
                # One's own gateway may be ending, or be started again by another notebook, at this very moment.
                if config.gateway or not start or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.2)
        raise AssertionError("unreachable")

    @classmethod
    def _connect(cls, config: JupyterGPU, start: bool) -> Gateway:
        if config.gateway:
            url, token = config.gateway, config.token
        else:
            from . import embedded

            found = embedded.find_or_start(config) if start else embedded.find(config)
            if found is None:
                raise GatewayUnreachable(url="your own gateway", reason="none runs; the first %%remote cell starts it")
            url, token = found.url, found.token
        known = cls._open.get((os.getpid(), url))
        if known is not None and not known.closed and known.alive:
            return known
        gateway = cls(url, token)
        gateway._own = None if config.gateway else config
        gateway._io.call(gateway._rpc.connect())
        cls._open[(os.getpid(), url)] = gateway
        return gateway

    @property
    def alive(self) -> bool:
        """Whether the connection for requests stands."""
        return self._rpc.alive

    @property
    def welcome(self) -> Welcome:
        assert self._rpc.welcome is not None
        return self._rpc.welcome

    def close(self) -> None:
        """Leave the gateway; sessions go on until their time is over."""
        self.closed = True
        for session in list(self._sessions.values()):
            session.close()
        self._io.call(self._rpc.close(), _ANSWER)
        self._open.pop((os.getpid(), self.url), None)

    # ------------------------------------------------------------ requests

    def _ask(self, make: Callable[[int], Message], kind: type[T]) -> T:
        async def ask() -> AnyMessage:
            if not self._rpc.alive:
                await self._rpc.connect()  # it was restarted, or the laptop slept
            return await asyncio.wait_for(self._rpc.request(make), _ANSWER)

        try:
            answer = self._io.call(ask())
        except GatewayUnreachable:
            if self._own is None or self.closed:
                raise
            self._revive(self._own)  # once more: the one that was asked may have been ending
            answer = self._io.call(ask())
        except asyncio.TimeoutError:
            raise GatewayUnreachable(url=self.url, reason=f"no answer within {_ANSWER:g} seconds") from None
        assert isinstance(answer, kind)
        return answer

    def sessions(self) -> list[SessionInfo]:
        return self._ask(lambda i: ListSessions(id=i), Sessions).sessions

    def inventory(self) -> list[Gpu]:
        return self._ask(lambda i: GetInventory(id=i), Inventory).gpus

    def stop(self, session_id: str, kill: bool = False) -> None:
        """End a session. Raises ``SessionNotFound``."""
        self._ask(lambda i: StopSession(id=i, session_id=session_id, kill=kill), Done)

    def open(
        self,
        key: str,
        wanted: Sequence[Wanted],
        *,
        idle: float = 0.0,
        owner: str = "",
        cwd: str = "",
        interpreter: str = "",
        env: dict[str, str] | None = None,
        on_change: Callable[[SessionInfo], None] | None = None,
    ) -> Session:
        """The session of this key, connected. Blocks until it is ready; ``on_change`` hears of each phase on this thread. An interrupt
        gives up, and ends a session that this call created. Raises ``NoSuchHardware``, ``PythonMismatch``, ``WorkerError``s."""
        import sys

        changes: SimpleQueue[tuple[SessionInfo, ErrorRecord | None]] = SimpleQueue()

        def request(i: int) -> Message:
            return OpenSession(
                id=i,
                key=key,
                wanted=list(wanted),
                idle=idle,
                cwd=cwd,
                interpreter=interpreter or sys.executable,
                env=env or {},
                owner=owner,
            )

        opened = self._ask(request, Opened)
        session_id = opened.session.session_id
        try:
            self._io.call(self._watch(session_id, changes))
            info = self._wait_ready(opened.session, changes, on_change)
            check_versions(info.versions)
            session = Session(self._io, self.url, self._token, info, self._kill)
            self._sessions[session_id] = session
            session.start()
            return session
        except BaseException:
            if opened.created:
                try:
                    self.stop(session_id, kill=True)
                except JupyterGpuError:
                    pass  # it has ended already, which is why we are here
            raise
        finally:
            self._watchers.pop(session_id, None)

    async def _watch(self, session_id: str, changes: SimpleQueue[tuple[SessionInfo, ErrorRecord | None]]) -> None:
        self._watchers[session_id] = changes
        if session_id in self._last:
            changes.put(self._last[session_id])

    def _wait_ready(
        self,
        info: SessionInfo,
        changes: SimpleQueue[tuple[SessionInfo, ErrorRecord | None]],
        on_change: Callable[[SessionInfo], None] | None,
    ) -> SessionInfo:
        while True:
            if on_change is not None:
                on_change(info)
            if info.state in _USABLE:
                return info
            info, error = changes.get()
            if error is not None:
                raise from_record(error)
            if info.state in _OVER:
                raise SessionLost(session=info.session_id, reason=info.reason)

    def _revive(self, config: JupyterGPU) -> None:
        """One's own gateway died under running sessions: start it again, so that they are found again. Their workers live on."""
        from . import embedded

        failure: Exception | None = None
        for _ in range(_ATTEMPTS):
            try:
                embedded.find_or_start(config)
                if not self._rpc.alive:
                    self._io.call(self._rpc.connect(), _ANSWER)
                return
            except (JupyterGpuError, OSError) as error:
                failure = error
                time.sleep(0.25)  # its process may be ending still, and answer no more
        assert failure is not None
        for session in list(self._sessions.values()):
            self._io.loop.call_soon_threadsafe(session._fail, failure)

    def _kill(self, session_id: str) -> None:
        self.stop(session_id, kill=True)

    def _changed(self, info: SessionInfo | None, error: ErrorRecord | None) -> None:
        """On the I/O thread. ``info`` None: the connection is gone."""
        if info is None:
            for session_id, watcher in self._watchers.items():
                lost = GatewayUnreachable(url=self.url, reason="the connection was lost while a session started").to_record()
                watcher.put((SessionInfo(session_id=session_id, key="", state=SessionState.LOST, label="", created=0.0), lost))
            if self._own is not None and self._sessions and not self.closed:
                threading.Thread(target=self._revive, args=(self._own,), name="jupyter-gpu restart", daemon=True).start()
            return
        self._last[info.session_id] = (info, error)
        listening = self._watchers.get(info.session_id)
        if listening is not None:
            listening.put((info, error))
        session = self._sessions.get(info.session_id)
        if session is not None:
            session.changed(info)
        if info.state in _OVER:
            self._sessions.pop(info.session_id, None)


class Session:
    """A remote kernel, through its link. ``send`` and ``receive`` for one thread at a time; messages that come while no cell runs and
    nothing is being fetched go to ``listener``, on the I/O thread."""

    def __init__(self, io: IoThread, url: str, token: str, info: SessionInfo, kill: Callable[[str], None]) -> None:
        self._io = io
        self.info = info
        self.hello: KernelHello | None = None
        self.listener: Callable[[AnyMessage, list[memoryview]], None] | None = None
        self._kill = kill
        self._inbox: SimpleQueue[tuple[AnyMessage, list[memoryview]] | BaseException] = SimpleQueue()
        self._attended = False  #: somebody waits in ``receive``, or is about to
        self._run_id = ""  #: of the cell that an interrupt is meant for
        self._failure: BaseException | None = None
        self.state = "connecting"
        # Bytes: what a thread hands over is not in the backlog before the other thread has taken it. Each counts for itself.
        self._handed = 0
        self._taken = 0

        async def dialer() -> Any:
            return await dial(url, f"/v1/sessions/{info.session_id}/link", token)

        self._driver = LinkDriver(
            dialer, Link(spool=Spool()), self._received, None, self._on_state, session=info.session_id, high_water=_HIGH
        )

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self._run(), self._io.loop)

    @property
    def versions(self) -> Versions | None:
        return self.hello.versions if self.hello is not None else self.info.versions

    # ------------------------------------------------------------ on the I/O thread

    async def _run(self) -> None:
        try:
            await self._driver.run()
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise
        else:
            self._fail(SessionLost(session=self.info.session_id, reason="it was closed"))

    def _on_state(self, state: str, detail: str) -> None:
        self.state = state

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            self._inbox.put(error)

    def _received(self, lane: Lane, payload: memoryview) -> None:
        message, buffers = decode(payload)
        if isinstance(message, KernelHello):
            self.hello = message
        elif isinstance(message, KernelExited):
            self._fail(WorkerDied(exit=message.code, detail=message.detail))
        elif self._attended:
            if isinstance(message, (CellDone, Fetched, Kept, Want)):
                self._attended = False
            self._inbox.put((message, buffers))
        elif self.listener is not None:
            self.listener(message, buffers)

    def changed(self, info: SessionInfo) -> None:
        self.info = info

    def _send(self, parts: Sequence[Any], lane: Lane) -> None:
        self._taken += size_of(parts)
        try:
            self._driver.send(parts, lane)
        except JupyterGpuError as error:
            self._fail(error)

    # ------------------------------------------------------------ for the notebook's thread

    def send(self, message: Message, buffers: Sequence[Any] = (), control: bool = False) -> None:
        """Send a message; it arrives, whatever happens to the connection. Blocks while too much is on its way. Raises what ended the
        session."""
        if self._failure is not None:
            raise self._failure
        if isinstance(message, Offer) or (isinstance(message, Applied) and (message.missing or message.again)):
            self._attended = True
        elif isinstance(message, (RunCell, Fetch)):
            self._attended = True
            self._run_id = message.run_id if isinstance(message, RunCell) else ""
        parts = encode(message, buffers)
        self._handed += size_of(parts)
        self._io.loop.call_soon_threadsafe(self._send, parts, Lane.CONTROL if control else Lane.DATA)
        if buffers and not control and self._handed - self._taken + self._driver.link.backlog > _HIGH:
            try:
                self._io.call(self._driver.drain())
            except LinkBroken:
                raise self._failure or SessionLost(session=self.info.session_id, reason="it was closed") from None

    def receive(self, timeout: float | None = None) -> tuple[AnyMessage, list[memoryview]] | None:
        """The next message; None if there is none within ``timeout`` seconds. Raises ``WorkerDied``, ``SessionLost`` and what else ended
        the session. An interrupt loses nothing."""
        try:
            got = self._inbox.get(timeout=timeout)
        except Empty:
            return None
        if isinstance(got, BaseException):
            self._inbox.put(got)  # whoever asks next hears it too
            raise got
        return got

    def interrupt(self) -> None:
        """SIGINT to the kernel, ahead of all data."""
        parts = encode(Interrupt(run_id=self._run_id))
        self._handed += size_of(parts)
        self._io.loop.call_soon_threadsafe(self._send, parts, Lane.CONTROL)

    def kill(self) -> None:
        """End the session at once; whoever waits in ``receive`` hears of it."""
        try:
            self._kill(self.info.session_id)
        except JupyterGpuError as error:
            self._fail(error)

    def close(self) -> None:
        """Give up the connection; the session goes on at the gateway until its time is over."""
        asyncio.run_coroutine_threadsafe(self._driver.close(), self._io.loop)
