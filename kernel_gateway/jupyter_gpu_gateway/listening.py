"""Where a gateway listens: a TCP port, or a unix socket that is this gateway's alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve
from websockets.http11 import Request, Response

from jupyter_gpu.transport.address import Address
from jupyter_gpu.transport.envelope import SUBPROTOCOL, WEBSOCKET_OPTIONS
from jupyter_gpu.wire.errors import BadOptionValue, GatewayStartFailed

Handler = Callable[[ServerConnection], Awaitable[None]]
Admit = Callable[[ServerConnection, Request], Awaitable[Response | None]]

#: Seconds for whoever listens at a socket to take a connection; one that is that slow is there all the same.
_PROBE = 2.0


@contextlib.asynccontextmanager
async def listening(address: Address, handler: Handler, admit: Admit) -> AsyncIterator[str]:
    """Serve inside of the block; gives the URL. Raises ``BadOptionValue``, ``GatewayStartFailed`` (another gateway answers there) and
    ``OSError``. A socket of a gateway that is dead is taken over."""
    options: dict[str, Any] = {**WEBSOCKET_OPTIONS, "process_request": admit, "subprotocols": [SUBPROTOCOL], "server_header": None}
    if address.socket:
        sock = _take(address.socket)
        ours = os.stat(address.socket).st_ino
        server = await unix_serve(handler, sock=sock, **options)
        url = f"unix://{address.socket}"
    else:
        server = await _serve_tcp(address, handler, options)
        url = _url_of(server)
    try:
        yield url
    finally:
        server.close()
        await server.wait_closed()
        if address.socket:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(address.socket).st_ino == ours:  # else somebody has replaced it, and listens there
                    os.unlink(address.socket)


async def _serve_tcp(address: Address, handler: Handler, options: dict[str, Any]) -> Server:
    host, _, port = address.base.partition("://")[2].partition("/")[0].rpartition(":")
    if not address.base.startswith("ws://") or not port.isdigit():
        expected = "ws://HOST:PORT or unix:///PATH (for wss://, put a proxy before it)"
        raise BadOptionValue(option="--url", value=str(address), expected=expected)
    return await serve(handler, host.strip("[]"), int(port), **options)


def _url_of(server: Server) -> str:
    host, port = next(iter(server.sockets)).getsockname()[:2]
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
