"""Carries link frames between a client and an agent, unread."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from jupyter_gpu.transport.envelope import FRAME, NOTICE, notice, open_envelope
from jupyter_gpu.wire.errors import FrameGarbled
from jupyter_gpu.wire.messages import Message, PeerAttached, PeerDetached


@dataclass
class Pair:
    """The two ends of a session's link, as far as they are connected. What comes for an end that is not there is dropped: the link
    sends again what was not acknowledged."""

    client: ServerConnection | None = None
    worker: ServerConnection | None = None

    def other(self, end: ServerConnection) -> ServerConnection | None:
        return self.worker if end is self.client else self.client if end is self.worker else None

    async def attached(self) -> None:
        """Tell both ends that they can reach each other, if so."""
        if self.client is not None and self.worker is not None:
            for end in (self.client, self.worker):
                await tell(end, PeerAttached())

    async def left(self, end: ServerConnection, reason: str) -> None:
        """One end is gone: tell the other."""
        other = self.other(end)
        if end is self.client:
            self.client = None
        elif end is self.worker:
            self.worker = None
        if other is not None:
            await tell(other, PeerDetached(reason=reason))


async def tell(end: ServerConnection, message: Message) -> None:
    """A notice; one that is gone needs none."""
    with contextlib.suppress(ConnectionClosed):
        await end.send(notice(message))


async def forward(end: ServerConnection, pair: Pair, on_notice: object) -> None:
    """Until ``end`` closes: frames go to the other end, each only after the one before was taken, so that a slow reader holds up the
    sender and not our memory. Notices go to ``on_notice``. Raises ``FrameGarbled`` for anything else."""
    assert callable(on_notice)
    with contextlib.suppress(ConnectionClosed):
        async for data in end:
            if isinstance(data, str) or not data:
                raise FrameGarbled(reason="text, or nothing, on a binary websocket")
            if data[:1] == NOTICE:
                message = open_envelope(data)
                assert not isinstance(message, memoryview)
                await on_notice(message)
                continue
            if data[:1] != FRAME:
                raise FrameGarbled(reason=f"a websocket message that begins with {data[:1]!r}")
            other = pair.other(end)
            if other is not None:
                with contextlib.suppress(ConnectionClosed):
                    await other.send(data)
