"""The way of a cell, with a remote kernel that is a second namespace."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from jupyter_gpu.cells.failures import RemoteError
from jupyter_gpu.cells.notebook import Notebook
from jupyter_gpu.cells.remote import Remote
from jupyter_gpu.cells.runner import source_of
from jupyter_gpu.sync.handles import Handle
from jupyter_gpu.wire.errors import (
    BadOptionValue,
    CellTimeout,
    NoSuchName,
    SessionLost,
    SnapshotRefused,
    UnknownOption,
    ValueCannotTravel,
    WorkerDied,
)
from jupyter_gpu.wire.messages import Applied, CannotTravel, Chunk, Fetch, Fetched, HandleInfo, RunCell, Snapshot

pytestmark = pytest.mark.timeout(30)
Run = Callable[[str], Any]


def test_source_keeps_line_numbers() -> None:
    assert source_of("gpu=H100", "a\nb\n") == "# %%remote gpu=H100\na\nb\n"
    assert source_of("gpu=H100", "%%time\nb\n") == "%%time\n# %%remote gpu=H100\nb\n"
    assert source_of("", "\n\n%%time\nb\n") == "%%time\n# %%remote\n\n\nb\n"
    assert source_of("x", "a\n", added=True) == "a\n"


def test_there_and_back(run: Run, shell: Any, gateway: Any) -> None:
    run("a = [1, 2]; b = {'k': a}")
    run("%%remote gpu=H100\na.append(3); c = sum(a)").raise_error()
    ns = shell.user_ns
    assert (ns["a"], ns["c"], ns["b"]["k"] is ns["a"]) == ([1, 2, 3], 6, True)
    assert len(gateway.opened) == 1
    first = gateway.opened[0].ran[0]
    assert first.snapshot.names == ["a"], "b is not named by the cell"
    assert "b" in first.stubs and "a" not in first.stubs


def test_unchanged_is_not_sent_again(run: Run, gateway: Any) -> None:
    run("a = [1, 2]")
    run("%%remote gpu=H100\na")
    run("%%remote gpu=H100\na")
    run("a.append(3)")
    run("%%remote gpu=H100\na")
    assert [r.snapshot.names if r.snapshot else None for r in gateway.opened[0].ran] == [["a"], None, ["a"]]


def test_big_buffers_go_as_chunks(run: Run, shell: Any, gateway: Any) -> None:
    run("import numpy as np; big = np.zeros(100_000)")
    run("%%remote gpu=H100\nbig[3] = 7\nother = big * 2").raise_error()
    assert sum(isinstance(m, Chunk) for m in gateway.opened[0].sent) == 1
    assert shell.user_ns["big"][3] == 7 and shell.user_ns["other"][3] == 14
    shell.user_ns["other"][0] = 1


def test_the_display_hears_how_far_all_of_the_chunks_are(run: Run, gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr("jupyter_gpu.cells.report.Report.moved", lambda self, done, total: told.append((done, total)))
    run("import numpy as np; a = np.zeros(20_000); b = np.ones(30_000)")
    run("%%remote gpu=H100\npass")
    session = gateway.opened[0]
    send = session.send

    def slow(message: Any, buffers: Any = ()) -> None:
        if isinstance(message, Chunk):
            session.on_progress(50_000)
        send(message, buffers)

    monkeypatch.setattr(session, "send", slow)
    run("%%remote gpu=H100\na, b").raise_error()
    (first, second), total = [done for done, _ in told], {of for _, of in told}
    assert total == {400_000} and first == 50_000 and second in (210_000, 290_000)


def test_deleted_names_follow_both_ways(run: Run, shell: Any, gateway: Any) -> None:
    run("x = [1]; y = [2]")
    run("%%remote gpu=H100\nx, y")
    run("%%remote gpu=H100\ndel x").raise_error()
    assert "x" not in shell.user_ns
    run("del y")
    assert isinstance(run("%%remote gpu=H100\ny").error_in_exec, NameError)


def test_printed_text_and_summary(run: Run, capsys: Any) -> None:
    run("%%remote gpu=H100\nprint('hello')")
    out = capsys.readouterr().out
    assert "hello\n" in out and "H100 (simulated) · started" in out and "ran" in out


def test_quiet(run: Run, capsys: Any) -> None:
    run("%%remote gpu=H100 quiet\nprint('hello')")
    assert capsys.readouterr().out == "hello\n"
    run("%remote quiet on")
    capsys.readouterr()
    run("%%remote gpu=H100\nprint('hello')")
    assert capsys.readouterr().out == "hello\n"


def test_true_exception_with_the_remote_traceback_once(run: Run, shell: Any, capsys: Any) -> None:
    run("log = []")
    result = run("%%remote gpu=H100\nlog.append('before')\nraise ValueError('remote trouble')")
    assert type(result.error_in_exec) is ValueError and str(result.error_in_exec) == "remote trouble"
    assert shell.user_ns["log"] == ["before"], "what was changed before it is back"
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("REMOTE TRACEBACK") == 1
    assert "jupyter_gpu" not in shown.out + shown.err


@pytest.mark.parametrize("code", ["raise SyntaxError('odd')", "raise ExceptionGroup('many', [ValueError('one')])"])
def test_exceptions_that_ipython_shows_in_its_own_way(run: Run, code: str, capsys: Any) -> None:
    if "Group" in code and not hasattr(__builtins__, "ExceptionGroup") and "ExceptionGroup" not in dir(__import__("builtins")):
        pytest.skip("Python 3.10 has none")
    result = run(f"%%remote gpu=H100\n{code}")
    assert type(result.error_in_exec).__name__ in code
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("REMOTE TRACEBACK") == 1 and "runner.py" not in shown.out + shown.err
    run("1/0")
    assert "ZeroDivisionError" in capsys.readouterr().out, "the shell shows others as before"


def test_exception_that_cannot_travel_bears_its_name(run: Run) -> None:
    result = run("%%remote gpu=H100\nclass Odd(ValueError):\n    def __reduce__(self): raise TypeError\nraise Odd('why')")
    error = result.error_in_exec
    assert isinstance(error, RemoteError) and type(error).__name__ == "Odd" and str(error) == "why"


def test_what_cannot_travel_is_named_before_anything_runs(run: Run, gateway: Any) -> None:
    run("import threading; config = {'inner': [1, threading.Lock()]}")
    error = run("%%remote gpu=H100\nprint(config)").error_in_exec
    assert isinstance(error, ValueCannotTravel) and error.path == "config['inner'][1]"
    assert not gateway.opened, "no session was started for it"
    run("config['inner'][1] = None")
    run("%%remote gpu=H100\nprint(config)").raise_error()


def test_name_that_the_cell_binds_itself_is_no_reason_not_to_run(run: Run, tmp_path: Any) -> None:
    run("f = (i for i in range(3))")
    run("%%remote gpu=H100\ntotal = 0\nfor f in [1, 2]:\n    total += f").raise_error()


def test_in_names_that_do_not_exist(run: Run, gateway: Any) -> None:
    run("weights_of_model = 1")
    error = run("%%remote gpu=H100 in=weights_of_modle\npass").error_in_exec
    assert isinstance(error, NoSuchName) and error.nearest == "weights_of_model"
    assert not gateway.opened


def test_in_and_out(run: Run, shell: Any, gateway: Any) -> None:
    run("p = 1; q = 2; unused = 3")
    run("%%remote gpu=H100 in=p,q out=r\nr = p + q; t = 5").raise_error()
    assert shell.user_ns["r"] == 3 and "t" not in shell.user_ns
    assert gateway.opened[0].ran[0].snapshot.names == ["p", "q"] and gateway.opened[0].ran[0].stubs == []


def test_unknown_option_touches_nothing(run: Run, gateway: Any) -> None:
    assert isinstance(run("%%remote gpus=H100\npass").error_in_exec, UnknownOption)
    assert not gateway.opened


def test_keep_gives_a_handle_that_fetches(run: Run, shell: Any) -> None:
    run("%%remote gpu=H100 keep=weights\nweights = [1, 2, 3]").raise_error()
    handle = shell.user_ns["weights"]
    assert isinstance(handle, Handle)
    assert handle.fetch() == [1, 2, 3]
    assert shell.user_ns["weights"] is handle
    run("%%remote gpu=H100\ntotal = sum(weights)").raise_error()
    assert shell.user_ns["total"] == 6


def test_handle_in_another_session(run: Run, shell: Any) -> None:
    run("%%remote gpu=H100 keep=weights\nweights = [1]")
    error = run("%%remote gpu=cpu\nweights").error_in_exec
    assert isinstance(error, ValueCannotTravel) and "H100" in str(error) and "fetch" in str(error)


def test_handle_of_another_session_inside_of_something(run: Run, shell: Any) -> None:
    run("%%remote gpu=H100 keep=weights\nweights = [1]")
    run("box = {'deep': [weights]}\ndef f(x=weights): return x")
    for code in ("box", "f()"):
        error = run(f"%%remote gpu=cpu\n{code}").error_in_exec
        assert isinstance(error, ValueCannotTravel) and "the handle weights inside of it" in str(error) and "weights.fetch()" in str(error)
    run("%%remote gpu=H100\nbox['deep'][0].append(2); n = f()[-1]").raise_error()
    assert shell.user_ns["n"] == 2


def test_handle_of_a_session_that_ended(run: Run, shell: Any) -> None:
    run("%%remote gpu=H100 keep=weights\nweights = [1]")
    run("%remote stop")
    with pytest.raises(SessionLost):
        shell.user_ns["weights"].fetch()
    assert isinstance(run("%%remote gpu=H100\nweights").error_in_exec, ValueCannotTravel)


def test_fetch_on_demand(run: Run, gateway: Any, shell: Any) -> None:
    run("secret = [42]")
    run("%%remote gpu=H100\npass")
    session = gateway.opened[0]

    def script(s: Any, message: RunCell) -> None:
        mark = s.replica.mark()
        assert "secret" in message.stubs
        s.tell(Fetch(id=1, names=["secret"]))

        def later() -> Any:
            fetched, buffers = s.fetched
            assert isinstance(fetched, Fetched) and fetched.snapshot is not None
            from jupyter_gpu.sync.chunks import unpack

            s.replica.apply(fetched.snapshot, *unpack(fetched.snapshot, buffers, s.store))
            s.namespace["secret"].append(43)
            s.finish(message, mark)
            return None

        s.inbox.put(later)

    session.script = script
    # None from `later` is no message: receive again.
    run("%%remote gpu=H100 timeout=20s\neval('sec' + 'ret')").raise_error()
    assert shell.user_ns["secret"] == [42, 43]


def test_result_goes_into_out(run: Run, gateway: Any, shell: Any, capsys: Any) -> None:
    run("%%remote gpu=H100\npass")

    def script(s: Any, message: RunCell) -> None:
        mark = s.replica.mark()
        s.out("execute_result", {"data": {"text/plain": "42"}, "metadata": {}, "execution_count": message.execution_count}, message.run_id)
        s.namespace["_"] = 42
        export = s.replica.export(["_"])
        from jupyter_gpu.sync.chunks import pack
        from jupyter_gpu.wire.messages import CellDone

        parcel = pack(export)
        s.pending[export.snapshot.serial] = export
        s.tell(CellDone(run_id=message.run_id, status="ok", execution_count=1, snapshot=parcel.snapshot, has_result=True), parcel.inline)
        del mark

    gateway.opened[0].script = script
    run("7")
    capsys.readouterr()
    result = run("%%remote gpu=H100 quiet\n6 * 7")
    count = shell.execution_count - 1
    assert result.result == 42
    assert shell.user_ns["Out"][count] == 42 and shell.user_ns["_"] == 42 and shell.user_ns["__"] == 7
    assert gateway.opened[0].ran[-1].execution_count == count
    out = capsys.readouterr().out
    assert out.count("42") == 1 and f"Out[{count}]" in out
    assert run("_ + 1").result == 43


def test_worker_that_dies(run: Run, gateway: Any, shell: Any, capsys: Any) -> None:
    run("kept = [1]")
    run("%%remote gpu=H100\nkept")

    def script(s: Any, message: RunCell) -> None:
        s.out("stream", {"name": "stdout", "text": "before\n"}, message.run_id)
        s.inbox.put(WorkerDied(exit=-9))

    gateway.opened[0].script = script
    assert isinstance(run("%%remote gpu=H100\nkept.append(2)").error_in_exec, WorkerDied)
    assert "before" in capsys.readouterr().out
    assert shell.user_ns["kept"] == [1]
    run("%%remote gpu=H100\nkept.append(3)").raise_error()
    assert len(gateway.opened) == 2 and gateway.opened[1].ran[0].snapshot.names == ["kept"], "everything is sent again"
    assert shell.user_ns["kept"] == [1, 3]


def test_refused_snapshot_with_stale_tokens_is_sent_whole(run: Run, gateway: Any, shell: Any) -> None:
    run("a = [1]; b = [a]")
    run("%%remote gpu=H100\na, b")
    gateway.opened[0].replica.objects.clear()
    run("a.append(2)")
    run("%%remote gpu=H100\na.append(3)").raise_error()
    assert shell.user_ns["a"] == [1, 2, 3]
    assert isinstance(Notebook.of(shell).remotes["H100"].session, object) and len(gateway.opened) == 1


@pytest.mark.parametrize("times", [1, 2])
def test_what_a_thread_changes_on_its_way_is_sent_anew_once(
    run: Run, gateway: Any, shell: Any, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    run("import numpy as np\nv = np.zeros(1000)")
    run("%%remote gpu=H100\npass")
    ship = Remote.ship
    left = [times]

    def shipped(remote: Remote, export: Any, first: int = 0) -> Any:
        if export.sent and left[0]:
            left[0] -= 1
            shell.user_ns["v"][5] += 1  # after the digest was taken
        return ship(remote, export, first)

    monkeypatch.setattr(Remote, "ship", shipped)
    result = run("%%remote gpu=H100\nseen = v[5]")
    if times == 1:
        result.raise_error()
        assert shell.user_ns["seen"] == 1
    else:
        assert isinstance(result.error_in_exec, SnapshotRefused) and "seen" not in shell.user_ns
        run("%%remote gpu=H100\nseen = v[5]").raise_error()
        assert shell.user_ns["seen"] == 2


def test_snapshot_that_needs_a_missing_module(run: Run, shell: Any, gateway: Any) -> None:
    run("%%remote gpu=H100\npass")

    def script(s: Any, message: RunCell) -> None:
        from jupyter_gpu.wire.messages import CellDone

        s.pending[99] = s.replica.export([])
        s.tell(
            CellDone(run_id=message.run_id, status="ok", execution_count=1, snapshot=Snapshot(serial=99, modules={"no_such_module_x": "1"}))
        )

    gateway.opened[0].script = script
    gateway.opened[0].kept = [HandleInfo(name="thing", type="no_such_module_x.Thing", text="a thing", why="it needs no_such_module_x")]
    run("%%remote gpu=H100\npass").raise_error()
    told = [m for m in gateway.opened[0].sent if isinstance(m, Applied)][-1]
    assert not told.ok and told.missing == ["no_such_module_x"]
    assert isinstance(shell.user_ns["thing"], Handle)


def test_second_session_by_name(run: Run, gateway: Any) -> None:
    run("%%remote gpu=cpu\npass")
    run("%%remote gpu=cpu name=second\npass")
    run("%%remote name=second\npass").raise_error()
    assert len(gateway.opened) == 2
    assert isinstance(run("%%remote gpu=H100 name=second\npass").error_in_exec, BadOptionValue)


def press_when_running(session: Any, presses: int) -> Callable[[Any, RunCell], None]:
    def script(s: Any, message: RunCell) -> None:
        main = threading.main_thread().ident
        assert main is not None

        def press() -> None:
            for _ in range(presses):
                done = threading.Event()
                signal.pthread_kill(main, signal.SIGINT)
                done.wait(0.3)

        threading.Thread(target=press, daemon=True).start()

    return script


def test_interrupt_is_a_true_keyboard_interrupt(run: Run, gateway: Any, shell: Any) -> None:
    run("%%remote gpu=H100\npass")
    session = gateway.opened[0]
    session.script = lambda s, m: (setattr(s, "message", m), setattr(s, "mark", s.replica.mark()), press_when_running(s, 1)(s, m))

    def interrupted() -> None:
        session.namespace["partial"] = 1
        session.finish(session.message, session.mark, KeyboardInterrupt())

    session.on_interrupt = interrupted
    result = run("%%remote gpu=H100\npartial = 1\nwhile True: pass")
    assert type(result.error_in_exec) is KeyboardInterrupt
    assert session.interrupts == 1 and not session.killed
    assert shell.user_ns["partial"] == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_second_interrupt_kills_and_says_so(run: Run, gateway: Any, shell: Any, capsys: Any) -> None:
    run("kept = [1]")
    run("%%remote gpu=H100\nkept")
    session = gateway.opened[0]
    session.script = press_when_running(session, 2)
    result = run("%%remote gpu=H100\nkept.append(2)")
    assert isinstance(result.error_in_exec, KeyboardInterrupt) and "killed" in str(result.error_in_exec)
    assert session.killed and shell.user_ns["kept"] == [1]
    assert "killed" in capsys.readouterr().err
    run("%%remote gpu=H100\nkept").raise_error()
    assert len(gateway.opened) == 2


def test_timeout_interrupts(run: Run, gateway: Any, shell: Any) -> None:
    run("%%remote gpu=H100\npass")
    session = gateway.opened[0]
    session.script = lambda s, m: (setattr(s, "message", m), setattr(s, "mark", s.replica.mark()))

    def interrupted() -> None:
        session.namespace["partial"] = 1
        session.finish(session.message, session.mark, KeyboardInterrupt())

    session.on_interrupt = interrupted
    result = run("%%remote gpu=H100 timeout=50ms\npartial = 1")
    assert isinstance(result.error_in_exec, CellTimeout) and session.interrupts == 1
    assert shell.user_ns["partial"] == 1, "what was changed before it is back"


def test_timeout_kills_what_does_not_stop(run: Run, gateway: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("jupyter_gpu.cells.runner.GRACE", 0.05)
    run("%%remote gpu=H100\npass")
    session = gateway.opened[0]
    session.script = lambda s, m: None
    assert isinstance(run("%%remote gpu=H100 timeout=50ms\npass").error_in_exec, CellTimeout)
    assert session.killed


def test_stuck_values_become_handles(run: Run, shell: Any, capsys: Any) -> None:
    run("%%remote gpu=H100\nimport threading\nlk = threading.Lock(); fine = 2").raise_error()
    assert shell.user_ns["fine"] == 2 and isinstance(shell.user_ns["lk"], Handle)
    assert "lk stays remote" in capsys.readouterr().out


def test_input_is_asked_here(run: Run, gateway: Any, monkeypatch: Any) -> None:
    run("%%remote gpu=H100\npass")
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt: (asked.append(prompt), "answer")[1])

    def script(s: Any, message: RunCell) -> None:
        mark = s.replica.mark()
        s.out("input_request", {"prompt": "name? ", "password": False}, message.run_id, channel="stdin")
        s.inbox.put(lambda: s.finish(message, mark))

    gateway.opened[0].script = script
    run("%%remote gpu=H100 timeout=20s\ninput('name? ')").raise_error()
    assert asked == ["name? "]
    message, parts = gateway.opened[0].got_jupyter
    assert message.channel == "stdin" and b'"answer"' in bytes(parts[3])


@pytest.mark.parametrize("when", ["before it is asked", "while it is asked"])
def test_input_that_nobody_waits_for_any_more_is_not_asked_for(run: Run, gateway: Any, monkeypatch: Any, when: str) -> None:
    """The stop button was pressed in the moment in which the remote code asked: the kernel gave up, the question is still on its way."""
    run("%%remote gpu=H100\npass")
    asked: list[str] = []

    def over(request: str) -> None:
        thread = threading.Thread(target=gateway.opened[0].on_input_over, args=(request,))
        thread.start()
        thread.join(10)

    def ask(prompt: str) -> str:
        asked.append(prompt)
        over(request)
        threading.Event().wait(10)
        return "answer"  # not reached: the wait is cut short

    monkeypatch.setattr("builtins.input", ask)
    request = ""

    def script(s: Any, message: RunCell) -> None:
        nonlocal request
        mark = s.replica.mark()
        s.out("input_request", {"prompt": "? ", "password": False}, message.run_id, channel="stdin")
        request = json.loads(bytes(s.inbox.queue[-1][1][0]))["msg_id"]
        if when == "before it is asked":
            over(request)
        s.inbox.put(lambda: s.finish(message, mark))

    gateway.opened[0].script = script
    run("%%remote gpu=H100 timeout=20s\ninput('? ')").raise_error()
    assert asked == (["? "] if when == "while it is asked" else [])
    assert not hasattr(gateway.opened[0], "got_jupyter"), "and nothing is answered"
    assert gateway.opened[0].interrupts == 0, "it was no press of the stop button"


def test_local_modules_go_as_sources(run: Run, gateway: Any, tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "helper_of_test.py").write_text("def f():\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    run("import helper_of_test")
    run("%%remote gpu=H100\nhelper_of_test").raise_error()
    run("%%remote gpu=H100\nhelper_of_test").raise_error()
    first, second = gateway.opened[0].ran
    assert list(first.sources) == ["helper_of_test.py"] and not second.sources


def test_closed_at_exit_but_not_by_a_fork(run: Run, shell: Any, gateway: Any) -> None:
    run("%%remote gpu=H100\npass")
    notebook = Notebook.of(shell)
    notebook._pid = os.getpid() + 1
    notebook.close()
    assert not gateway.opened[0].closed
    notebook._pid = os.getpid()
    notebook.close()
    assert gateway.opened[0].closed and gateway.closed


def test_stuck_fetch_says_why(run: Run, gateway: Any, shell: Any) -> None:
    run("%%remote gpu=H100 keep=w\nw = [1]")
    session = gateway.opened[0]
    session.give = lambda m: session.tell(Fetched(id=m.id, stuck=[CannotTravel(name="w", path="w.x", type="lock", reason="cannot pickle")]))
    with pytest.raises(ValueCannotTravel, match="w.x"):
        shell.user_ns["w"].fetch()


def test_memory_is_free_after_a_local_cell(run: Run, shell: Any) -> None:
    """What a session knew of is kept alive for it no longer than until the person lets go."""
    run("class Thing: pass\nthing = Thing(); held = [[thing]]")
    run("%%remote gpu=H100\nlen(held)").raise_error()
    run("import weakref; gone = weakref.ref(thing)\ndel held, thing")
    run("pass")
    assert shell.user_ns["gone"]() is None


def test_last(run: Run, shell: Any, capsys: Any) -> None:
    run("%remote last").raise_error()
    assert "No remote cell has run" in capsys.readouterr().out
    run("import threading\nx = [1]; lk = threading.Lock(); path = open(__import__('os').devnull)")
    run("%%remote gpu=H100\nx.append(2); made = 1").raise_error()
    capsys.readouterr()
    run("%remote last").raise_error()
    shown = capsys.readouterr().out
    assert "was sent" in shown and "made" in shown and "came back" in shown
    run("%%remote gpu=H100\nlk")
    run("%remote last").raise_error()
    assert "could not travel: lk is a _thread.lock" in capsys.readouterr().out


def test_what_means_nothing_elsewhere_is_said_once(run: Run, capsys: Any) -> None:
    run("import os\nfrom os import environ")
    run("%%remote gpu=H100\nenviron").raise_error()
    assert "environ is the environment of this machine" in capsys.readouterr().err
    run("%%remote gpu=H100\nenviron, 1").raise_error()
    run("environ_2 = [environ]")
    assert "environ is" not in capsys.readouterr().err
    run("%remote last")
