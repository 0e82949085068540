"""iopub towards front ends: at the pace that a jupyter_server takes, in order, and nothing left out.

What waits is text more often than not: consecutive messages of one stream and one cell become one, so that a storm of prints needs few
messages.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from ..cells.pace import BURST_BYTES, BURST_MESSAGES, BYTES, MESSAGES, Bucket, size_of_text
from ..wire.codec import BytesLike
from ..wire.errors import FrameGarbled
from ..wire.signed import Signed, Signer, join, split

#: Messages that wait beyond which the kernel's end is held up.
_FULL = 1000
#: Characters of a message that others are added to.
_LARGE = 100_000


class _Stream(msgspec.Struct):
    name: str
    text: str


_stream = msgspec.json.Decoder(_Stream)


@dataclass
class _Waiting:
    frames: Sequence[BytesLike]
    message: Signed | None = None  #: of a stream
    name: str = ""
    parent: str = ""
    texts: list[str] | None = None
    size: int = 0


class Publisher:
    """``limited``: a jupyter_server listens, which drops what exceeds its limits; where none does, nothing waits. Before ``begin()`` all
    waits: nobody listens yet."""

    def __init__(self, send: Callable[[Sequence[BytesLike]], None], signer: Signer, limited: bool) -> None:
        self._send = send
        self._signer = signer
        self._limited = limited
        self._begun = False
        self._loop = asyncio.get_running_loop()
        self._messages = Bucket(MESSAGES, BURST_MESSAGES)
        self._bytes = Bucket(BYTES, BURST_BYTES)
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._room: asyncio.Future[None] | None = None

    def publish(self, frames: Sequence[BytesLike]) -> asyncio.Future[None] | None:
        """Now, or in its turn. A future: so much waits that nothing more should come before it is done."""
        if self._begun and not self._limited:
            self._send(frames)
            return None
        entry = _read(frames)
        last = self._waiting[-1] if self._waiting else None
        if (
            last is not None
            and entry.texts
            and last.texts
            and (last.name, last.parent) == (entry.name, entry.parent)
            and last.size < _LARGE
        ):
            last.texts += entry.texts
            last.size += entry.size
        else:
            self._waiting.append(entry)
        if self._timer is None and self._begun:
            self._next()
        if len(self._waiting) < _FULL:
            return None
        if self._room is None or self._room.done():
            self._room = self._loop.create_future()
        return self._room

    def begin(self) -> None:
        """Somebody listens, or nobody wants to."""
        if not self._begun:
            self._begun = True
            if self._limited:
                self._next()
            else:
                self.flush()

    def _next(self) -> None:
        self._timer = None
        while self._waiting:
            entry = self._waiting[0]
            text = "".join(entry.texts or ())
            now = self._loop.time()
            wait = max(self._messages.wait(now), self._bytes.wait(now))
            if wait > 0:
                self._timer = self._loop.call_later(wait, self._next)
                break
            self._waiting.popleft()
            self._messages.take(1, now)
            self._bytes.take(size_of_text(text) if entry.texts else 0, now)
            self._send(self._whole(entry, text))
        if self._room is not None and not self._room.done() and len(self._waiting) < _FULL // 2:
            self._room.set_result(None)

    def _whole(self, entry: _Waiting, text: str) -> Sequence[BytesLike]:
        if entry.message is None or entry.texts is None or len(entry.texts) == 1:
            return entry.frames
        content = msgspec.json.encode(_Stream(entry.name, text))
        return join(entry.message.identities, self._signer, [*entry.message.body[:3], content])

    def flush(self) -> None:
        """All that waits, at once: the end is near."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            entry = self._waiting.popleft()
            self._send(self._whole(entry, "".join(entry.texts or ())))
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


def _read(frames: Sequence[BytesLike]) -> _Waiting:
    """Looks into streams alone, which their topic tells."""
    if b"stream" not in bytes(frames[0]):
        return _Waiting(frames)
    try:
        message = split(frames)
        content = _stream.decode(message.body[3])
        parent = message.parent.msg_id
    except (FrameGarbled, msgspec.DecodeError):
        return _Waiting(frames)
    return _Waiting(frames, message, content.name, parent, [content.text], len(content.text))
