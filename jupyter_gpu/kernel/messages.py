"""What the shim itself has to say to front ends, in the kernel's name."""

from __future__ import annotations

from typing import Any

from ..wire.codec import BytesLike
from ..wire.errors import FrameGarbled, JupyterGpuError
from ..wire.signed import Signed, Signer, body, join, split

#: Requests of which the reply is awaited, beyond which the oldest are forgotten.
_MOST = 10_000

Frames = list[BytesLike]


class Voice:
    """Remembers who waits for what, and whose name the kernel's messages carry."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._running: dict[str, Signed] = {}  # msg_id of an execute_request -> it
        self._last: BytesLike = b"{}"  # header of the cell that was sent last
        self.session = ""  #: the kernel's own id: front ends take another one for another kernel's

    def asked(self, frames: Frames) -> bool:
        """A request of the shell's passes; whether it is a cell."""
        try:
            message = split(frames)
            header = message.header
        except FrameGarbled:
            return False
        if header.msg_type == "execute_request":
            self._running[header.msg_id] = message
            self._last = message.body[0]
            if len(self._running) > _MOST:
                del self._running[next(iter(self._running))]
            return True
        return False

    def answered(self, frames: Frames) -> None:
        """A reply of the shell's passes."""
        try:
            message = split(frames)
            if not self.session:
                self.session = message.header.session
            if self._running:
                self._running.pop(message.parent.msg_id, None)
        except FrameGarbled:
            pass

    def iopub(self, kind: str, content: dict[str, Any], parent: BytesLike = b"{}") -> Frames:
        return join([kind.encode()], self._signer, body(kind, content, session=self.session, parent=parent))

    def welcome(self, topic: bytes) -> Frames:
        """To a new subscriber (JEP 65)."""
        said = body("iopub_welcome", {"subscription": topic.decode(errors="replace")}, session=self.session)
        return join([topic] if topic else [], self._signer, said)

    def reply(self, frames: Frames, kind: str, content: dict[str, Any]) -> Frames:
        """To a request that the kernel itself does not see. Raises ``FrameGarbled``."""
        request = split(frames)
        return join(request.identities, self._signer, body(kind, content, session=self.session, parent=request.body[0]))

    def executed(self, msg_id: str, content: dict[str, Any]) -> Frames | None:
        """The reply to a cell that runs, as the kernel would give it; None: it is none."""
        request = self._running.pop(msg_id, None)
        if request is None:
            return None
        return join(request.identities, self._signer, body("execute_reply", content, session=self.session, parent=request.body[0]))

    def failure(self, error: JupyterGpuError) -> list[Frames]:
        """Under the cells that run, or under the last one: the kernel is gone, and why."""
        shown = ["\x1b[0;31m" + type(error).__name__ + "\x1b[0m: " + error.sentence, *([error.hint] if error.hint else [])]
        running = [m.body[0] for m in self._running.values()]
        content = {"ename": type(error).__name__, "evalue": error.sentence, "traceback": shown}
        if running:
            return [self.iopub("error", content, parent) for parent in running[:1]]
        return [self.iopub("stream", {"name": "stderr", "text": f"{error.sentence} {error.hint}\n"}, self._last)]

    def notice(self, text: str, frames: Frames) -> Frames:
        """Under the cell of this request."""
        return self.iopub("stream", {"name": "stderr", "text": text + "\n"}, split(frames).body[0])
