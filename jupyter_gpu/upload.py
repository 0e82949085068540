"""Sending a chunk, piece by piece, on the I/O thread."""

from __future__ import annotations

from typing import Any

from .sync.bulk import split
from .transport.driver import LinkDriver
from .wire.codec import encode

#: Bytes not acknowledged beyond which no more is put on the link, and down to which that lasts.
_HIGH, _LOW = 24 << 20, 12 << 20
#: Bytes of a chunk from which the sender waits until almost all has arrived, so that it can tell how far it is.
_LONG = 8 << 20


class Pieces:
    """One chunk. ``arrived``: bytes of it that the other end has acknowledged, about."""

    def __init__(self, driver: LinkDriver, digest: bytes, data: Any) -> None:
        self._driver = driver
        self._digest = digest
        self._data = data
        self._put = 0

    @property
    def arrived(self) -> int:
        return max(0, self._put - self._driver.link.backlog)

    async def send(self) -> None:
        """Raises what ended the link."""
        for piece, data in split(self._digest, self._data):
            self._driver.send(encode(piece, [data]))
            self._put += len(data)
            if self._driver.link.backlog > _HIGH:
                await self._driver.drain(_LOW)
        if self._put > _LONG:
            await self._driver.drain(_LONG)
