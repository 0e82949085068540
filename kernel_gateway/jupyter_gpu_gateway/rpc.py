"""The RPC websocket of a client: sessions, hardware, and what changes about them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import sys
from typing import TYPE_CHECKING

from jupyter_gpu.transport.connection import Connection, ConnectionClosed, Data
from jupyter_gpu.wire.codec import decode, encode
from jupyter_gpu.wire.errors import FrameGarbled, InternalError, JupyterGpuError, ProtocolMismatch, SessionNotFound
from jupyter_gpu.wire.messages import (
    PROTOCOL,
    AnyMessage,
    Assign,
    Done,
    Failed,
    GetInventory,
    Hello,
    Inventory,
    ListSessions,
    Message,
    Opened,
    OpenSession,
    SessionChanged,
    SessionInfo,
    Sessions,
    StopSession,
)

from .environment import without_private
from .fleet import state
from .fleet.told import info

if TYPE_CHECKING:
    from .app import Gateway

_log = logging.getLogger(__name__)


class RpcConnection:
    """One client. Requests are answered in order; ``SessionChanged`` comes in between, for sessions that it opened."""

    def __init__(self, gateway: Gateway, socket: Connection) -> None:
        self._gateway = gateway
        self._socket = socket
        self.sessions: set[str] = set()  #: that it opened

    async def serve(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            try:
                await self._greet()
                await self._socket.listen(lambda data: self._answer(_decode(data)))
            except JupyterGpuError as error:
                _log.warning("a client is sent away: %s", error)
                await self._send(Failed(id=0, error=error.to_record()))

    async def _greet(self) -> None:
        message = _decode(await asyncio.wait_for(self._socket.recv(), 10))
        if not isinstance(message, Hello):
            raise FrameGarbled(reason=f"a {type(message).__name__} where a Hello was due")
        if message.protocol != PROTOCOL:
            raise ProtocolMismatch(here=str(message.protocol), there=str(PROTOCOL))  # as the client reads it
        await self._send(self._gateway.welcome())

    async def _send(self, message: Message) -> None:
        await self._socket.send(b"".join(encode(message)))

    def changed(self, session: SessionInfo, error: JupyterGpuError | None) -> None:
        """Push a change to this client, if it opened the session."""
        if session.session_id in self.sessions:
            self._socket.put(encode(SessionChanged(session=session, error=None if error is None else error.to_record())))

    async def _answer(self, message: AnyMessage) -> None:
        request = getattr(message, "id", 0)
        try:
            await self._send(await self._do(message))
        except JupyterGpuError as error:
            if not request:
                raise  # it is no request: the connection ends
            await self._send(Failed(id=request, error=error.to_record()))
        except ConnectionClosed:
            raise
        except Exception as error:
            name = secrets.token_hex(4)
            _log.exception("request %s (error %s)", type(message).__name__, name)
            await self._send(Failed(id=request, error=InternalError(id=name, text=repr(error)).to_record()))

    async def _do(self, message: AnyMessage) -> Message:
        manager = self._gateway.manager
        if isinstance(message, OpenSession):
            return self._open(message)
        if isinstance(message, ListSessions):
            return Sessions(id=message.id, sessions=[info(s, manager.fleet) for s in manager.fleet.sessions.values()])
        if isinstance(message, GetInventory):
            return Inventory(id=message.id, gpus=manager.fleet.inventory(), warnings=self._gateway.warnings)
        if isinstance(message, StopSession):
            if message.session_id not in manager.fleet.sessions:
                raise SessionNotFound(session=message.session_id)
            manager.handle(state.Stopped(message.session_id, kill=message.kill, reason="it was stopped"))
            return Done(id=message.id)
        raise FrameGarbled(reason=f"a {type(message).__name__} is no request")

    def _terms(self, message: OpenSession, session_id: str) -> Assign:
        cwd = message.cwd if self._gateway.own else ""
        return Assign(session_id=session_id, env=without_private(message.env), cwd=cwd, kernel=message.kernel)

    def _open(self, message: OpenSession) -> Opened:
        manager = self._gateway.manager
        found = manager.fleet.find(message.key)
        if found is not None:
            self.sessions.add(found.session_id)
            manager.handle(state.Clients(found.session_id, 1))
            if message.anew:
                manager.options[found.session_id] = self._terms(message, found.session_id)
                manager.restart(found.session_id)
            return Opened(id=message.id, session=info(found, manager.fleet), created=False)
        session_id = "s-" + secrets.token_hex(8)
        self.sessions.add(session_id)
        own = self._gateway.own
        manager.options[session_id] = self._terms(message, session_id)
        interpreter = message.interpreter if own and message.interpreter != sys.executable else ""
        failure: list[JupyterGpuError] = []

        def refused(session: SessionInfo, error: JupyterGpuError | None) -> None:
            if error is not None and session.session_id == session_id:
                failure.append(error)

        with self._gateway.listening(refused):
            manager.handle(state.Opened(session_id, message.key, tuple(message.wanted), interpreter, message.idle, message.alone))
        if failure:
            raise failure[0]
        manager.handle(state.Clients(session_id, 1))  # it waits, though it has no link yet
        return Opened(id=message.id, session=info(manager.fleet.sessions[session_id], manager.fleet), created=True)


def _decode(data: Data) -> AnyMessage:
    if isinstance(data, str):
        raise FrameGarbled(reason="text on a binary websocket")
    return decode(data)[0]
