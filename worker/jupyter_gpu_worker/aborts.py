"""Which cells run no more after one that failed: as at a local kernel, however long messages take.

A kernel skips the cells that wait when one fails. Over a network, those that the person started before they could know of the failure may
arrive after it, and would run. So each request says how many failures its client had been told, and one that knows less than there were
is answered here.
"""

from __future__ import annotations

import msgspec

from jupyter_gpu.wire.codec import BytesLike
from jupyter_gpu.wire.signed import Signed, Signer, body, join

#: Requests of which the answer is awaited, beyond which the oldest are forgotten.
_MOST = 10_000


class _Execute(msgspec.Struct):
    silent: bool = False
    stop_on_error: bool = True


class _Reply(msgspec.Struct):
    status: str = ""


_execute = msgspec.json.Decoder(_Execute)
_reply = msgspec.json.Decoder(_Reply)

#: (channel, frames)
Said = tuple[str, "list[BytesLike]"]


class Aborts:
    """For the shell channel of one kernel."""

    def __init__(self, signer: Signer) -> None:
        self.failures = 0  #: cells that failed, and stopped those behind them
        self._signer = signer
        self._last: dict[str | None, int] = {}  # subshell -> number of its last failure
        self._asked: dict[str, str | None] = {}  # msg_id of a cell that stops others if it fails -> its subshell
        self._client = 0
        self._session = ""  # the kernel's

    def asked(self, message: Signed, seen: int, client: int) -> list[Said]:
        """A request is about to be given to the kernel; what is to be said instead, if anything. ``client``: another one than before
        knows of no failure, and asked for nothing before it."""
        if client != self._client:
            self._client = client
            self._last.clear()
        header = message.header
        if header.msg_type != "execute_request":
            return []
        if self._last.get(header.subshell_id, 0) > seen:
            return self._aborted(message)
        try:
            content = _execute.decode(message.body[3])
        except msgspec.DecodeError:
            return []  # the kernel will say what is wrong with it
        if content.stop_on_error and not content.silent:
            self._asked[header.msg_id] = header.subshell_id
            if len(self._asked) > _MOST:
                del self._asked[next(iter(self._asked))]
        return []

    def answered(self, message: Signed) -> None:
        """A reply is about to be sent to the client."""
        parent = message.parent.msg_id
        if parent not in self._asked or message.header.msg_type != "execute_reply":
            return
        subshell = self._asked.pop(parent)
        if _reply.decode(message.body[3]).status == "error":
            self.failures += 1
            self._last[subshell] = self.failures
            self._session = message.header.session

    def _aborted(self, message: Signed) -> list[Said]:
        """What ipykernel says of a cell that it skips."""
        parent = message.body[0]
        said: list[Said] = [("iopub", self._status("busy", parent))]
        reply = body("execute_reply", {"status": "aborted"}, session=self._session, parent=parent, metadata={"status": "aborted"})
        said.append(("shell", join(message.identities, self._signer, reply)))
        said.append(("iopub", self._status("idle", parent)))
        return said

    def _status(self, state: str, parent: BytesLike) -> list[BytesLike]:
        return join([b"status"], self._signer, body("status", {"execution_state": state}, session=self._session, parent=parent))
