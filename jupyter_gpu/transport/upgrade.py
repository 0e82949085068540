"""The handshake before a websocket, by the ``websockets`` library's sans-I/O protocols, on sockets of our own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from websockets.client import ClientProtocol
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from .envelope import SUBPROTOCOL
from .raw import RawConnection

_log = logging.getLogger(__name__)

#: Bytes of a unix socket's buffers: a largest message and a half. (TCP finds its own.)
_BUFFERS = 1 << 20
_HEAD = 64 << 10
_END = b"\r\n\r\n"

#: Before the upgrade: an answer that refuses, or None. ``ServerProtocol.reject`` makes one.
Admit = Callable[[ServerProtocol, Request], Awaitable[Response | None]]


T = TypeVar("T", bound="RawConnection | None")


async def within(seconds: float, opening: Coroutine[Any, Any, T]) -> T:
    """Its result. Raises ``asyncio.TimeoutError``, and what it raises. Unlike ``wait_for`` before Python 3.12, this loses no connection
    that was opened at the very moment at which time was up."""
    task = asyncio.ensure_future(opening)
    try:
        await asyncio.wait([task], timeout=seconds)
    except BaseException:
        task.add_done_callback(_abort)  # nobody will use it
        raise
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
    if task.cancelled():
        raise asyncio.TimeoutError
    return task.result()


def _abort(task: asyncio.Task[T]) -> None:
    if not task.cancelled() and task.exception() is None and (opened := task.result()) is not None:
        opened.abort()


async def connect_socket(host: str, port: int, path: str = "") -> socket.socket:
    """A connected, non-blocking socket: to a unix socket's ``path``, or over TCP. Raises ``OSError``."""
    loop = asyncio.get_running_loop()
    if path:
        found = [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", path)]
    else:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)  # type: ignore[assignment]
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = failure or error
        except BaseException:
            sock.close()
            raise
        else:
            return prepared(sock)
    raise failure or OSError("no address")


def prepared(sock: socket.socket) -> socket.socket:
    """Small messages go out at once, and large ones in few pieces."""
    if sock.family == getattr(socket, "AF_UNIX", None):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFERS)
    else:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


async def ask(sock: socket.socket, url: str, token: str, *, hidden: bool) -> RawConnection:
    """The client's side. Takes ``sock`` over. Raises ``OSError`` and ``websockets.exceptions.InvalidHandshake``."""
    loop = asyncio.get_running_loop()
    try:
        protocol = ClientProtocol(parse_uri(url), subprotocols=[SUBPROTOCOL], max_size=None)
        request = protocol.connect()
        request.headers["Authorization"] = f"Bearer {token}"
        protocol.send_request(request)
        await loop.sock_sendall(sock, b"".join(protocol.data_to_send()))
        rest = await _answered(protocol, sock)
        return RawConnection(sock, server=False, rest=rest, hidden=hidden, subprotocol=protocol.subprotocol)
    except BaseException:
        sock.close()
        raise


async def _answered(protocol: ClientProtocol, sock: socket.socket) -> bytes:
    """Read the answer; what came behind it."""
    loop = asyncio.get_running_loop()
    head, ended = bytearray(), False
    while protocol.handshake_exc is None:
        data = await loop.sock_recv(sock, _HEAD)
        if not data:
            protocol.receive_eof()
            if protocol.handshake_exc is None:
                raise EOFError("it closed the connection in the middle of its answer")
            break
        if ended:
            protocol.receive_data(data)  # the text of a refusal
            continue
        before = len(head)
        head += data
        at = head.find(_END, max(0, before - 3))
        ended = at >= 0
        upto = at + len(_END) if ended else len(head)
        protocol.receive_data(bytes(head[before:upto]))
        if protocol.state is State.OPEN:
            return bytes(head[upto:])
        if ended and upto < len(head) and protocol.handshake_exc is None:
            protocol.receive_data(bytes(head[upto:]))
    assert protocol.handshake_exc is not None
    raise protocol.handshake_exc


async def answer(sock: socket.socket, admit: Admit) -> RawConnection | None:
    """The server's side; None: it was refused, and is closed. Takes ``sock`` over."""
    upgraded = False
    try:
        prepared(sock)
        loop = asyncio.get_running_loop()
        protocol = ServerProtocol(subprotocols=[SUBPROTOCOL], max_size=None)
        head = bytearray()
        rest = b""
        while not (events := protocol.events_received()):
            data = await loop.sock_recv(sock, _HEAD)
            if not data or protocol.handshake_exc is not None:
                await _refuse(protocol, sock)
                return None
            before = len(head)
            head += data
            at = head.find(_END, max(0, before - 3))
            upto = at + len(_END) if at >= 0 else len(head)
            rest = bytes(head[upto:])
            protocol.receive_data(bytes(head[before:upto]))
            if protocol.handshake_exc is not None:
                await _refuse(protocol, sock)
                return None
        request = events[0]
        assert isinstance(request, Request)
        response = await _admitted(protocol, request, admit)
        protocol.send_response(response)
        if protocol.state is not State.OPEN:
            await _refuse(protocol, sock)
            return None
        await loop.sock_sendall(sock, b"".join(protocol.data_to_send()))
        connection = RawConnection(sock, server=True, rest=rest, subprotocol=protocol.subprotocol)
        connection.path = request.path
        connection.authorization = request.headers.get("Authorization") or ""
        upgraded = True
        return connection
    finally:
        if not upgraded:
            sock.close()


async def _admitted(protocol: ServerProtocol, request: Request, admit: Admit) -> Response:
    try:
        return await admit(protocol, request) or protocol.accept(request)
    except Exception:
        _log.exception("a request for %s", request.path)
        return protocol.reject(500, "Failed to open a WebSocket connection.\n")


async def _refuse(protocol: ServerProtocol, sock: socket.socket) -> None:
    """Send the refusal, and wait until the other end has gone: closing at once would take it back."""
    loop = asyncio.get_running_loop()
    if data := b"".join(protocol.data_to_send()):
        await loop.sock_sendall(sock, data)
    sock.shutdown(socket.SHUT_WR)
    left = _HEAD
    while left > 0 and (more := await loop.sock_recv(sock, _HEAD)):
        left -= len(more)
