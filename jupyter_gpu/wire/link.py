"""A reliable, ordered, resumable stream of payloads between two ends, over connections that come and go.

Sans-I/O: whoever drives it passes payloads to :meth:`Link.send` and received frames to :meth:`Link.receive`, and
writes what :meth:`Link.frames` gives. Frames are described in :mod:`.frames`.

Each direction of each lane numbers its frames. What was not acknowledged is kept (:mod:`.spool`) and sent again after
the connection came back. On ``attached()`` each end announces, with RESUME, its epoch and the last numbers it saw;
until the peer's RESUME came, nothing else goes out, and nothing else that comes in is looked at: it belongs to the
connection before. An end that finds the peer's epoch changed knows that the peer lost its state: ``LinkBroken``.

Errors of ``receive``: ``FrameGarbled`` and ``FrameTooLarge`` leave the link as it was, so dropping the connection and
attaching anew mends them; ``LinkBroken`` is final, and every later call raises it again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from . import frames
from .codec import BytesLike, size_of
from .errors import FrameGarbled, FrameTooLarge, LinkBroken
from .frames import Ack, Data, Lane, Resume
from .lanes import Incoming, Outgoing
from .spool import Spool

__all__ = ["Lane", "Link"]

#: Bytes. Control messages are small and must pass when the spool is full; this bounds them all the same.
CONTROL_LIMIT = 16 << 20


def _new_epoch() -> int:
    return int.from_bytes(os.urandom(8), "little") | 1


class Link:
    """One end. ``max_frame``: the most payload bytes in a frame, the same at both ends. ``window``: bytes of a lane that may
    be on their way without an acknowledgement. ``max_payload``: largest payload taken, sent or received. An explicit
    acknowledgement is due after ``ack_frames`` frames or a quarter of the window; before that it waits for a frame that
    goes back, or for :meth:`acknowledge`, which the driver calls a little later."""

    def __init__(
        self,
        *,
        spool: Spool | None = None,
        max_frame: int = 1 << 20,
        window: int = 16 << 20,
        max_payload: int = 64 << 30,
        ack_frames: int = 64,
        epoch: int | None = None,
    ) -> None:
        self.max_frame = max_frame
        self.max_payload = max_payload
        self.epoch = epoch or _new_epoch()
        self.peer_epoch = 0  #: 0: never seen
        self.spool = spool or Spool()
        self._control_spool = Spool(memory=CONTROL_LIMIT, disk=0)
        self.heirs = False
        self._out = (Outgoing(Lane.CONTROL, self._control_spool, max_frame, window), Outgoing(Lane.DATA, self.spool, max_frame, window))
        self._in = self._new_in()
        self._ack_frames = ack_frames
        self._ack_bytes = window // 4
        self._owed_frames = 0
        self._owed_bytes = 0
        self._ack_now = False
        self._attached = False
        self._resumed = False
        self._announce = False
        self._held: tuple[int] | None = None  # number of the last DATA frame that may be acknowledged
        self._broken: LinkBroken | None = None

    def _new_in(self) -> tuple[Incoming, Incoming]:
        return Incoming(self.max_frame, self.max_payload), Incoming(self.max_frame, self.max_payload)

    @property
    def backlog(self) -> int:
        """Bytes of payloads that the peer has not acknowledged, sent or not."""
        return self._out[0].backlog + self._out[1].backlog

    @property
    def is_attached(self) -> bool:
        return self._attached

    @property
    def is_resumed(self) -> bool:
        """Payloads flow: the peer has told what it saw."""
        return self._resumed

    @property
    def owes_ack(self) -> bool:
        """Something was received that no frame has acknowledged: call ``acknowledge()`` soon."""
        return self._resumed and self._owed_frames > 0

    def send(self, parts: Sequence[BytesLike], lane: Lane = Lane.DATA) -> None:
        """Take over a payload. Parts in memory are kept by reference until they are acknowledged: don't change them.
        Raises ``SpoolFull``, ``DiskFull``, ``FrameTooLarge``, ``LinkBroken``; the payload was then not taken."""
        self._check()
        size = size_of(parts)
        if size > self.max_payload:
            raise FrameTooLarge(size=size, limit=self.max_payload)
        self._out[lane].put(parts, size)

    def expect_heirs(self) -> None:
        """Call before anything is sent, at both ends: where the peer has lost its state, a new one takes its place, and gets all payloads
        of which the old one had not acknowledged the end."""
        self.heirs = True
        for lane in self._out:
            lane.whole = True

    def attached(self) -> None:
        """The other end can be reached, for the first time or again."""
        self._check()
        self.detached()
        self._attached = self._announce = True

    def detached(self) -> None:
        """The other end cannot be reached; what was on its way may be lost."""
        self._attached = self._resumed = self._announce = self._ack_now = False
        self._owed_frames = self._owed_bytes = 0  # RESUME will say it
        for lane in self._out:
            lane.rewind()

    def acknowledge(self) -> None:
        """Let the next ``frames()`` acknowledge what came, with a frame of its own if need be."""
        self._ack_now = self.owes_ack

    def hold(self) -> None:
        """Acknowledge no more of the DATA lane, so that the peer stops at the end of its window; CONTROL goes on."""
        self._held = self._held or (self._in[1].seen,)

    def release(self) -> None:
        """Undo ``hold()``; what came since is acknowledged with the next ``frames()``."""
        if self._held is not None:
            self._owed_frames += self._held[0] != self._in[1].seen
            self._held = None
            self.acknowledge()

    def frames(self, limit: int | None = None) -> list[list[BytesLike]]:
        """What may be written now, each frame in parts: control first, within the window, about ``limit`` bytes at most
        (at least one frame if there is any). What was given counts as sent."""
        self._check()
        out: list[list[BytesLike]] = []
        if self._announce:
            self._announce = False
            # All that came, held or not: the peer may begin behind it.
            seen = self._in[0].seen, self._in[1].seen
            out.append([frames.resume(self.epoch, self.peer_epoch, seen, not self._resumed)])
        if not self._resumed:
            return out
        left = self.max_payload if limit is None else limit
        for lane in self._out:
            while left > 0 and (frame := lane.take(self._seen())) is not None:
                out.append(frame)
                left -= size_of(frame)
                self._owed_frames = self._owed_bytes = 0
        if self._owed_frames and (self._ack_now or self._owed_frames >= self._ack_frames or self._owed_bytes >= self._ack_bytes):
            out.append([frames.ack(self._seen())])
            self._owed_frames = self._owed_bytes = 0
        self._ack_now = False
        return out

    def receive(self, frame: BytesLike) -> list[tuple[Lane, memoryview]]:
        """Payloads that are complete with this frame, in the order of their lane: writable memory that belongs to the caller, and
        that is the frame's own where the frame is writable (its driver gives that memory away with it)."""
        self._check()
        found = frames.parse(frame)
        if isinstance(found, Resume):
            self._resume(found)
        elif not self._resumed:
            pass  # sent before the peer learned that the connection changed; it will send it again
        elif isinstance(found, Ack):
            self._acked(found.seen)
        else:
            return self._data(found)
        return []

    def close(self) -> None:
        """Free what waits. The link cannot be used afterwards."""
        if self._broken is None:
            self._break("it was closed")

    def _data(self, data: Data) -> list[tuple[Lane, memoryview]]:
        lane = self._in[data.lane]
        if data.number <= lane.seen:
            # The peer lacks our acknowledgement, else it would not have sent this again.
            self._owed_frames += 1
            self._acked(data.seen)
            return []
        if data.number > lane.seen + 1:
            raise FrameGarbled(reason=f"frame {data.number} came after frame {lane.seen}")
        self._acked(data.seen)
        payload = lane.take(data)
        self._owed_frames += 1
        self._owed_bytes += len(data.chunk)
        return [] if payload is None else [(data.lane, payload)]

    def _resume(self, resume: Resume) -> None:
        if not self._attached:
            return  # of a connection that is gone
        if self.heirs and not self.peer_epoch and resume.peer not in (0, self.epoch):
            return  # it is meant for the one whose place this end takes; the next one is for us
        if self.heirs and self.peer_epoch and not resume.peer and resume.epoch != self.peer_epoch:
            self._inherit()
        if self.peer_epoch and resume.epoch != self.peer_epoch:
            raise self._break("the other end was started anew and has lost its state")
        if resume.peer and resume.peer != self.epoch:
            raise self._break("the other end continues another link than this")
        if any(seen > lane.sent for seen, lane in zip(resume.seen, self._out)):
            raise self._break("the other end has seen more than was sent")
        self.peer_epoch = resume.epoch
        self._acked(resume.seen)
        if self._resumed and resume.ask:
            self._announce = True  # the peer began anew without our noticing, and waits for our numbers
        if not self._resumed or resume.ask:
            for lane in self._out:
                lane.rewind()
        self._resumed = True

    def _inherit(self) -> None:
        """The peer is another one, and knows nothing."""
        self.epoch = _new_epoch()
        self.peer_epoch = 0
        self._in = self._new_in()
        self._held = None
        self._announce = True
        for lane in self._out:
            lane.renew()

    def _acked(self, seen: tuple[int, int]) -> None:
        for number, lane in zip(seen, self._out):
            if number > lane.sent:
                raise FrameGarbled(reason=f"frame {number} was acknowledged, {lane.sent} was the last one sent")
        for number, lane in zip(seen, self._out):
            lane.acked(number)

    def _seen(self) -> tuple[int, int]:
        """What is acknowledged."""
        return self._in[0].seen, self._held[0] if self._held else self._in[1].seen

    def _break(self, reason: str) -> LinkBroken:
        self._broken = LinkBroken(reason=reason)
        self._attached = self._resumed = False
        for lane in self._out:
            lane.clear()
        self.spool.close()
        self._control_spool.close()
        return self._broken

    def _check(self) -> None:
        if self._broken is not None:
            raise LinkBroken(reason=self._broken.reason)
