"""Jupyter messages as they travel inside a ``Jupyter`` message: four JSON parts, then binary buffers. Decoded as little as can be."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import msgspec

from ..wire.codec import BytesLike
from ..wire.errors import FrameGarbled

#: Of Jupyter's messaging protocol.
VERSION = "5.4"
#: Of the session that messages of ours towards a remote kernel carry.
_SESSION = uuid.uuid4().hex


class Header(msgspec.Struct):
    """What of a header (or a parent's) matters here."""

    msg_type: str = ""
    msg_id: str = ""


class StreamContent(msgspec.Struct):
    name: str
    text: str


_header = msgspec.json.Decoder(Header)
_stream = msgspec.json.Decoder(StreamContent)


@dataclass(frozen=True)
class Envelope:
    """A message that came from the remote kernel. ``raw`` are header, parent, metadata and content as JSON."""

    kind: str
    msg_id: str
    parent_id: str
    raw: tuple[BytesLike, BytesLike, BytesLike, BytesLike]
    buffers: Sequence[memoryview]

    @classmethod
    def of(cls, parts: Sequence[memoryview]) -> Envelope:
        """Raises ``FrameGarbled`` for what is no message."""
        if len(parts) < 4:
            raise FrameGarbled(reason=f"a Jupyter message of {len(parts)} parts")
        try:
            header, parent = _header.decode(parts[0]), _header.decode(parts[1])
        except msgspec.DecodeError as error:
            raise FrameGarbled(reason=f"a Jupyter message without a header: {error}") from None
        return cls(header.msg_type, header.msg_id, parent.msg_id, (parts[0], parts[1], parts[2], parts[3]), parts[4:])

    @property
    def header(self) -> dict[str, Any]:
        return _object(self.raw[0])

    @property
    def parent(self) -> dict[str, Any]:
        return _object(self.raw[1])

    @property
    def metadata(self) -> dict[str, Any]:
        return _object(self.raw[2])

    @property
    def content(self) -> dict[str, Any]:
        return _object(self.raw[3])

    @property
    def content_bytes(self) -> bytes:
        return bytes(self.raw[3])

    def stream(self) -> StreamContent:
        try:
            return _stream.decode(self.raw[3])
        except msgspec.DecodeError as error:
            raise FrameGarbled(reason=f"a stream message that cannot be read: {error}") from None


def _object(data: BytesLike) -> dict[str, Any]:
    if len(data) <= 2:
        return {}
    try:
        found = json.loads(bytes(data))  # not msgspec: NaN and Infinity are in what people display
    except ValueError as error:
        raise FrameGarbled(reason=f"a Jupyter message that is not JSON: {error}") from None
    return found if isinstance(found, dict) else {}


def build(
    msg_type: str,
    content: dict[str, Any],
    parent: dict[str, Any] | None = None,
    *,
    header: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    buffers: Sequence[BytesLike] = (),
) -> list[BytesLike]:
    """The out-of-band buffers of a ``Jupyter`` message towards the remote kernel. ``header``: one that came from a front end, whose
    answers must name it; otherwise a new one. Dates become ISO text."""
    if header is None:
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": msg_type,
            "session": _SESSION,
            "username": "",
            "date": datetime.now(timezone.utc),
            "version": VERSION,
        }
    return [*(json.dumps(part or {}, default=_plain).encode() for part in (header, parent, metadata, content)), *buffers]


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
