"""Opening a websocket to a gateway, and saying in our own words why that did not work."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl
import urllib.request

from websockets.exceptions import InvalidStatus, NegotiationError, WebSocketException
from websockets.http11 import Response
from websockets.uri import parse_uri

from ..wire.errors import GatewayUnreachable, JupyterGpuError, ProtocolMismatch, SessionNotFound, TokenRefused
from .address import Address, parse
from .connection import Connection
from .envelope import SUBPROTOCOL
from .plain import open_plain
from .raw import RawConnection
from .upgrade import ask, connect_socket, within

_SESSION = re.compile(r"/v1/sessions/([^/]+)/")

#: Set to "websockets": connections are that library's, as they are anyway through a proxy and over TLS.
CARRIER = "JUPYTER_GPU_CARRIER"


async def dial(url: str | Address, path: str, token: str, *, timeout: float = 10.0) -> Connection:
    """An open websocket to ``path`` ("/v1/rpc") of the gateway at ``url``; ``timeout`` in seconds. Raises ``BadOptionValue``,
    ``GatewayUnreachable``, ``TokenRefused``, ``ProtocolMismatch``, ``SessionNotFound``."""
    address = url if isinstance(url, Address) else parse(url)
    connection: Connection
    try:
        if _is_direct(address):
            connection = await within(timeout, _open_raw(address, path, token))
        else:
            connection = await open_plain(address, path, token, timeout)
    except (OSError, EOFError, ValueError, asyncio.TimeoutError, WebSocketException) as error:  # ValueError: websockets 14, of a bad answer
        raise explain(error, address, path, timeout) from error
    if connection.subprotocol != SUBPROTOCOL:
        await connection.close()
        raise ProtocolMismatch(here=SUBPROTOCOL, there="")
    return connection


def _is_direct(address: Address) -> bool:
    """Whether a socket of our own will do."""
    if os.environ.get(CARRIER) == "websockets" or not address.at("").startswith("ws://"):
        return False
    if isinstance(asyncio.get_running_loop(), getattr(asyncio, "ProactorEventLoop", ())):
        return False
    if address.is_local:
        return True
    proxies = urllib.request.getproxies()
    return not any(proxies.get(kind) for kind in ("ws", "socks", "https", "http", "all"))


async def _open_raw(address: Address, path: str, token: str) -> RawConnection:
    url = address.at(path)
    uri = parse_uri(url)
    sock = await connect_socket(uri.host, uri.port, address.socket)
    return await ask(sock, url, token, hidden=address.is_local)


def explain(error: Exception, address: Address, path: str, timeout: float) -> JupyterGpuError:
    """The error of ours that says what ``error``, raised while connecting, means to a person."""
    if isinstance(error, InvalidStatus):
        return _explain_answer(error.response, address, path)
    if isinstance(error, NegotiationError):
        return ProtocolMismatch(here=SUBPROTOCOL, there="")
    return GatewayUnreachable(url=str(address), reason=_reason(error, timeout))


def _explain_answer(response: Response, address: Address, path: str) -> JupyterGpuError:
    status = response.status_code
    if status in (401, 403):
        return TokenRefused(url=str(address))
    if status == 426:
        # Where the list of versions is: in the header that RFC 6455 (4.4) uses for its own, or else in the body.
        told = ", ".join(response.headers.get_all("Sec-WebSocket-Protocol"))
        return ProtocolMismatch(here=SUBPROTOCOL, there=told or bytes(response.body or b"")[:200].decode(errors="replace").strip())
    if status == 404 and (found := _SESSION.search(path)):
        return SessionNotFound(session=found.group(1))
    return GatewayUnreachable(url=str(address), reason=f"what answers there is no gateway, or none that works (HTTP {status})")


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)) and not getattr(error, "errno", None):  # two classes in Python 3.10
        return f"no answer within {timeout:g} seconds"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, FileNotFoundError):
        return "there is no such socket"
    if isinstance(error, PermissionError):
        return "the socket belongs to somebody else"
    if isinstance(error, socket.gaierror):
        return "there is no host of that name"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return "it does not speak TLS; is it ws:// rather than wss://?"
    if isinstance(error, OSError):
        return error.strerror or errno.errorcode.get(error.errno or 0, "") or str(error)
    return f"what answers there does not speak websockets ({error})"
