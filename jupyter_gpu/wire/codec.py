"""Messages and their buffers as payloads, and back.

A payload is::

    u32 number of buffers | u32 length of the body | u64 length of each buffer | body | buffers

all little-endian; the body is MessagePack. A buffer of at least 4 KiB begins at a multiple of 64 bytes from the
start of the payload (zero bytes before it), so that arrays that are laid over a received payload are aligned.
Buffers are never copied, neither here nor there: the parts refer to the memory of the sender, which must not change
until the peer has acknowledged them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pickle import PickleBuffer
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from .errors import FrameGarbled, FrameTooLarge
from .messages import AnyMessage, Message

if TYPE_CHECKING:
    from typing_extensions import Buffer

BytesLike: TypeAlias = bytes | bytearray | memoryview

#: Bytes. What is large belongs into buffers.
MAX_BODY = 256 << 20
MAX_BUFFERS = 1 << 22

_ALIGN = 64
_ALIGNED_FROM = 4096
_HEAD = struct.Struct("<II")
_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: Message, buffers: Sequence[Buffer] = ()) -> list[BytesLike]:
    """The parts of a payload: head and body first, then each buffer (any object with the buffer protocol, as flat
    bytes; one that is not contiguous is copied), with padding in between where alignment asks for it.
    Raises ``FrameTooLarge``."""
    body = _encode(message)
    if len(body) > MAX_BODY:
        raise FrameTooLarge(size=len(body), limit=MAX_BODY)
    if not buffers:
        return [_HEAD.pack(0, len(body)) + body]
    if len(buffers) > MAX_BUFFERS:
        raise FrameTooLarge(size=len(buffers), limit=MAX_BUFFERS)
    views = [flat(buffer) for buffer in buffers]
    sizes = [len(view) for view in views]
    head = struct.pack(f"<II{len(sizes)}Q", len(sizes), len(body), *sizes) + body
    parts: list[BytesLike] = [head]
    at = len(head)
    for view, size in zip(views, sizes):
        if gap := _gap(at, size):
            parts.append(bytes(gap))
        parts.append(view)
        at += gap + size
    return parts


def decode(payload: BytesLike | Sequence[BytesLike]) -> tuple[AnyMessage, list[memoryview]]:
    """The message and its buffers, which are views of ``payload``. Takes a joined payload, or parts in which each
    buffer is a part of its own (as ``encode`` gives them) or which are cut anywhere else (then they are joined).
    Raises ``FrameGarbled`` on anything that ``encode`` would not have written."""
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return _decode_joined(memoryview(payload))
    if len(payload) == 1:
        return _decode_joined(memoryview(payload[0]))
    return _decode_parts(payload)


def peek(beginning: BytesLike, size: int) -> tuple[AnyMessage, int, int] | None:
    """Of a payload of ``size`` bytes that has one buffer: the message, where it ends, and where the buffer begins. None if the beginning
    is too short to tell, or if it is another kind of payload. Raises ``FrameGarbled``."""
    view = memoryview(beginning)
    if len(view) < _HEAD.size + 8:
        return None
    count, length = _HEAD.unpack_from(view)
    start = _HEAD.size + 8
    end = start + length
    if count != 1 or end > len(view):
        return None
    (buffer,) = struct.unpack_from("<Q", view, _HEAD.size)
    if end + _gap(end, buffer) + buffer != size:
        return None
    return _read_body(view[start:end]), end, size - buffer


def size_of(parts: Sequence[BytesLike]) -> int:
    """Bytes of a payload that is still in parts."""
    return sum(map(len, parts))


def flat(buffer: Buffer) -> BytesLike:
    """The bytes of any object with the buffer protocol; copied only if they are not contiguous."""
    if isinstance(buffer, bytes):
        return buffer
    if isinstance(buffer, memoryview) and buffer.format == "B" and buffer.ndim == 1 and buffer.contiguous:
        # Not by way of a PickleBuffer: where CPython (3.11) collects one over a memoryview as garbage, it crashes.
        return buffer
    try:
        # Takes any format and any number of dimensions, and Fortran order as well, which memoryview.cast refuses.
        return PickleBuffer(buffer).raw()
    except BufferError:
        return memoryview(buffer).tobytes()


def _gap(at: int, size: int) -> int:
    return -at % _ALIGN if size >= _ALIGNED_FROM else 0


def _decode_joined(payload: memoryview) -> tuple[AnyMessage, list[memoryview]]:
    if payload.itemsize != 1 or payload.ndim != 1:
        payload = payload.cast("B")
    sizes, start, end = _read_head(payload)
    message = _read_body(payload[start:end])
    buffers = []
    for size in sizes:
        end += _gap(end, size)
        buffers.append(payload[end : end + size])
        end += size
    if end != len(payload):
        raise FrameGarbled(reason=f"the payload has {len(payload)} bytes and announces {end}")
    return message, buffers


def _decode_parts(parts: Sequence[BytesLike]) -> tuple[AnyMessage, list[memoryview]]:
    """Without a copy if the parts are cut as ``encode`` cuts them."""
    try:
        sizes, start, end = _read_head(memoryview(parts[0] if parts else b""))
    except FrameGarbled:
        return _decode_joined(memoryview(b"".join(parts)))  # which may be cut inside the head
    lengths = []
    at = end
    for size in sizes:
        if gap := _gap(at, size):
            lengths.append(gap)
        lengths.append(size)
        at += gap + size
    if [end, *lengths] != [len(part) for part in parts]:
        return _decode_joined(memoryview(b"".join(parts)))
    rest = iter(parts[1:])
    buffers = []
    at = end
    for size in sizes:
        if gap := _gap(at, size):
            next(rest)
        buffers.append(memoryview(next(rest)))
        at += gap + size
    return _read_body(memoryview(parts[0])[start:end]), buffers


def _read_head(payload: memoryview) -> tuple[tuple[int, ...], int, int]:
    """Sizes of the buffers; where the body begins and ends."""
    if len(payload) < _HEAD.size:
        raise FrameGarbled(reason=f"a payload of {len(payload)} bytes")
    count, length = _HEAD.unpack_from(payload)
    start = _HEAD.size + 8 * count
    if count > MAX_BUFFERS or length > MAX_BODY or start + length > len(payload):
        raise FrameGarbled(reason=f"{count} buffers and a body of {length} bytes in a payload of {len(payload)}")
    if not count:
        return (), start, start + length
    return struct.unpack_from(f"<{count}Q", payload, _HEAD.size), start, start + length


def _read_body(body: memoryview) -> AnyMessage:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameGarbled(reason=f"not a message: {error}") from None
