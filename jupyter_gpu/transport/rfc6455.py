"""Websocket frames (RFC 6455, sections 5.2 to 5.5), read and written without a copy of what is large; no I/O.

The handshake is the ``websockets`` library's. What comes after it is here because of the number of copies: a message of a megabyte is
received into the memory in which it stays, and sent from the memory in which it is.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

from ..wire.codec import BytesLike, size_of
from .buffers import Pool

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover  # a platform for which there is no wheel
    from websockets.utils import apply_mask

CONTINUATION, TEXT, BINARY = 0, 1, 2
CLOSE, PING, PONG = 8, 9, 10

PROTOCOL_ERROR, BAD_TEXT, TOO_BIG = 1002, 1007, 1009

#: Bytes from which a payload is received into memory of its own.
LARGE = 32 << 10
#: Room for small frames, and for what comes behind a large one before it is known how large the next is.
_SMALL = 64 << 10
_AFTER_LARGE = 4 << 10


class Event(NamedTuple):
    """A message (``kind`` TEXT or BINARY; BINARY: bytes, or writable memory of the receiver's own) or a control frame."""

    kind: int
    data: bytes | memoryview | str


class Unreadable(NamedTuple):
    """What was read is no websocket frame, or too large a one: the close code and the reason that the peer is told."""

    code: int
    reason: str


class Reader:
    """Cuts a stream of bytes into messages. ``target()`` gives the memory where the next bytes should go; ``filled(n)`` says how many
    went there, and gives what is complete. ``limit``: most bytes of a message; ``masked``: whether frames must be (those of a client)."""

    def __init__(self, pool: Pool, *, limit: int, masked: bool) -> None:
        self.error: Unreadable | None = None  #: what comes from here on is not looked at
        self._pool = pool
        self._limit = limit
        self._masked = masked
        self._small = memoryview(bytearray(_SMALL))
        self._end = 0
        self._ask = _SMALL
        self._large: memoryview | None = None
        self._at = 0
        self._frame = (0, False, b"")  # opcode, last of its message, mask: of the large one
        self._kind = 0  # of the message of which parts have come
        self._parts = bytearray()

    def target(self) -> memoryview:
        if self._large is not None:
            return self._large[self._at :]
        return self._small[self._end :] if self._end else self._small[: self._ask]

    def filled(self, count: int) -> list[Event]:
        events: list[Event] = []
        if self.error is not None:
            return events
        if self._large is None:
            self._end += count
            self._cut(events)
            return events
        self._at += count
        if self._at == len(self._large):
            payload, self._large = self._large, None
            kind, last, mask = self._frame
            if any(mask):
                payload[:] = apply_mask(payload, mask)
            self._ask = _AFTER_LARGE
            self._complete(events, kind, last, payload)
        return events

    def feed(self, data: bytes) -> list[Event]:
        """The same for bytes that are somewhere else already."""
        events: list[Event] = []
        while data:
            target = self.target()
            count = min(len(target), len(data))
            target[:count] = data[:count]
            events += self.filled(count)
            data = data[count:]
        return events

    def _cut(self, events: list[Event]) -> None:
        at = 0
        while self.error is None and self._large is None:
            header = self._header(at)
            if header is None:
                break
            kind, last, mask, start, length = header
            end = start + length
            if self._end < end:
                if length >= LARGE and kind <= BINARY:
                    self._large, self._frame = self._pool.take(length), (kind, last, mask)
                    self._at = self._end - start
                    self._large[: self._at] = self._small[start : self._end]
                    at = self._end
                break
            payload_bytes = bytes(self._small[start:end])
            at = end
            self._ask = _SMALL
            self._complete(events, kind, last, apply_mask(payload_bytes, mask) if any(mask) else payload_bytes)
        self._move(self._end if self.error is not None else at)

    def _move(self, at: int) -> None:
        if at:
            rest = bytes(self._small[at : self._end])
            self._small[: len(rest)] = rest
            self._end = len(rest)

    def _header(self, at: int) -> tuple[int, bool, bytes, int, int] | None:
        """(opcode, last, mask, where the payload begins, its length) of the frame at ``at``; None: not there yet, or an error."""
        have = self._end - at
        if have < 2:
            return None
        first, second = self._small[at], self._small[at + 1]
        kind, last, length = first & 15, bool(first & 128), second & 127
        start = at + 2 + (2 if length == 126 else 8 if length == 127 else 0)
        begins = start + (4 if second & 128 else 0)
        if begins > self._end:
            return None
        if length == 126:
            (length,) = struct.unpack_from(">H", self._small, at + 2)
        elif length == 127:
            (length,) = struct.unpack_from(">Q", self._small, at + 2)
        if reason := self._wrong(first, second, kind, last, length):
            self.error = Unreadable(PROTOCOL_ERROR, reason)
            return None
        if kind <= BINARY and len(self._parts) + length > self._limit:
            self.error = Unreadable(TOO_BIG, f"a message of {len(self._parts) + length} bytes exceeds limit of {self._limit} bytes")
            return None
        return kind, last, bytes(self._small[start:begins]), begins, length

    def _wrong(self, first: int, second: int, kind: int, last: bool, length: int) -> str:
        if first & 0x70:
            return "reserved bits are set"
        if kind not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            return f"opcode {kind:#x}"
        if bool(second & 128) is not self._masked:
            return "a frame without a mask" if self._masked else "a frame with a mask"
        if kind >= CLOSE:
            return "" if last and length <= 125 else "a control frame that is long, or in parts"
        if (kind == CONTINUATION) is not bool(self._kind):
            return "a frame out of place in its message"
        return ""

    def _complete(self, events: list[Event], kind: int, last: bool, payload: bytes | memoryview) -> None:
        if kind >= CLOSE:
            events.append(Event(kind, payload))
            return
        if kind == CONTINUATION or not last:
            self._kind = self._kind or kind
            self._parts += payload
            if not last:
                return
            kind, payload = self._kind, bytes(self._parts)
            self._kind = 0
            self._parts = bytearray()
        if kind == BINARY:
            events.append(Event(BINARY, payload))
            return
        try:
            events.append(Event(TEXT, str(payload, "utf-8")))
        except UnicodeDecodeError:
            self.error = Unreadable(BAD_TEXT, "text that is not UTF-8")


def frame(kind: int, parts: Sequence[BytesLike], mask: bytes | None) -> list[BytesLike]:
    """A message, or a control frame, as it goes over the wire. ``mask``: 4 bytes, for a client's; four zeros leave the payload as it
    is, where it is."""
    size = size_of(parts)
    first = 0x80 | kind
    bit = 0 if mask is None else 128
    if size < 126:
        header = bytes((first, bit | size))
    elif size < 1 << 16:
        header = struct.pack(">BBH", first, bit | 126, size)
    else:
        header = struct.pack(">BBQ", first, bit | 127, size)
    if mask is None:
        return [header, *parts]
    if any(mask):
        return [header + mask, apply_mask(b"".join(parts), mask)]
    return [header + mask, *parts]


def new_mask() -> bytes:
    return os.urandom(4)
