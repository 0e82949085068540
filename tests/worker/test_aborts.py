"""Which cells are skipped after one that failed: those whose sender could not know, and no others."""

from __future__ import annotations

from typing import Any

from jupyter_client.session import Session
from jupyter_gpu_worker.aborts import Aborts

from jupyter_gpu.wire.signed import Signer, split

KEY = b"k"


class Played:
    """A front end, and the kernel that answers it."""

    def __init__(self) -> None:
        self.front_end, self.kernel = Session(key=KEY), Session(key=KEY)
        self.aborts = Aborts(Signer(KEY))
        self.seen = 0  #: failures that the front end was told of

    def ask(
        self, kind: str = "execute_request", subshell: str | None = None, client: int = 1, **content: Any
    ) -> tuple[dict[str, Any], list[Any]]:
        """(the request, what is said instead of giving it to the kernel)."""
        request = self.front_end.msg(kind, {"code": "1", **content})
        request["header"]["subshell_id"] = subshell
        frames = self.front_end.serialize(request, ident=b"me")
        return request, self.aborts.asked(split(frames), self.seen, client)

    def answer(self, request: dict[str, Any], status: str) -> None:
        reply = self.kernel.msg("execute_reply", {"status": status}, parent=request)
        self.aborts.answered(split(self.kernel.serialize(reply, ident=b"me")))

    def fail(self, **how: Any) -> None:
        request, instead = self.ask(**how)
        assert not instead
        self.answer(request, "error")


def test_what_was_sent_before_the_failure_was_known() -> None:
    played = Played()
    played.fail()
    request, instead = played.ask()
    assert [channel for channel, _ in instead] == ["iopub", "shell", "iopub"]
    found = []
    for _, frames in instead:
        _, parts = played.front_end.feed_identities([bytes(f) for f in frames])
        found.append(played.front_end.deserialize(parts))
    assert [m["content"].get("execution_state", m["content"].get("status")) for m in found] == ["busy", "aborted", "idle"]
    assert {m["parent_header"]["msg_id"] for m in found} == {request["header"]["msg_id"]}
    assert {m["header"]["session"] for m in found} == {played.kernel.session}
    assert instead[1][1][0] == b"me", "to who asked"


def test_who_knows_of_it_goes_on() -> None:
    played = Played()
    played.fail()
    played.seen = played.aborts.failures
    assert not played.ask()[1]
    assert not played.ask()[1]


def test_what_stops_nothing() -> None:
    played = Played()
    played.fail(stop_on_error=False)
    played.fail(silent=True)
    request, _ = played.ask()
    played.answer(request, "aborted")
    assert played.aborts.failures == 0 and not played.ask()[1]


def test_cells_alone_are_skipped() -> None:
    played = Played()
    played.fail()
    assert not played.ask("kernel_info_request")[1] and not played.ask("comm_msg")[1]
    assert played.ask()[1]


def test_each_subshell_has_its_own_queue() -> None:
    played = Played()
    played.fail(subshell="one")
    assert not played.ask()[1] and not played.ask(subshell="two")[1]
    assert played.ask(subshell="one")[1]


def test_another_client_asked_for_nothing_before() -> None:
    played = Played()
    played.fail()
    assert not played.ask(client=2)[1]


def test_what_nobody_can_read_is_the_kernels_to_refuse() -> None:
    played = Played()
    request = played.front_end.msg("execute_request", {})
    frames = played.front_end.serialize(request, ident=b"me")
    frames[-1] = b"[1"
    assert not played.aborts.asked(split(frames), 0, 1)
    played.answer(request, "error")
    assert played.aborts.failures == 0
