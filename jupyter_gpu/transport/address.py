"""Addresses of gateways: what people write, and what websockets needs."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from ..wire.errors import BadOptionValue

_TWINS = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}
_EXPECTED = "an address such as ws://host:8470, wss://host or unix:///path/to/socket"

#: What the system takes as the path of a unix socket, in bytes.
MAX_SOCKET_PATH = 107


@dataclass(frozen=True)
class Address:
    """``base`` is the URL without a slash at its end; ``socket`` the path of a unix socket, else empty."""

    base: str
    socket: str = ""
    is_local: bool = False  #: on this machine, as far as the name tells: no proxy is asked

    def __str__(self) -> str:
        return self.base

    def at(self, path: str) -> str:
        """The URL to ask for: ``path`` begins with a slash. (For a unix socket the host says nothing.)"""
        return f"{'ws://localhost' if self.socket else self.base}{path}"


def parse(text: str, option: str = "JUPYTER_GPU_GATEWAY") -> Address:
    """Raises ``BadOptionValue`` that names ``option``."""

    def refuse(expected: str) -> BadOptionValue:
        return BadOptionValue(option=option, value=text, expected=expected)

    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise refuse(_EXPECTED) from None
    if parts.scheme == "unix":
        return _unix(parts, refuse(f"unix:// and the absolute path of a socket, of at most {MAX_SOCKET_PATH} bytes"))
    if parts.scheme not in _TWINS or not parts.hostname:
        raise refuse(_EXPECTED)
    if parts.username is not None or parts.query or parts.fragment:
        raise refuse("the address alone; the token belongs into JUPYTER_GPU_TOKEN")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    base = f"{_TWINS[parts.scheme]}://{host}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"
    return Address(base=base, is_local=_is_local(parts.hostname))


def _unix(parts: SplitResult, refusal: BadOptionValue) -> Address:
    if parts.netloc or not parts.path.startswith("/") or len(parts.path.encode()) > MAX_SOCKET_PATH:
        raise refusal
    return Address(base=f"unix://{parts.path}", socket=parts.path, is_local=True)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
