"""The client's side of a gateway: blocking calls for the notebook's main thread, all I/O on one daemon thread."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeVar

from .config import JupyterGPU, load
from .iothread import IoThread
from .rpc import Rpc, check_versions
from .session import Session
from .wire.errors import GatewayUnreachable, JupyterGpuError, SessionLost, from_record
from .wire.messages import (
    OVER,
    USABLE,
    AnyMessage,
    Done,
    ErrorRecord,
    GetInventory,
    Gpu,
    Inventory,
    ListSessions,
    Message,
    Opened,
    OpenSession,
    SessionInfo,
    Sessions,
    SessionState,
    StopSession,
    Wanted,
    Welcome,
)

T = TypeVar("T")

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
            if info.state in USABLE:
                return info
            info, error = changes.get()
            if error is not None:
                raise from_record(error)
            if info.state in OVER:
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
            session.info = info
        if info.state in OVER:
            self._sessions.pop(info.session_id, None)
