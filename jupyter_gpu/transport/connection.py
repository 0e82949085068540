"""What the driver, the relay and the RPC know of a websocket: an interface, so that what carries the frames can be another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from websockets.frames import Close

from ..wire.codec import BytesLike

__all__ = ["Close", "Connection", "ConnectionClosed", "Ending", "OnMessage"]

Data = bytes | memoryview | str
OnMessage = Callable[[Data], "Awaitable[None] | None"]


class Ending(NamedTuple):
    """How a connection ended: the close frames that came and went, if any."""

    rcvd: Close | None
    sent: Close | None
    theirs_first: bool = False  #: the peer began to close

    @property
    def why(self) -> str:
        close = self.rcvd or self.sent
        return (close.reason if close is not None else "") or f"the connection was closed ({1006 if close is None else close.code})"

    @property
    def exception(self) -> ConnectionClosed:
        fine = self.rcvd is not None and self.sent is not None and {self.rcvd.code, self.sent.code} <= {1000, 1001}
        order = None if self.rcvd is None or self.sent is None else self.theirs_first
        return (ConnectionClosedOK if fine else ConnectionClosedError)(self.rcvd, self.sent, order)


class Connection(ABC):
    """A websocket whose handshake is done. Messages: binary ones as bytes or as writable memory, text as ``str``. All on one loop."""

    subprotocol: str | None
    path: str = ""  #: what a client asked for
    authorization: str = ""  #: the header of that name, of a client

    @property
    @abstractmethod
    def pending(self) -> int:
        """Bytes that wait to be written."""

    @property
    @abstractmethod
    def ending(self) -> Ending | None:
        """None: it is open."""

    @abstractmethod
    def put(self, parts: Sequence[BytesLike]) -> None:
        """Send a binary message, in parts that must not change before they are written (``pending``); nothing waits, nothing is
        raised. A connection that is closing drops it."""

    @abstractmethod
    async def room(self) -> None:
        """Wait until more may be put, or the connection is closed."""

    @abstractmethod
    async def recv(self) -> Data:
        """The next message. Raises ``ConnectionClosed``."""

    @abstractmethod
    async def listen(self, on_message: OnMessage) -> Ending:
        """Call ``on_message`` for each message until the connection ends. If it returns an awaitable, nothing more is read before that
        is done. Raises what it raises; the connection is then still open."""

    @abstractmethod
    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close in order; at the latest after a while, all the same."""

    @abstractmethod
    async def wait_closed(self) -> None:
        """Wait until it is closed, by whomever."""

    @abstractmethod
    def abort(self) -> None:
        """End it here and now."""

    async def send(self, data: BytesLike) -> None:
        """Send a binary message, and wait until more may be sent. Raises ``ConnectionClosed``."""
        if self.ending is not None:
            raise self.ending.exception
        self.put([data])
        await self.room()
        if self.ending is not None:
            raise self.ending.exception
