"""How the frames of a link look; reading and writing them keeps no state.

::

    RESUME  u8 0x10 | u8 version | u64 epoch | u64 the peer's epoch (0: never seen) | u64 seen CONTROL | u64 seen DATA | u8 ask
    ACK     u8 0x11 | u64 seen CONTROL | u64 seen DATA
    DATA    u8 0x20 + bits | u64 number | u64 seen CONTROL | u64 seen DATA | [u64 size of the payload] | bytes

Little-endian. Bits of DATA: 1 the lane is DATA (else CONTROL), 2 first frame of a payload, 4 last frame of it; the size is
there in a first frame that is not also the last. Numbers count frames of one lane and direction from 1. "Seen" is the number
of the last frame that came in order: all up to it are acknowledged. ``ask``: answer with a RESUME, even if you sent one.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from .codec import BytesLike
from .errors import FrameGarbled

VERSION = 1
FIRST = 2
LAST = 4

_RESUME = struct.Struct("<BBQQQQB")
_ACK = struct.Struct("<BQQ")
_DATA = struct.Struct("<BQQQ")
_TOTAL = struct.Struct("<Q")
_KIND_RESUME = 0x10
_KIND_ACK = 0x11
_KIND_DATA = 0x20

#: The most bytes that a frame has beside its share of the payload.
MAX_HEADER = max(_RESUME.size, _DATA.size + _TOTAL.size)


class Lane(IntEnum):
    """Two streams over one link; CONTROL goes first."""

    CONTROL = 0
    DATA = 1


class Resume(NamedTuple):
    epoch: int
    peer: int
    seen: tuple[int, int]
    ask: bool


class Ack(NamedTuple):
    seen: tuple[int, int]


class Data(NamedTuple):
    lane: Lane
    number: int
    seen: tuple[int, int]
    flags: int  #: FIRST, LAST
    total: int  #: bytes of the payload; known in its first frame only, else 0
    chunk: memoryview


_LANES = (Lane.CONTROL, Lane.DATA)


def resume(epoch: int, peer: int, seen: tuple[int, int], ask: bool) -> bytes:
    return _RESUME.pack(_KIND_RESUME, VERSION, epoch, peer, *seen, ask)


def ack(seen: tuple[int, int]) -> bytes:
    return _ACK.pack(_KIND_ACK, *seen)


def data_header(lane: Lane, number: int, seen: tuple[int, int], flags: int, total: int) -> bytes:
    header = _DATA.pack(_KIND_DATA | flags | lane, number, *seen)
    return header + _TOTAL.pack(total) if flags == FIRST else header


def parse(frame: BytesLike) -> Resume | Ack | Data:
    """Raises ``FrameGarbled``. The chunk of a DATA frame is a view of ``frame``."""
    if not frame:
        raise FrameGarbled(reason="an empty frame")
    kind = frame[0]
    try:
        if kind & 0xF8 == _KIND_DATA:
            return _parse_data(memoryview(frame))
        if kind == _KIND_ACK:
            _, control, data = _ACK.unpack(frame)
            return Ack((control, data))
        if kind == _KIND_RESUME:
            _, version, epoch, peer, control, data, ask = _RESUME.unpack(frame)
            if version != VERSION or not epoch or ask > 1:
                raise FrameGarbled(reason=f"a resume of version {version}")
            return Resume(epoch, peer, (control, data), bool(ask))
    except struct.error:
        raise FrameGarbled(reason=f"a frame of kind {kind:#x} with {len(frame)} bytes") from None
    raise FrameGarbled(reason=f"a frame of unknown kind {kind:#x}")


def _parse_data(frame: memoryview) -> Data:
    bits, number, control, data = _DATA.unpack_from(frame)
    flags = bits & (FIRST | LAST)
    total = 0
    start = _DATA.size
    if flags == FIRST:
        (total,) = _TOTAL.unpack_from(frame, start)
        start += _TOTAL.size
    return Data(_LANES[bits & 1], number, (control, data), flags, total, frame[start:])
