"""The gateway as a program: options, listening, and which handler a connection gets. Wiring only."""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from jupyter_gpu._version import __version__
from jupyter_gpu.transport.address import parse
from jupyter_gpu.transport.connection import Connection, ConnectionClosed
from jupyter_gpu.transport.envelope import SUBPROTOCOL, TAKEN_OVER, open_envelope
from jupyter_gpu.wire.errors import FrameGarbled, JupyterGpuError, ProtocolMismatch, SessionLost
from jupyter_gpu.wire.messages import (
    PROTOCOL,
    Activity,
    AnyMessage,
    Assigned,
    Failed,
    PeerDetached,
    Release,
    SessionInfo,
    Welcome,
    WorkerFailed,
    WorkerHello,
)

from .auth import Keys, bearer
from .backends.process import PRELOAD, ProcessBackend
from .fleet import state
from .fleet.manager import Manager
from .inventory import real_gpus, simulated_gpus
from .listening import listening
from .relay import forward, tell
from .rpc import RpcConnection
from .shared_cache import prepare as shared_cache_of
from .store import Store

_log = logging.getLogger(__name__)

#: Close codes of websockets' own for what could not be read: protocol error, too big.
_UNREADABLE = (1002, 1009)
#: Close code for a message that is none of ours, and how many characters of a reason go with it.
_INVALID = 1007
_REASON = 100

OnChange = Callable[[SessionInfo, "JupyterGpuError | None"], None]


