"""Sending chunks, piece by piece, on the I/O thread."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from msgspec.structs import replace

from .sync.bulk import split
from .sync.squeeze import Meter, compress
from .transport.driver import LinkDriver
from .transport.ring import PATIENCE, PAUSE, Ring
from .wire.codec import encode, size_of
from .wire.messages import Chunk

#: Bytes not acknowledged beyond which no more is put on the link, until half of them are; the same before its rate is known.
_HIGH, _TRIAL = 24 << 20, 4 << 20
#: Bytes by the link from which the sender waits until almost all has arrived, so that it can tell how far it is.
_LONG = 8 << 20


class Upload:
    """One chunk. ``arrived``: bytes of it that the other end has, about."""

    def __init__(self, driver: LinkDriver, ring: Ring | None, meter: Meter, digest: bytes, data: Any) -> None:
        self._driver = driver
        self._ring = ring
        self._meter = meter
        self._digest = digest
        self._data = data
        self._done = 0  # bytes of the chunk that were given to the ring or the link
        self._linked = 0  # bytes of payloads on the link
        self._stalled = False  # the kernel takes nothing out of the ring
        self._packed: bool | None = None
        self._since = time.perf_counter()
        self._acked = 0  # of _linked, at that time

    @property
    def arrived(self) -> int:
        if not self._linked:
            return self._done
        # What waits on the link is payloads, which compression may have made smaller.
        return round(self._done * max(0.0, 1 - self._driver.link.backlog / self._linked))

    async def send(self) -> None:
        """Raises what ended the link."""
        for piece, data in split(self._digest, self._data):
            if self._ring is not None and piece.size >= 0 and await self._room(self._ring):
                self._driver.send(encode(replace(piece, slot=self._ring.write(data), length=len(data))))
            else:
                await self._by_link(piece, data)
            self._done += len(data)
        if self._linked > _LONG:
            await self._driver.drain(_TRIAL)

    async def _by_link(self, piece: Chunk, data: memoryview) -> None:
        if self._packed is None:
            self._packed = piece.size >= 0 and self._meter.pays(data)
        if self._packed:
            piece, data = replace(piece, packed=True, length=len(data)), memoryview(compress(data))
        parts = encode(piece, [data])
        self._driver.send(parts)
        self._linked += size_of(parts)
        high = _HIGH if self._meter.rate else _TRIAL
        if self._driver.link.backlog > high:
            await self._driver.drain(high // 2)
            if not self._packed and self._measured():
                self._packed = self._meter.pays(data)

    def _measured(self) -> bool:
        acked, now = self._linked - self._driver.link.backlog, time.perf_counter()
        if not self._meter.seen(acked - self._acked, now - self._since):
            return False
        self._acked, self._since = acked, now
        return True

    async def _room(self, ring: Ring) -> bool:
        """Wait a little for a slot; not again before there was one."""
        end = time.monotonic() + PATIENCE
        while not ring.has_room:
            if self._stalled or time.monotonic() > end:
                self._stalled = True
                return False
            await asyncio.sleep(PAUSE)
        self._stalled = False
        return True
