"""One direction of one lane of a link: cutting payloads into numbered frames, and putting them together again."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Iterator, Sequence

from . import frames
from .codec import BytesLike
from .errors import FrameGarbled, FrameTooLarge
from .frames import FIRST, LAST, Data, Lane
from .spool import Spool

#: From this size on, a payload is put together in memory of its own from the system: it begins at a page, is not
#: cleared twice, and goes back at once when it is freed.
_OWN_PAGES_FROM = 1 << 20


class _Frame:
    """A frame that was not acknowledged. ``at``: place in the spool's file, -1: ``parts`` has it."""

    __slots__ = ("at", "flags", "number", "parts", "size", "total")

    def __init__(self, number: int, flags: int, total: int, size: int, parts: Sequence[BytesLike], at: int) -> None:
        self.number = number
        self.flags = flags
        self.total = total
        self.size = size
        self.parts = parts
        self.at = at


class Outgoing:
    """Frames are in ``_flight`` (sent over the present connection) or, after those, in ``_waiting``. ``whole``: those of a payload are
    kept until its last one is acknowledged, in ``_kept``."""

    def __init__(self, lane: Lane, spool: Spool, max_frame: int, window: int) -> None:
        self.queued = 0  #: number of the last frame that exists
        self.sent = 0  #: highest number that ever went out
        self.backlog = 0  #: bytes not acknowledged
        self._lane = lane
        self._spool = spool
        self._max_frame = max_frame
        self._window = window
        self._in_flight = 0
        self.whole = False
        self._kept: list[_Frame] = []
        self._flight: deque[_Frame] = deque()
        self._waiting: deque[_Frame] = deque()

    def put(self, parts: Sequence[BytesLike], size: int) -> None:
        at = self._spool.put(parts, size)
        self.backlog += size
        if size <= self._max_frame:
            self._append(FIRST | LAST, size, size, () if at >= 0 else parts, at)
            return
        pieces = _cut(parts, self._max_frame) if at < 0 else None
        for start in range(0, size, self._max_frame):
            length = min(self._max_frame, size - start)
            flags = (0 if start else FIRST) | (LAST if start + length == size else 0)
            self._append(flags, size, length, () if pieces is None else next(pieces), at if at < 0 else at + start)

    def take(self, seen: tuple[int, int]) -> list[BytesLike] | None:
        """The next frame, if there is one and the window has room for it (it always has for the first)."""
        if not self._waiting:
            return None
        frame = self._waiting[0]
        if self._flight and self._in_flight + frame.size > self._window:
            return None
        header = frames.data_header(self._lane, frame.number, seen, frame.flags, frame.total)
        body = frame.parts if frame.at < 0 else (self._spool.get(frame.at, frame.size),)
        self._flight.append(self._waiting.popleft())
        self._in_flight += frame.size
        self.sent = max(self.sent, frame.number)
        return [header, *body]

    def acked(self, number: int) -> None:
        """The peer has all frames up to this one (``number <= sent``)."""
        while self._flight and self._flight[0].number <= number:
            frame = self._flight.popleft()
            self._in_flight -= frame.size
            self._free(frame)
        # After a cut the peer may have seen what is waiting to be sent again.
        while self._waiting and self._waiting[0].number <= number:
            self._free(self._waiting.popleft())

    def rewind(self) -> None:
        """What was sent has to be sent again."""
        self._waiting.extendleft(reversed(self._flight))
        self._flight.clear()
        self._in_flight = 0

    def renew(self) -> None:
        """Number anew, from the first payload on that was not acknowledged to its end: the peer is another one."""
        self.rewind()
        self._waiting.extendleft(reversed(self._kept))
        self._kept.clear()
        for number, frame in enumerate(self._waiting, 1):
            frame.number = number
        self.queued, self.sent = len(self._waiting), 0

    def clear(self) -> None:
        self.rewind()
        self._waiting.clear()
        self._kept.clear()
        self.backlog = 0

    def _append(self, flags: int, total: int, size: int, parts: Sequence[BytesLike], at: int) -> None:
        self.queued += 1
        self._waiting.append(_Frame(self.queued, flags, total, size, parts, at))

    def _free(self, frame: _Frame) -> None:
        if self.whole and not frame.flags & LAST:
            self._kept.append(frame)
            return
        for each in (*self._kept, frame):
            self.backlog -= each.size
            self._spool.free(each.at, each.size)
        self._kept.clear()


class Incoming:
    """Takes the frames of a lane in order; holds at most one payload that is not complete."""

    def __init__(self, max_frame: int, max_payload: int) -> None:
        self.seen = 0  #: number of the last frame taken
        self._max_frame = max_frame
        self._max_payload = max_payload
        self._buffer: memoryview | None = None
        self._filled = 0

    def take(self, data: Data) -> memoryview | None:
        """The payload that this frame completes. Raises ``FrameGarbled`` or ``FrameTooLarge``, and has then taken nothing."""
        size = len(data.chunk)
        if size > self._max_frame:
            raise FrameTooLarge(size=size, limit=self._max_frame)
        if bool(data.flags & FIRST) is not (self._buffer is None):
            raise FrameGarbled(reason=f"frame {data.number} is out of place in its payload")
        if data.flags == FIRST | LAST:
            self.seen = data.number
            # Copied if need be, for memory that the caller may write to.
            return memoryview(bytearray(data.chunk)) if data.chunk.readonly else data.chunk
        total = data.total if self._buffer is None else len(self._buffer)
        end = self._filled + size
        if not size or end > total or (end == total) is not bool(data.flags & LAST):
            raise FrameGarbled(reason=f"byte {end} of a payload of {total}, in the wrong kind of frame")
        if self._buffer is None:
            self._buffer = self._allocate(total)
        self._buffer[self._filled : end] = data.chunk
        self._filled = end
        self.seen = data.number
        if not data.flags & LAST:
            return None
        payload, self._buffer, self._filled = self._buffer, None, 0
        return payload

    def _allocate(self, total: int) -> memoryview:
        if total > self._max_payload:
            raise FrameTooLarge(size=total, limit=self._max_payload)
        try:
            return pages(total) if total >= _OWN_PAGES_FROM else memoryview(bytearray(total))
        except (OSError, OverflowError, MemoryError):
            raise FrameTooLarge(size=total, limit=self._max_payload) from None


def pages(size: int) -> memoryview:
    """Memory of its own for what stays: not touched before it is written. Raises ``OSError`` and its like."""
    if hasattr(mmap, "MAP_PRIVATE"):
        # Not shared with children: a fork must see its own copy, as of any other memory.
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:  # pragma: no cover  # Windows, which has no fork
        pages = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # pragma: no branch
        pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)


def _cut(parts: Sequence[BytesLike], size: int) -> Iterator[list[BytesLike]]:
    """The same bytes, uncopied, in pieces of ``size`` (the last may be shorter)."""
    piece: list[BytesLike] = []
    room = size
    for part in parts:
        view = memoryview(part).cast("B")
        while view:
            piece.append(view[:room])
            view = view[room:]
            room -= len(piece[-1])
            if not room:
                yield piece
                piece, room = [], size
    yield piece  # asked for only if something is left