class Gateway:
    """One gateway. ``url`` as in ``transport.address``; ``own``: of the user's own, on the machine of the notebooks."""

    def __init__(
        self,
        url: str,
        token: str,
        folder: Path,
        *,
        own: bool = False,
        simulate: str = "",
        standby: int = 1,
        alone: float = 60.0,
        lease: float = 300.0,
        exit_when_idle: float = 0.0,
        preload: list[str] | None = None,
        zygote: subprocess.Popen[bytes] | None = None,
        shared_cache: Path | None = None,
        shared_cache_size: int = 0,
    ) -> None:
        self.address = parse(url, "--url")
        self.own = own
        self.keys = Keys(token)
        self.store = Store(folder / "gateway.sqlite")
        self.gateway_id = "g-" + secrets.token_hex(6)
        self.exit_when_idle = exit_when_idle
        gpus, self.warnings = real_gpus()
        self.gpus = [*gpus, *simulated_gpus(simulate)]
        self._worker_env, unusable = shared_cache_of(shared_cache, shared_cache_size)
        self.notes = [unusable] if unusable else []  #: for whoever runs it, and not for clients
        for note in self.notes:
            _log.warning("%s", note)
        self.rpc: set[RpcConnection] = set()
        self.links = 0
        self._listeners: list[OnChange] = []
        self._folder = folder
        self._make_backend = lambda on_exit: ProcessBackend(folder, PRELOAD if preload is None else preload, on_exit, zygote)
        self._fleet_options = {"standby": standby, "alone": alone, "lease": lease}
        self._busy_at = time.monotonic()
        self._serving = asyncio.Event()
        self.manager: Manager

    # ------------------------------------------------------------ life

    async def run(self, ready: Callable[[str], None], stop: asyncio.Event) -> None:
        """Listen, call ``ready(url)``, and serve until ``stop`` is set or nobody needs it any more."""
        try:
            async with listening(self.address, self._connected, self._admit) as self.url:
                try:
                    self.manager = self._new_manager()
                    self.manager.on_change = self._changed
                    await self.manager.start()
                    self._serving.set()
                    if self.own:
                        self.manager.handle(state.Warm(""))
                    ready(self.url)
                    await self._until(stop)
                finally:
                    if hasattr(self, "manager"):
                        await self.manager.close()
        finally:
            self.store.close()

    def _new_manager(self) -> Manager:
        return Manager(
            self.gpus,
            self._make_backend,
            self.store,
            self.keys,
            self.url,
            standby=int(self._fleet_options["standby"]),
            alone=self._fleet_options["alone"],
            lease=self._fleet_options["lease"],
            worker_env=self._worker_env,
        )

    async def _until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), 1.0)
            if self.rpc or self.links or self.manager.fleet.sessions:
                self._busy_at = time.monotonic()
            elif self.exit_when_idle and time.monotonic() - self._busy_at >= self.exit_when_idle:
                return

    # ------------------------------------------------------------ who may come in

    async def _admit(self, protocol: ServerProtocol, request: Request) -> Response | None:
        """Before the upgrade: None lets it go on."""
        await self._serving.wait()  # clients of a gateway that was restarted come while it still takes stock
        path = request.path.partition("?")[0]
        if path == "/healthz":
            return protocol.reject(http.HTTPStatus.OK, "ok\n")
        token = bearer(request.headers.get("Authorization"))
        allowed = bool(self.keys.worker_of(token)) if path == "/v1/worker" else self.keys.is_client(token)
        if not allowed:
            return protocol.reject(http.HTTPStatus.UNAUTHORIZED, "The token is not valid here.\n")
        spoken = request.headers.get("Sec-WebSocket-Protocol", "")
        if SUBPROTOCOL not in [p.strip() for p in spoken.split(",")]:
            response = protocol.reject(http.HTTPStatus.UPGRADE_REQUIRED, f"This gateway speaks {SUBPROTOCOL}.\n")
            response.headers["Sec-WebSocket-Protocol"] = SUBPROTOCOL
            return response
        session = _session_of(path)
        found = self.manager.fleet.sessions.get(session)
        if path in ("/v1/rpc", "/v1/worker") or (found is not None and found.state in state.USABLE):
            return None
        return protocol.reject(http.HTTPStatus.NOT_FOUND, "There is nothing here.\n")

    async def _connected(self, socket: Connection) -> None:
        path = socket.path.partition("?")[0]
        try:
            if path == "/v1/rpc":
                await self._rpc(socket)
            elif path == "/v1/worker":
                await self._worker(socket, self.keys.worker_of(bearer(socket.authorization)))
            else:
                await self._client_link(socket, _session_of(path))
        except FrameGarbled as error:
            _log.warning("%s is closed: %s", path, error)
            await socket.close(_INVALID, error.sentence[:_REASON])
        except asyncio.TimeoutError:
            _log.warning("%s is closed: it said nothing", path)
        except ConnectionClosed as error:
            _log.warning("%s: %s", path, error)
        finally:
            closed = socket.ending
            if closed is not None and closed.sent is not None and closed.sent.code in _UNREADABLE and not closed.theirs_first:
                _log.warning("%s was closed: %s", path, closed.sent.reason or f"what came was no websocket message ({closed.sent.code})")

    # ------------------------------------------------------------ handlers

    async def _rpc(self, socket: Connection) -> None:
        connection = RpcConnection(self, socket)
        self.rpc.add(connection)
        try:
            await connection.serve()
        finally:
            self.rpc.discard(connection)
            for session_id in connection.sessions:
                self._watcher_left(session_id)

    def _watcher_left(self, session_id: str) -> None:
        """Nobody waits for a session any more that has no link yet either."""
        pair = self.manager.pairs.get(session_id)
        linked = pair is not None and pair.client is not None
        if not linked and not any(session_id in other.sessions for other in self.rpc):
            self.manager.handle(state.Clients(session_id, 0))

    async def _client_link(self, socket: Connection, session_id: str) -> None:
        session = self.manager.fleet.sessions.get(session_id)
        if session is None:
            return  # it ended in this moment
        pair = self.manager.pair_of_worker(session.worker_id, session_id)
        before, pair.client = pair.client, socket
        if before is not None:
            if pair.worker is not None:
                await tell(pair.worker, PeerDetached(reason="another client took over"))
            self.manager.spawn(before.close(TAKEN_OVER, "another client took over"))
        self.links += 1
        self.manager.handle(state.Clients(session_id, 1))
        try:
            await pair.attached()
            await forward(socket, pair, _ignore)
        finally:
            self.links -= 1
            if pair.client is socket and self.manager.pairs.get(session_id) is pair:  # not that of a worker before a restart
                self.manager.handle(state.Clients(session_id, 0))
            await pair.left(socket, "the notebook's connection closed")

    async def _worker(self, socket: Connection, worker_id: str) -> None:
        hello = open_envelope(await asyncio.wait_for(socket.recv(), 10))
        if not isinstance(hello, WorkerHello):
            raise FrameGarbled(reason="a worker did not begin with WorkerHello")
        if hello.protocol != PROTOCOL:
            there = ProtocolMismatch(here=str(hello.protocol), there=str(PROTOCOL))
            await tell(socket, Failed(id=0, error=there.to_record()))
            self.manager.refuse(worker_id, ProtocolMismatch(here=str(PROTOCOL), there=str(hello.protocol), peer="worker"))
            return
        if self.manager.closing:
            await tell(socket, Release(kill=True))  # it was on its way when the gateway began to end
            return
        came_back = self.manager.is_back(worker_id)
        if came_back and not hello.session_id:  # the gateway was killed before it told the worker whose it is, and in which folder
            self.manager.refuse(worker_id, SessionLost(session=came_back, reason="the gateway was restarted while it started"))
            return
        if hello.session_id and not self.manager.belongs(worker_id, hello.session_id):
            await tell(socket, Release(kill=True))  # its session ended while it was away
            return
        pair = self.manager.pair_of_worker(worker_id, hello.session_id)
        pair.worker = socket
        if hello.session_id:
            self.manager.pairs[hello.session_id] = pair
            self.manager.handle(state.WorkerBack(worker_id, hello.versions, hello.kernel_pid, hello.busy))
        else:
            self.manager.handle(state.WorkerReady(worker_id, hello.versions, hello.kernel_pid))
        try:
            await pair.attached()
            await forward(socket, pair, lambda message: self._from_worker(worker_id, message))
        finally:
            await pair.left(socket, "the worker's connection closed")

    async def _from_worker(self, worker_id: str, message: AnyMessage) -> None:
        if isinstance(message, Activity):
            worker = self.manager.fleet.workers.get(worker_id)
            if worker is not None:
                self.manager.handle(state.Activity(worker.session_id, message.busy))
        elif isinstance(message, Assigned):
            self.manager.handle(state.WorkerAssigned(worker_id))
        elif isinstance(message, WorkerFailed):
            from jupyter_gpu.wire.errors import from_record

            self.manager.handle(state.WorkerGone(worker_id, from_record(message.error)))

    # ------------------------------------------------------------ what clients hear

    def welcome(self) -> Welcome:
        return Welcome(
            protocol=PROTOCOL,
            software=__version__,
            gateway_id=self.gateway_id,
            own=self.own,
            simulated=any(g.simulated for g in self.gpus),
        )

    def _changed(self, info: SessionInfo, error: JupyterGpuError | None) -> None:
        for listener in self._listeners:
            listener(info, error)
        for connection in self.rpc:
            connection.changed(info, error)

    @contextlib.contextmanager
    def listening(self, listener: OnChange) -> Iterator[None]:
        """Call ``listener`` for changes inside of the block."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)


async def _ignore(message: AnyMessage) -> None:
    """A client has nothing to tell the gateway beside its link."""


def _session_of(path: str) -> str:
    parts = path.strip("/").split("/")
    return parts[2] if len(parts) == 4 and parts[:2] == ["v1", "sessions"] and parts[3] == "link" else ""
