"""The RPC connection to a gateway: requests and answers by number, and news of sessions. Everything on the I/O thread's loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import platform
from collections.abc import Callable
from functools import lru_cache

from .transport.connection import Connection, ConnectionClosed, Data
from .transport.dial import dial
from .wire.codec import decode, encode
from .wire.errors import FrameGarbled, GatewayUnreachable, PythonMismatch, from_record
from .wire.messages import PROTOCOL, AnyMessage, ErrorRecord, Failed, Hello, Message, SessionChanged, SessionInfo, Versions, Welcome

_log = logging.getLogger(__name__)

#: Seconds for a gateway to answer the first message.
_WELCOME = 10.0


@lru_cache(maxsize=1)
def here() -> Versions:
    """What this end runs."""
    from importlib.metadata import version

    from ._version import __version__

    return Versions(
        software=__version__, python=platform.python_version(), cloudpickle=version("cloudpickle"), platform=platform.platform(terse=True)
    )


def check_versions(there: Versions | None) -> None:
    """Raises ``PythonMismatch`` where pickles could not go between the two ends."""
    if there is None:
        return
    for what, ours, theirs in (("Python", here().python, there.python), ("cloudpickle", here().cloudpickle, there.cloudpickle)):
        if ours.split(".")[:2] != theirs.split(".")[:2]:
            raise PythonMismatch(what=what, here=".".join(ours.split(".")[:2]), there=".".join(theirs.split(".")[:2]))


class Rpc:
    """``on_news(session, error)`` hears of each ``SessionChanged``, and (None, None) when the connection is gone."""

    def __init__(self, url: str, token: str, on_news: Callable[[SessionInfo | None, ErrorRecord | None], None]) -> None:
        self._url = url
        self._token = token
        self._on_news = on_news
        self._connection: Connection | None = None
        self._waiting: dict[int, asyncio.Future[AnyMessage]] = {}
        self._numbers = itertools.count(1)
        self._reader: asyncio.Task[None] | None = None
        self.welcome: Welcome | None = None

    @property
    def alive(self) -> bool:
        return self._connection is not None

    async def connect(self) -> None:
        """Raises what ``dial`` raises, and ``ProtocolMismatch``."""
        connection = await dial(self._url, "/v1/rpc", self._token)
        try:
            await connection.send(b"".join(encode(Hello(protocol=PROTOCOL, versions=here()))))
            answer = _decode(await asyncio.wait_for(connection.recv(), _WELCOME))
        except ConnectionClosed as error:
            raise GatewayUnreachable(url=self._url, reason="it closed the connection") from error
        except asyncio.TimeoutError:
            connection.abort()  # what says nothing may not close in order either
            raise GatewayUnreachable(url=self._url, reason=f"no welcome within {_WELCOME:g} seconds") from None
        except FrameGarbled:
            await connection.close()
            raise
        if isinstance(answer, Failed):
            await connection.close()
            raise from_record(answer.error)
        if not isinstance(answer, Welcome):
            await connection.close()
            raise FrameGarbled(reason=f"a {type(answer).__name__} where a Welcome was due")
        self.welcome = answer
        self._connection = connection
        self._reader = asyncio.ensure_future(self._read(connection))

    async def _read(self, connection: Connection) -> None:
        try:
            await connection.listen(lambda data: self._take(_decode(data)))
        except FrameGarbled as error:
            _log.warning("the gateway at %s: %s", self._url, error)
            connection.abort()  # nothing that it says from here on can be trusted
        finally:
            self._connection = None
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(GatewayUnreachable(url=self._url, reason="the connection was lost"))
            self._on_news(None, None)

    def _take(self, message: AnyMessage) -> None:
        if isinstance(message, SessionChanged):
            self._on_news(message.session, message.error)
            return
        future = self._waiting.get(getattr(message, "id", 0))
        if future is None or future.done():
            return
        if isinstance(message, Failed):
            future.set_exception(from_record(message.error))
        else:
            future.set_result(message)

    async def request(self, make: Callable[[int], Message]) -> AnyMessage:
        """Ask, and wait for the answer. Raises the error that it is, or ``GatewayUnreachable``."""
        if self._connection is None:
            raise GatewayUnreachable(url=self._url, reason="the connection was lost")
        number = next(self._numbers)
        future: asyncio.Future[AnyMessage] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            await self._connection.send(b"".join(encode(make(number))))
            return await future
        except ConnectionClosed as error:
            raise GatewayUnreachable(url=self._url, reason="the connection was lost") from error
        finally:
            del self._waiting[number]

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
        if self._reader is not None:
            await asyncio.wait([self._reader])


def _decode(data: Data) -> AnyMessage:
    if isinstance(data, str):
        raise FrameGarbled(reason="text on a binary websocket")
    return decode(data)[0]
