"""What a cell does to variables, and what of it goes back."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import pytest
from client_end import KernelEnd

from jupyter_gpu.sync.chunks import pack, unpack
from jupyter_gpu.sync.exceptions import load_exception
from jupyter_gpu.wire.messages import AnyMessage, Applied, Chunk, Fetch, Fetched, KernelHello, Offer, RunCell, Want

pytestmark = pytest.mark.timeout(60)
NewKernel = Callable[[], KernelEnd]


@pytest.fixture
def kernel(new_kernel: NewKernel) -> KernelEnd:
    found = new_kernel()
    found.hello()
    return found


def answering(kernel: KernelEnd, asked: list[str]) -> Callable[[AnyMessage], None]:
    """Answers the backstop's questions from the client's namespace."""

    def answer(message: AnyMessage) -> None:
        if isinstance(message, Fetch):
            asked.extend(message.names)
            export = kernel.replica.export([n for n in message.names if n in kernel.namespace], only_changed=False)
            parcel = pack(export)
            for name, data in parcel.chunks.items():
                kernel.send(Chunk(digest=name), [data])
            kernel.replica.confirm(export)
            kernel.send(Fetched(id=message.id, snapshot=parcel.snapshot if export.sent else None, stuck=export.stuck), parcel.inline)

    return answer


def test_hello_and_assign(new_kernel: NewKernel) -> None:
    kernel = new_kernel()
    hello = kernel.hello()
    assert isinstance(hello, KernelHello) and hello.pid == kernel.pid and hello.versions.ipykernel and not hello.shared
    kernel.assign(env={"A_VARIABLE": "x"}, cwd="/")
    assert kernel.ok("import os\nprint(os.getcwd(), os.environ['A_VARIABLE'])").text() == "/ x\n"


def test_there_and_back(kernel: KernelEnd) -> None:
    kernel.namespace.update(a=[1], b={"k": 2}, unused=3)
    alias = kernel.namespace["a"]
    cell = kernel.ok("a.append(b['k']); c = a; del b")
    assert kernel.namespace["a"] is alias is kernel.namespace["c"] and alias == [1, 2]
    assert "b" not in kernel.namespace
    assert cell.done.snapshot is not None and sorted(cell.done.snapshot.names) == ["a", "c"]
    assert kernel.ok("a").done.snapshot is None or True
    assert kernel.ok("len(c)").done.has_result


def test_results_and_counts_go_on(kernel: KernelEnd) -> None:
    kernel.ok("40 + 2")
    assert kernel.namespace["_"] == 42
    cell = kernel.ok("x = 1")
    assert not cell.done.has_result
    kernel.count = 10
    cell = kernel.ok("print(Out[1], _)\n'last'")
    assert cell.text() == "42 42\n" and cell.of("execute_result")[0]["execution_count"] == 11


def test_changes_before_an_error_come_back_with_it(kernel: KernelEnd) -> None:
    kernel.namespace["a"] = [1]
    cell = kernel.run("a.append(2)\nclass Trouble(ValueError): pass\nraise Trouble('so') from KeyError('cause')")
    assert kernel.namespace["a"] == [1, 2]
    error = cell.done.error
    assert error is not None and error.pickled is not None
    raised = load_exception(bytes(cell.buffers[error.pickled.inline]), kernel.namespace)
    assert isinstance(raised, ValueError) and raised.args == ("so",) and isinstance(raised.__cause__, KeyError)


def test_exception_that_cannot_travel_is_told_in_words(kernel: KernelEnd) -> None:
    cell = kernel.run("import threading\ne = ValueError(threading.Lock())\ntry:\n    raise e\nfinally:\n    del e")
    assert cell.done.error is not None and cell.done.error.ename == "ValueError" and cell.done.error.pickled is None


def test_out_and_keep(kernel: KernelEnd) -> None:
    cell = kernel.ok("a = 1; b = 2; c = [3]", out=["a", "c"], keep=["c"])
    assert kernel.namespace.keys() >= {"a"} and not kernel.namespace.keys() & {"b", "c"}
    assert cell.done.diverged == ["b"]
    (handle,) = cell.done.handles
    assert (handle.name, handle.type, handle.text, handle.why) == ("c", "list", "[3]", "keep=")
    kernel.send(Fetch(id=5, names=["c"]))
    message, buffers = kernel.expect(Fetched)
    assert isinstance(message, Fetched) and message.id == 5 and message.snapshot is not None
    kernel.replica.apply(message.snapshot, *unpack(message.snapshot, buffers, kernel.store))
    assert kernel.namespace["c"] == [3]


def test_what_cannot_come_back_becomes_a_handle(kernel: KernelEnd) -> None:
    cell = kernel.ok("import threading\nlock = threading.Lock()\nfine = 1")
    assert [s.name for s in cell.done.stuck] == ["lock"] == [h.name for h in cell.done.handles], cell.done.stuck
    assert kernel.namespace["fine"] == 1
    kernel.send(Fetch(id=6, names=["lock", "no_such_name"]))
    message, _ = kernel.expect(Fetched)
    assert isinstance(message, Fetched) and message.snapshot is None and [s.name for s in message.stuck] == ["lock"]


def test_value_bound_anew_to_what_the_kernel_thinks_we_have(kernel: KernelEnd) -> None:
    kernel.ok("x = 1")
    kernel.namespace["x"] = 0
    kernel.ok("x = 1")
    assert kernel.namespace["x"] == 1
    kernel.namespace["x"] = 0
    cell = kernel.run("1 / 0\nx = 5")
    assert cell.ename == "ZeroDivisionError" and kernel.namespace["x"] == 0, "a binding that was not reached changes nothing"


def test_stale_value_is_never_seen(kernel: KernelEnd) -> None:
    kernel.ok("x = 1")
    kernel.namespace["x"] = 2
    asked: list[str] = []
    cell = kernel.ok("print(eval('x'))\nx = 3", stubs=["x"], answer=answering(kernel, asked))
    assert cell.text() == "2\n" and asked == ["x"] and kernel.namespace["x"] == 3


WAYS = {
    "module": "print(hidden)",
    "function": "def f():\n    return hidden\nprint(f())",
    "class body": "class C:\n    y = hidden\nprint(C.y)",
    "comprehension": "print([hidden for _ in range(1)][0])",
    "eval": "print(eval('hid' + 'den'))",
    "exec": "exec('print(hid' + 'den)')",
    "lambda": "print((lambda: hidden)())",
    "fstring": "print(f'{hidden}')",
}


@pytest.mark.parametrize("way", WAYS)
def test_missed_names_are_fetched_once(kernel: KernelEnd, way: str) -> None:
    asked: list[str] = []
    run_id = "r"
    kernel.namespace["hidden"] = 7
    for _ in range(2):
        kernel.send(RunCell(run_id=run_id, code=WAYS[way], execution_count=1, stubs=["hidden"] if not asked else []))
        assert kernel.finish(run_id, answer=answering(kernel, asked), take=False).text() == "7\n"
    assert asked == ["hidden"]


def test_backstop_leaves_other_names_alone(kernel: KernelEnd) -> None:
    asked: list[str] = []
    cell = kernel.run("'no_stub' in globals(), nothing_like_it", stubs=["other"], answer=answering(kernel, asked))
    assert cell.ename == "NameError" and "nothing_like_it" in "\n".join(cell.done.error.traceback if cell.done.error else []) and not asked
    code = "import threading\nseen = []\ndef look():\n    try: other\n    except NameError as e: seen.append(str(e))\nt = threading.Thread(target=look); t.start(); t.join()\nprint(seen)"
    assert "other" in kernel.run(code, stubs=["other"], answer=answering(kernel, asked), take=False).text() and not asked
    check = "print(type(globals()) is dict, isinstance(__builtins__, dict), len is __builtins__['len'], input.__name__)"
    assert kernel.ok(check).text() == "True True True raw_input\n"


def test_fetch_that_is_interrupted_is_taken_over_later(kernel: KernelEnd) -> None:
    import os
    import signal

    waiting: list[Any] = []
    kernel.namespace["late"] = [1]

    def interrupt(message: AnyMessage) -> None:
        waiting.append(message)
        os.kill(kernel.pid, signal.SIGINT)

    cell = kernel.run("eval('late')", stubs=["late"], answer=interrupt)
    assert cell.ename == "KeyboardInterrupt"
    answering(kernel, [])(waiting[0])
    assert kernel.ok("late.append(2)\nprint(late)").text() == "[1, 2]\n"
    assert kernel.namespace["late"] == [1, 2]


def test_refused_snapshot_changes_nothing(kernel: KernelEnd) -> None:
    from msgspec.structs import replace

    kernel.namespace["a"] = [1]
    export = kernel.replica.export(["a"])
    parcel = pack(export)
    missing = replace(parcel.snapshot, modules={"no_such_module_here": "1.0"})
    kernel.send(RunCell(run_id="x", code="ran = 1", execution_count=1, snapshot=missing), parcel.inline)
    done = kernel.finish("x").done
    assert done.status == "refused" and done.refused is not None and "no_such_module_here" in str(done.refused.fields)
    assert parcel.snapshot.stream is not None
    broken = replace(parcel.snapshot, stream=replace(parcel.snapshot.stream, inline=-1, digest=b"?" * 16))
    kernel.send(RunCell(run_id="y", code="ran = 1", execution_count=1, snapshot=broken), parcel.inline)
    assert kernel.finish("y").done.status == "refused"
    assert kernel.ok("print('ran' in globals(), 'a' in globals())").text() == "False False\n"


def test_not_applied_is_sent_again(kernel: KernelEnd) -> None:
    cell = kernel.run("a = [1]", take=False)
    assert cell.done.snapshot is not None
    kernel.send(Applied(serial=cell.done.snapshot.serial, ok=False, reason="full"))
    kernel.ok("a.append(2)", names=["a"])
    assert kernel.namespace["a"] == [1, 2]


def test_big_buffers_and_offers(kernel: KernelEnd) -> None:
    pytest.importorskip("numpy")
    import numpy as np

    kernel.namespace["a"] = np.arange(300_000.0)
    same = kernel.namespace["a"]
    kernel.ok("a *= 2\nb = a[::2]", timeout=40)
    assert kernel.namespace["a"] is same and same[3] == 6 and np.shares_memory(kernel.namespace["b"], same)
    kernel.send(Offer(id=3, digests=[b"0" * 16, b"1" * 16], sizes=[1, 2]))
    message, _ = kernel.expect(Want)
    assert message == Want(id=3, positions=[0, 1])


def test_sources_of_local_modules_travel(kernel: KernelEnd) -> None:
    kernel.send(
        RunCell(run_id="m", code="import my_own\nprint(my_own.f())", execution_count=1, sources={"my_own.py": 0}),
        [b"def f(): return 'mine'\n"],
    )
    assert kernel.finish("m", take=False).text() == "mine\n"


def test_exit_handlers_run_and_files_go(new_kernel: NewKernel, tmp_path: Any) -> None:
    kernel = new_kernel()
    kernel.hello()
    target = str(tmp_path / "said")
    kernel.ok(
        f"import atexit, tempfile\natexit.register(lambda: open({target!r}, 'w').write('bye'))\nt = tempfile.TemporaryDirectory()\nprint(t.name)",
        out=[],
    )
    kernel.sock.close()
    import psutil

    psutil.Process(kernel.pid).wait(10)
    assert (tmp_path / "said").read_text() == "bye"


def test_person_cannot_break_the_next_cell(kernel: KernelEnd) -> None:
    kernel.run("import builtins\n__builtins__ = 5", out=[], take=False)
    kernel.run("import sys\nsys.stdout = None\nsys.stderr = None", out=[], take=False)
    kernel.run("sys.stdout = sys.__stdout__", out=[], take=False)
    cell = kernel.run("len('abc')", take=False)
    assert cell.done.status == "ok" and cell.done.has_result, cell.done.error
    assert builtins.len("abc") == 3


def test_exit_ends_the_kernel_politely(new_kernel: NewKernel) -> None:
    kernel = new_kernel()
    kernel.hello()
    cell = kernel.run("exit()", take=False)
    assert cell.done.status == "ok" and b"ask_exit" in cell.done.payload
    with pytest.raises((EOFError, ConnectionError)):
        kernel.receive()
