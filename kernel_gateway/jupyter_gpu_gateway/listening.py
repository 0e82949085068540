"""Where a gateway listens: a TCP port, or a unix socket that is this gateway's alone."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import http
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from jupyter_gpu.transport.address import Address
from jupyter_gpu.transport.connection import Connection
from jupyter_gpu.transport.upgrade import Admit, answer, within
from jupyter_gpu.wire.errors import BadOptionValue, GatewayStartFailed

_log = logging.getLogger(__name__)

Handler = Callable[[Connection], Awaitable[None]]

#: Seconds for whoever listens at a socket to take a connection; one that is that slow is there all the same.
_PROBE = 2.0
#: Seconds for a client to ask for what it wants.
_OPEN = 10.0
#: Seconds before the next try, if no connection can be taken (too many are open).
_PAUSE = 0.5
#: Close codes: this end goes away; the handler failed.
_GOING_AWAY, _FAILED = 1001, 1011


@contextlib.asynccontextmanager
async def listening(address: Address, handler: Handler, admit: Admit) -> AsyncIterator[str]:
    """Serve inside of the block; gives the URL. Raises ``BadOptionValue``, ``GatewayStartFailed`` (another gateway answers there) and
    ``OSError``. A socket of a gateway that is dead is taken over."""
    sockets = [_take(address.socket)] if address.socket else await _bind(address)
    ours = os.stat(address.socket).st_ino if address.socket else 0
    server = Server(sockets, handler, admit)
    try:
        yield f"unix://{address.socket}" if address.socket else _url_of(sockets[0])
    finally:
        await server.close()
        if address.socket:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(address.socket).st_ino == ours:  # else somebody has replaced it, and listens there
                    os.unlink(address.socket)


class Server:
    """Takes connections from listening sockets, and ends them when it is closed."""

    def __init__(self, sockets: list[socket.socket], handler: Handler, admit: Admit) -> None:
        self._sockets = sockets
        self._handler = handler
        self._admit = admit
        self._closing = False
        self._open: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: set[asyncio.Task[None]] = set()  # of these, the ones that are not connected yet
        self._accepting = [asyncio.ensure_future(self._accept(sock)) for sock in sockets]

    async def close(self) -> None:
        """Returns when all connections and their handlers have ended."""
        self._closing = True
        for task in (*self._accepting, *self._asking):
            task.cancel()
        await asyncio.wait(self._accepting)
        for sock in self._sockets:
            sock.close()
        if self._open:
            await asyncio.wait([asyncio.ensure_future(connection.close(_GOING_AWAY)) for connection in self._open])
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            except OSError as error:
                _log.warning("no connection can be taken: %s", error)
                await asyncio.sleep(_PAUSE)
                continue
            sock.setblocking(False)
            self._tasks.add(task := asyncio.ensure_future(self._serve(sock)))
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket) -> None:
        if self._closing:
            sock.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._asking.add(task)
        try:
            connection = await within(_OPEN, answer(sock, self._answer))
        except (OSError, asyncio.TimeoutError):
            return
        finally:
            self._asking.discard(task)
        if connection is None:
            return
        self._open.add(connection)
        code = 1000
        try:
            if not self._closing:
                await self._handler(connection)
        except Exception:
            _log.exception("a connection to %s", connection.path)
            code = _FAILED
        finally:
            await connection.close(_GOING_AWAY if self._closing else code)
            self._open.discard(connection)

    async def _answer(self, protocol: ServerProtocol, request: Request) -> Response | None:
        if self._closing:
            return protocol.reject(http.HTTPStatus.SERVICE_UNAVAILABLE, "The gateway is shutting down.\n")
        return await self._admit(protocol, request)


async def _bind(address: Address) -> list[socket.socket]:
    host, _, port = address.base.partition("://")[2].partition("/")[0].rpartition(":")
    if not address.base.startswith("ws://") or not port.isdigit():
        expected = "ws://HOST:PORT or unix:///PATH (for wss://, put a proxy before it)"
        raise BadOptionValue(option="--url", value=str(address), expected=expected)
    found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, place in dict.fromkeys((entry[0], entry[4]) for entry in found):
            sock = socket.create_server(place, family=family, backlog=100)  # with SO_REUSEADDR
            sockets.append(sock)
            sock.setblocking(False)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _url_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"


def _take(path: str) -> socket.socket:
    """A socket of ours at ``path``, listening; only its owner may connect."""
    with _alone_in(Path(path).parent):
        _clear(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            sock.bind(path)
            sock.listen(100)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        finally:
            os.umask(before)
    return sock


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Of two gateways that find the same dead socket, the second must find the first one's. A lock on the folder leaves no file."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _clear(path: str) -> None:
    """Remove a socket at which nobody listens. Raises ``GatewayStartFailed`` if somebody does, or if it is no socket."""
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise GatewayStartFailed(reason=f"{path} is a file, and no socket; choose another path with --url")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            Path(path).unlink(missing_ok=True)
            return
        except TimeoutError:
            pass
    raise GatewayStartFailed(reason=f"another one answers at unix://{path}; stop that, or choose another path with --url")
