"""Requests on the shell channel that the kernel has not dealt with: another kernel that takes its place is given them again."""

from __future__ import annotations

from collections.abc import Sequence

from ..wire.codec import BytesLike
from ..wire.errors import FrameGarbled
from ..wire.signed import split

#: Requests that are remembered; older ones were never answered, and will not be.
_MOST = 10_000


class Outstanding:
    """Those that a kernel says it is idle after, in order. Messages of comms are none of them: a comm is of the kernel that it was opened
    with, and its messages mean nothing to another one."""

    def __init__(self) -> None:
        self._frames: dict[str, Sequence[BytesLike]] = {}

    def asked(self, frames: Sequence[BytesLike]) -> None:
        """A front end's request passes."""
        try:
            header = split(frames).header
        except FrameGarbled:
            return
        if header.msg_type.startswith("comm_"):
            return
        self._frames[header.msg_id] = frames
        if len(self._frames) > _MOST:
            del self._frames[next(iter(self._frames))]

    def heard(self, frames: Sequence[BytesLike]) -> None:
        """A message on iopub passes."""
        if not self._frames or not bytes(frames[0]).endswith(b"status"):
            return
        try:
            message = split(frames)
            if b'"idle"' in bytes(message.body[3]):
                self._frames.pop(message.parent.msg_id, None)
        except FrameGarbled:
            pass

    def take(self, cell: str = "") -> list[Sequence[BytesLike]]:
        """All of them but for ``cell`` (a msg_id), which was dealt with otherwise."""
        found = [frames for msg_id, frames in self._frames.items() if msg_id != cell]
        self._frames.clear()
        return found
