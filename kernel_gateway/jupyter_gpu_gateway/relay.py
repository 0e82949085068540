"""Carries link frames between a client and an agent, unread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from jupyter_gpu.transport.connection import Connection, Data
from jupyter_gpu.transport.envelope import FRAME, NOTICE, notice, open_envelope
from jupyter_gpu.wire.errors import FrameGarbled
from jupyter_gpu.wire.messages import AnyMessage, Message, PeerAttached, PeerDetached

#: Bytes that wait for an end beyond which nothing more is taken for it. A frame of the largest size may come on top.
_FULL = 512 << 10


@dataclass
class Pair:
    """The two ends of a session's link, as far as they are connected. What comes for an end that is not there is dropped: the link
    sends again what was not acknowledged."""

    client: Connection | None = None
    worker: Connection | None = None

    def other(self, end: Connection) -> Connection | None:
        return self.worker if end is self.client else self.client if end is self.worker else None

    async def attached(self) -> None:
        """Tell both ends that they can reach each other, if so."""
        if self.client is not None and self.worker is not None:
            for end in (self.client, self.worker):
                await tell(end, PeerAttached())

    async def left(self, end: Connection, reason: str) -> None:
        """One end is gone: tell the other."""
        other = self.other(end)
        if end is self.client:
            self.client = None
        elif end is self.worker:
            self.worker = None
        if other is not None:
            await tell(other, PeerDetached(reason=reason))


async def tell(end: Connection, message: Message) -> None:
    """A notice; one that is gone needs none."""
    end.put([notice(message)])
    await end.room()


async def forward(end: Connection, pair: Pair, on_notice: Callable[[AnyMessage], Awaitable[None]]) -> None:
    """Until ``end`` closes: frames go to the other end, the memory that they came in and not a copy. While too much waits there, nothing
    is read here, so that a slow reader holds up the sender and not our memory. Notices go to ``on_notice``. Raises ``FrameGarbled`` for
    anything else."""

    def take(data: Data) -> Awaitable[None] | None:
        if isinstance(data, str) or not data:
            raise FrameGarbled(reason="text, or nothing, on a binary websocket")
        kind = data[:1]
        if kind == NOTICE:
            message = open_envelope(data)
            assert not isinstance(message, memoryview)
            return on_notice(message)
        if kind != FRAME:
            raise FrameGarbled(reason=f"a websocket message that begins with {bytes(kind)!r}")
        other = pair.other(end)
        if other is None:
            return None
        other.put([data])
        return other.room() if other.pending > _FULL else None

    await end.listen(take)
