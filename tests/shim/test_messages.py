"""What the shim says itself: under the right cell, in the kernel's name, signed as front ends expect it."""

from __future__ import annotations

from typing import Any

from jupyter_client.session import Session

from jupyter_gpu.kernel.messages import Frames, Voice
from jupyter_gpu.wire.errors import KernelLost
from jupyter_gpu.wire.signed import Signer

KEY = b"k"
LOST = KernelLost(reason="killed by SIGKILL")


class Played:
    """A front end and a kernel around a voice."""

    def __init__(self) -> None:
        self.front_end, self.kernel = Session(key=KEY), Session(key=KEY)
        self.voice = Voice(Signer(KEY))

    def ask(self, kind: str = "execute_request") -> tuple[dict[str, Any], bool]:
        """(the request, whether it was taken for a cell)."""
        request = self.front_end.msg(kind, {"code": "1"})
        return request, self.voice.asked(list(self.front_end.serialize(request, ident=b"front-end")))

    def answer(self, request: dict[str, Any]) -> None:
        reply = self.kernel.msg("execute_reply", {"status": "ok"}, parent=request)
        self.voice.answered(list(self.kernel.serialize(reply, ident=b"front-end")))

    def read(self, frames: Frames) -> dict[str, Any]:
        """As a front end does, which refuses what is not signed."""
        _, parts = self.front_end.feed_identities([bytes(f) for f in frames])
        found: dict[str, Any] = self.front_end.deserialize(parts)
        return found


def test_a_loss_is_told_under_the_cell_that_runs() -> None:
    played = Played()
    done, _ = played.ask()
    played.answer(done)
    running, is_cell = played.ask()
    played.ask()  # waits behind it
    (told,) = [played.read(frames) for frames in played.voice.failure(LOST)]
    assert is_cell and told["msg_type"] == "error" and told["parent_header"]["msg_id"] == running["header"]["msg_id"]
    assert told["content"]["ename"] == "KernelLost" and "SIGKILL" in told["content"]["evalue"]
    assert told["header"]["session"] == played.kernel.session


def test_a_loss_while_nothing_runs_is_told_under_the_last_cell() -> None:
    played = Played()
    done, _ = played.ask()
    played.answer(done)
    (told,) = [played.read(frames) for frames in played.voice.failure(LOST)]
    assert told["msg_type"] == "stream" and told["content"]["name"] == "stderr" and "SIGKILL" in told["content"]["text"]
    assert told["parent_header"]["msg_id"] == done["header"]["msg_id"]


def test_what_is_no_cell_and_what_is_no_message() -> None:
    played = Played()
    assert not played.ask("kernel_info_request")[1]
    assert not played.voice.asked([b"front-end", b"nothing"])
    played.voice.answered([b"front-end", b"nothing"])
    assert played.voice.session == ""


def test_welcomes_replies_and_notices() -> None:
    played = Played()
    request, _ = played.ask("shutdown_request")
    frames: Frames = list(played.front_end.serialize(request, ident=b"front-end"))
    reply = played.voice.reply(frames, "shutdown_reply", {"status": "ok", "restart": True})
    assert reply[0] == b"front-end" and played.read(reply)["parent_header"]["msg_id"] == request["header"]["msg_id"]
    welcome = played.voice.welcome(b"status")
    assert welcome[0] == b"status" and played.read(welcome)["content"] == {"subscription": "status"}
    assert played.read(played.voice.notice("hear, hear", frames))["content"] == {"name": "stderr", "text": "hear, hear\n"}
