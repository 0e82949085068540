"""A session that is trusted with data alone; and syncs that are cut in the middle."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from jupyter_gpu.cells.notebook import Notebook
from jupyter_gpu.sync.chunks import digest
from jupyter_gpu.sync.handles import Handle
from jupyter_gpu.sync.segments import Segment, written
from jupyter_gpu.wire.errors import SessionLost, SnapshotRefused, UntrustedValue, WorkerDied
from jupyter_gpu.wire.messages import Applied, BufferRef, CellDone, Chunk, Fetch, Fetched, HandleInfo, Kept, RunCell, Snapshot

pytestmark = pytest.mark.timeout(30)
Run = Callable[[str], Any]
R = "%%remote gpu=H100\n"


@pytest.fixture
def wary(run: Run, shell: Any, gateway: Any) -> Any:
    """The session of a notebook that trusts it with data alone."""
    run(R + "pass").raise_error()
    Notebook.of(shell).remotes["H100"].replica.trust = "data"
    return gateway.opened[0]


def snapshot_of(serial: int, values: dict[str, Any]) -> tuple[Snapshot, list[bytes]]:
    """One pickle for each value."""
    parts = [pickle.dumps(value, 5) for value in values.values()]
    stream = written(Segment(1, 0, i * 1000, len(part)) for i, part in enumerate(parts)) + b"".join(parts)
    return Snapshot(serial=serial, names=list(values), stream=BufferRef(digest(stream), len(stream), 0)), [stream]


def ends_with(session: Any, values: dict[str, Any]) -> Callable[[Any, RunCell], None]:
    def script(s: Any, message: RunCell) -> None:
        s.pending[7] = s.replica.export([])
        snapshot, buffers = snapshot_of(7, values)
        s.tell(CellDone(run_id=message.run_id, status="ok", execution_count=1, snapshot=snapshot), buffers)

    return script


class Code:
    def __reduce__(self) -> Any:
        return print, ("never",)


def test_what_is_refused_is_a_handle_and_shows_no_html(wary: Any, run: Run, shell: Any, capsys: Any) -> None:
    run("mine = 1")
    wary.script = ends_with(wary, {"mine": 2, "f": Code()})
    wary.kept = [
        HandleInfo(name="f", type="Code", text="<b>text</b>", html="<script>evil()</script>", why="not plain"),
        HandleInfo(name="get_ipython", type="Code", text="x"),
        HandleInfo(name="__builtins__", type="Code", text="x"),
    ]
    builtins, get_ipython = shell.user_ns["__builtins__"], shell.user_ns["get_ipython"]
    run(R + "pass").raise_error()
    (told,) = [m for m in wary.sent if isinstance(m, Applied) and m.serial == 7]
    assert not told.ok and told.refused == {"f": "builtins.print"}
    handle = shell.user_ns["f"]
    assert isinstance(handle, Handle) and "script" not in handle._repr_html_() and "&lt;b&gt;" in handle._repr_html_()
    assert shell.user_ns["__builtins__"] is builtins and shell.user_ns["get_ipython"] is get_ipython
    assert shell.user_ns["mine"] == 1, "this worker sent nothing in the second round"
    assert "never" not in capsys.readouterr().out


def test_what_was_not_refused_arrives_in_the_next_round(wary: Any, run: Run, shell: Any) -> None:
    wary.script = ends_with(wary, {"a": 1, "f": Code(), "b": 2, "g": Code()})

    def answer(message: Any, buffers: Any = ()) -> None:
        original(message, buffers)
        if isinstance(message, Applied) and message.refused:
            rest = {n: i for i, n in enumerate(["a", "b"])}
            snapshot, data = snapshot_of(8, rest)
            wary.pending[8] = wary.replica.export([])
            wary.inbox.get()  # the one that the fake sends by itself
            wary.tell(Kept(serial=message.serial, snapshot=snapshot, handles=[HandleInfo(name="f", type="C", text="")]), data)

    original, wary.send = wary.send, answer
    run(R + "pass").raise_error()
    assert (shell.user_ns["a"], shell.user_ns["b"], type(shell.user_ns["f"])) == (0, 1, Handle)


def test_a_worker_that_sends_again_what_was_refused_is_not_heard_for_ever(wary: Any, run: Run, shell: Any) -> None:
    wary.script = ends_with(wary, {"f": Code()})

    def answer(message: Any, buffers: Any = ()) -> None:
        original(message, buffers)
        if isinstance(message, Applied) and message.refused:
            snapshot, data = snapshot_of(message.serial, {"f": Code()})
            wary.inbox.get()
            wary.tell(Kept(serial=message.serial, snapshot=snapshot), data)

    original, wary.send = wary.send, answer
    assert isinstance(run(R + "pass").error_in_exec, SnapshotRefused)
    assert "f" not in shell.user_ns


def test_fetch_is_refused_by_name(wary: Any, run: Run, shell: Any) -> None:
    run("%%remote gpu=H100 keep=h\nh = 1")

    def give(message: Fetch) -> None:
        wary.pending[9] = wary.replica.export([])
        snapshot, data = snapshot_of(9, {"h": Code()})
        wary.tell(Fetched(id=message.id, snapshot=snapshot), data)

    wary.give = give
    error = run("h.fetch()").error_in_exec
    assert isinstance(error, UntrustedValue) and (error.variable, error.what) == ("h", "builtins.print")
    assert isinstance(shell.user_ns["h"], Handle)


def test_an_answer_without_the_value_is_refused(wary: Any, run: Run, shell: Any) -> None:
    run("%%remote gpu=H100 keep=h\nh = 1")

    def give(message: Fetch) -> None:
        wary.tell(Fetched(id=message.id, snapshot=snapshot_of(9, {"other": 1})[0]), snapshot_of(9, {"other": 1})[1])

    wary.give = give
    assert isinstance(run("h.fetch()").error_in_exec, SnapshotRefused) and "other" not in shell.user_ns


@pytest.mark.parametrize("listed", [True, False])
def test_with_in_a_worker_may_ask_for_nothing_else(wary: Any, run: Run, listed: bool) -> None:
    run("given = 1; secret = 'of mine'")

    def script(s: Any, message: RunCell) -> None:
        s.tell(Fetch(id=1, names=["secret"]))
        s.inbox.put(finish)

    def finish() -> Any:
        wary.tell(CellDone(run_id=wary.ran[-1].run_id, status="ok", execution_count=1))
        return wary.inbox.get()

    wary.script = script
    run(f"%%remote gpu=H100 {'in=given' if listed else ''}\ngiven").raise_error()
    fetched, _ = wary.fetched
    assert (fetched.snapshot is None) == listed


# ---------------------------------------------------------------- cuts


def test_a_cut_while_variables_go_out(run: Run, shell: Any, gateway: Any) -> None:
    run("import numpy as np\nkept = [1]; big = np.arange(100_000)")
    run(R + "pass")
    session = gateway.opened[0]
    known = dict(session.namespace)

    def cut(message: Any, buffers: Any = ()) -> None:
        if isinstance(message, Chunk):
            original(message, buffers)  # this much arrives, and what refers to it never does
            raise SessionLost(session="H100", reason="cut")
        original(message, buffers)

    original, session.send = session.send, cut
    kept, big = shell.user_ns["kept"], shell.user_ns["big"]
    assert isinstance(run(R + "kept.append(big[1])").error_in_exec, SessionLost)
    assert shell.user_ns["kept"] is kept == [1] and shell.user_ns["big"] is big and dict(session.namespace) == known
    run(R + "kept.append(int(big[1]))").raise_error()
    assert kept == [1, 1] and len(gateway.opened) == 2


@pytest.mark.parametrize("lost", ["the last message", "a chunk"])
def test_a_cut_while_variables_come_back(run: Run, shell: Any, gateway: Any, lost: str) -> None:
    run("import numpy as np\nkept = [1]; big = np.arange(100_000)")
    run(R + "kept, big").raise_error()
    session = gateway.opened[0]
    kept, big = shell.user_ns["kept"], shell.user_ns["big"]

    def cut(message: Any, buffers: Any = ()) -> None:
        if isinstance(message, Chunk):
            if lost == "a chunk":
                return
        elif lost == "the last message" and isinstance(message, CellDone):
            session.inbox.put(WorkerDied(exit=-9))
            return
        original(message, buffers)

    original, session.tell = session.tell, cut
    error = run(R + "kept.append(2); big += 1; new = 1").error_in_exec
    assert isinstance(error, WorkerDied if lost == "the last message" else SnapshotRefused)
    assert shell.user_ns["kept"] is kept == [1] and shell.user_ns["big"] is big and big[1] == 1 and "new" not in shell.user_ns
    session.tell = original
    run(R + "kept.append(3); big += 1").raise_error()
    expected = [1, 3] if lost == "the last message" else [1, 2, 3]
    assert shell.user_ns["kept"] == expected and int(shell.user_ns["big"][1]) == len(expected)
