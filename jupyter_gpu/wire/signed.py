"""Messages of Jupyter's own as ZMQ carries them: identities, delimiter, signature, four JSON parts, buffers. For those few that are made
or changed on the way; all others pass unread."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

import msgspec

from .codec import BytesLike
from .errors import FrameGarbled

DELIMITER = b"<IDS|MSG>"
#: Of Jupyter's messaging protocol.
VERSION = "5.4"
_PARTS = 4

_encode = msgspec.json.encode


class Header(msgspec.Struct):
    """What of a header (or a parent's) matters on the way."""

    msg_type: str = ""
    msg_id: str = ""
    session: str = ""
    subshell_id: str | None = None


_header = msgspec.json.Decoder(Header)


class Signer:
    """``key`` empty: nothing is signed. Raises ``FrameGarbled`` for a scheme that is none."""

    def __init__(self, key: bytes, scheme: str = "hmac-sha256") -> None:
        kind, _, name = scheme.partition("-")
        if kind != "hmac" or not hasattr(hashlib, name):
            raise FrameGarbled(reason=f"a signature scheme {scheme!r}")
        self._auth = hmac.new(key, digestmod=getattr(hashlib, name)) if key else None

    def sign(self, parts: Sequence[BytesLike]) -> bytes:
        """The signature of the four JSON parts."""
        if self._auth is None:
            return b""
        auth = self._auth.copy()
        for part in parts[:_PARTS]:
            auth.update(part)
        return auth.hexdigest().encode()

    def fits(self, signature: BytesLike, parts: Sequence[BytesLike]) -> bool:
        return hmac.compare_digest(self.sign(parts), bytes(signature))


class Signed(NamedTuple):
    """A message in its parts. ``body``: header, parent, metadata, content as JSON, then buffers."""

    identities: list[BytesLike]
    signature: BytesLike
    body: list[BytesLike]

    @property
    def header(self) -> Header:
        """Raises ``FrameGarbled``."""
        return _read(self.body[0])

    @property
    def parent(self) -> Header:
        """Raises ``FrameGarbled``."""
        return _read(self.body[1])


def _read(part: BytesLike) -> Header:
    try:
        return _header.decode(part)
    except msgspec.DecodeError as error:
        raise FrameGarbled(reason=f"a Jupyter message without a header: {error}") from None


def split(frames: Sequence[BytesLike]) -> Signed:
    """Raises ``FrameGarbled`` for what is no message."""
    at = next((at for at, frame in enumerate(frames) if frame == DELIMITER), -1)
    if at < 0:
        raise FrameGarbled(reason="a Jupyter message without a delimiter")
    if len(frames) < at + 2 + _PARTS:
        raise FrameGarbled(reason=f"a Jupyter message of {len(frames)} frames")
    return Signed(list(frames[:at]), frames[at + 1], list(frames[at + 2 :]))


def join(identities: Sequence[BytesLike], signer: Signer, body: Sequence[BytesLike]) -> list[BytesLike]:
    """The frames of a message, signed."""
    return [*identities, DELIMITER, signer.sign(body), *body]


def body(
    kind: str, content: Mapping[str, Any], *, session: str, parent: BytesLike = b"{}", metadata: Mapping[str, Any] | None = None
) -> list[BytesLike]:
    """The four JSON parts of a message of ours. ``parent``: the header that it answers to, as it came; ``session``: the kernel's, since
    front ends take another one for another kernel's."""
    header = {
        "msg_id": os.urandom(16).hex(),
        "msg_type": kind,
        "username": "jupyter-gpu",
        "session": session,
        "date": datetime.now(timezone.utc).isoformat(),
        "version": VERSION,
    }
    return [_encode(header), parent, _encode(metadata or {}), _encode(content)]
