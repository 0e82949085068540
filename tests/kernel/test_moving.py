"""A live kernel moves to other hardware and back: what it has goes along, or is named; what fails leaves it where it was."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from notebook_driver import DEADLINE, Result, wait_for
from whole_driver import Whole, ends, sessions

from jupyter_gpu.kernel.specs import ELASTIC, Spec, write
from jupyter_gpu.kernel.transit import sweep


@pytest.fixture
def kernel(start: Any) -> Whole:
    """One on a CPU, which may be moved; the gateway has two H100."""
    found: Whole = start("jupyter-gpu-cpu")
    return found


def shown(result: Result) -> str:
    """What the cell shows at its end."""
    return "\n".join(d["data"]["text/plain"] for d in result.displays)


def move(kernel: Whole, to: str = "H100", **options: Any) -> Result:
    result = kernel.run(f"%remote move {to}", **options)
    assert result.error is None, result.traceback
    assert "moved to" in shown(result)
    return result


def transits() -> list[Path]:
    return list(Path("/dev/shm").glob("jupyter-gpu-session-*"))


def stays(kernel: Whole, pid: int, *left: str) -> None:
    """The notebook is where it was, and nothing of an attempt is left."""
    assert kernel.remote_pid == pid
    only_on("CPU")


def only_on(label: str) -> None:
    """One session is left, once the other one has ended in its own time."""
    wait_for(lambda: [s.split()[0] for s in sessions()] == [label], lambda: f"one session on {label}: {sessions()}")


# ---------------------------------------------------------------- what goes along


PREPARED = """
import math, os, sys, random, collections
import numpy as np, pandas as pd
import matplotlib; matplotlib.use("svg")
class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return self.x == other.x
def twice(p): return Point(p.x * factor)
factor = 2
points = [Point(1), Point(2)]
by_name = {"first": points[0]}
array = np.arange(300_000.0)
view = array[::2]
frame = pd.DataFrame({"a": range(1000), "s": [f"text {i}" for i in range(1000)]})
alias = frame
nested = {"array": array, "self": None}; nested["self"] = nested
random.seed(5); np.random.seed(7)
os.makedirs("sub", exist_ok=True); os.chdir("sub")
sys.path.insert(0, os.path.abspath("first")); sys.path.append(os.path.abspath("last"))
%load_ext autoreload
%autoreload 2
"""


def test_there_and_back(kernel: Whole) -> None:
    kernel.ok(PREPARED)
    kernel.ok("points")
    expected = kernel.ok("(random.getstate(), np.random.get_state()[1].tolist()) and (os.getcwd(), sys.path[0], sys.path[-1])").results
    kernel.ok("check = (random.getstate(), np.random.get_state()[1].tolist())")
    before = kernel.remote_pid
    for to in ("H100", "local"):
        move(kernel, to)
        assert kernel.remote_pid != before
        before = kernel.remote_pid
        same = """
            by_name["first"] is points[0], _ is not None, Out[2] is points, _2 is points, np.shares_memory(view, array), alias is frame,
            nested["self"] is nested, nested["array"] is array, (array == np.arange(300_000.0)).all(), twice(points[1]) == Point(4),
            list(frame.s) == [f"text {i}" for i in range(1000)], check == (random.getstate(), np.random.get_state()[1].tolist()),
            In[2] == "points", _i2 == "points", matplotlib.get_backend() == "svg", type(points[0]) is Point, twice.__globals__ is globals(),
            get_ipython().magics_manager.registry["AutoreloadMagics"]._reloader.check_all
        """
        found = kernel.ok(f"all([bool(x) for x in ({same})]) or ({same})")
        assert found.results == ["True"]
        assert kernel.ok("(os.getcwd(), sys.path[0], sys.path[-1])").results == expected
        array = kernel.ok("array[1] = 1; view[0] = 5; array[0]").results
        assert array[0] in ("5.0", "np.float64(5.0)"), "a view shows the array's own memory"
        kernel.ok("array[0] = 0")


def test_the_numbers_go_on(kernel: Whole) -> None:
    assert kernel.ok("1 + 1").reply["execution_count"] == 1
    assert move(kernel).reply == {"status": "ok", "execution_count": 2, "user_expressions": {}, "payload": []}
    after = kernel.ok("_, Out[1], In[1], In[2], _i, In")
    assert after.reply["execution_count"] == 3
    assert " ".join(after.results[0].split()).startswith(
        "(2, 2, '1 + 1', \"get_ipython().run_line_magic('remote', 'move H100')\", '%remote"
    )


def test_the_kernel_is_the_same_to_its_clients(kernel: Whole) -> None:
    """18: JupyterLab takes another session in a header for another kernel."""
    before = kernel.ok("1").messages[-1]["header"]["session"]
    result = move(kernel)
    after = kernel.ok("2")
    assert {m["header"]["session"] for m in (*result.messages, *after.messages)} == {before}
    states = [m["content"]["execution_state"] for m in result.messages if m["msg_type"] == "status"]
    assert states == ["busy", "idle"]
    assert kernel.client.hb_channel.is_beating()


def test_a_module_that_was_edited_is_reloaded_there(kernel: Whole, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("value = 1\n")
    kernel.ok("%load_ext autoreload\n%autoreload 2\nimport mine\nmine.value")
    move(kernel)
    (tmp_path / "mine.py").write_text("value = 2222\n")
    assert kernel.ok("mine.value").results == ["2222"]


# ---------------------------------------------------------------- what cannot


STUCK = """
import threading, socket, time
lock = threading.Lock()
holder = {"inner": [1, threading.Lock()]}
gen = (i for i in range(3))
sock = socket.socket()
file = open("here.txt", "w")
stop = threading.Event()
thread = threading.Thread(target=stop.wait, name="mine"); thread.start()
kept = [1, 2, 3]
"""


def test_what_cannot_go_is_named_and_may_be_left(kernel: Whole) -> None:
    kernel.ok(STUCK)
    pid = kernel.remote_pid
    refused = kernel.run("%remote move H100")
    assert refused.error is not None and refused.error["ename"] == "StaysBehind" and refused.reply["status"] == "error"
    told = refused.traceback
    for what in ("lock is a", "holder['inner'][1] is a", "a generator", "socket", "file is a", "stop", "thread"):
        assert what in told, what
    assert "not moved" in shown(refused)
    stays(kernel, pid)
    names = re.search(r"without=([\w,]+)", told)
    assert names is not None
    assert set(names[1].split(",")) == {"lock", "holder", "gen", "sock", "file", "stop", "thread"}
    kernel.ok("file.write('to be flushed'); None")
    result = move(kernel, f"H100 without={names[1]}")
    assert "stayed behind: lock" in shown(result) and "mine (a thread that runs)" in shown(result)
    assert kernel.ok("kept").results == ["[1, 2, 3]"]
    assert kernel.run("lock").error is not None
    wait_for(lambda: kernel.ok("open('here.txt').read()").results == ["'to be flushed'"], "the old kernel to end in order")


def test_anyway(kernel: Whole) -> None:
    kernel.ok("import threading; lock = threading.Lock(); x = 5")
    assert "stayed behind: lock (lock is a _thread.lock" in shown(move(kernel, "H100 anyway"))
    assert kernel.ok("x").results == ["5"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("%remote move", "hardware or `local`"),
        ("%remote move H100 without=nothing_of_this_name", "no variable 'nothing_of_this_name'"),
        ("%remote move B300", "no B300"),
        ("%remote move H100:7", "no H100:7"),
        ("%remote move H100 quickly", "hardware or `local`"),
        ("%remote move H100\nx = 1", "last line of its cell"),
        ("def f():\n    get_ipython().run_line_magic('remote', 'move H100')\nf()", "last line of its cell"),
    ],
)
def test_what_cannot_be_done_is_said(kernel: Whole, code: str, says: str) -> None:
    pid = kernel.remote_pid
    result = kernel.run(code)
    assert result.error is not None and says in result.traceback, result.outputs
    stays(kernel, pid)


def test_an_extension_of_ours_moves_too(kernel: Whole) -> None:
    """Whoever loads the extension has another ``%remote``, which also knows how."""
    kernel.ok("%load_ext jupyter_gpu\nx = 3")
    move(kernel)
    assert kernel.ok("x").results == ["3"]


# ---------------------------------------------------------------- queues and clients


def test_what_waits_behind_it_runs_there(kernel: Whole) -> None:
    """Run All: nothing of it runs where the kernel was."""
    kernel.ok("import os; here = os.getpid(); ran = []")
    first = kernel.start("%remote move H100")
    rest = [kernel.start(f"ran.append((os.getpid() != here, {n}))") for n in range(3)]
    assert kernel.finish(first).error is None
    for each in rest:
        assert kernel.finish(each).reply["status"] == "ok"
    assert kernel.ok("ran").results == ["[(True, 0), (True, 1), (True, 2)]"]


def test_after_the_cell_that_runs(kernel: Whole, tmp_path: Path) -> None:
    go = tmp_path / "go"
    running = kernel.start(f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.005)\nx = 1")
    asked = ask_to_move(kernel, {"to": "H100"})
    go.touch()
    assert kernel.finish(running).error is None
    assert answer(kernel, asked)["status"] == "ok"
    assert kernel.ok("x").results == ["1"]


def test_two_clients(kernel: Whole) -> None:
    other = kernel.stranger()
    try:
        kernel.ok("x = 1")
        moving = kernel.start("%remote move H100")
        theirs = other.execute("x + 1", reply=False)
        assert kernel.finish(moving).error is None
        while True:
            message = other.get_iopub_msg(timeout=DEADLINE)
            if message["msg_type"] == "execute_result" and message["parent_header"]["msg_id"] == theirs:
                break
        assert message["content"]["data"]["text/plain"] == "2"
        assert other.get_shell_msg(timeout=DEADLINE)["content"]["status"] == "ok"
        assert other.is_alive()
    finally:
        other.stop_channels()


def ask_to_move(kernel: Whole, content: dict[str, Any]) -> str:
    message = kernel.client.session.msg("jupyter_gpu_move_request", content)
    kernel.client.control_channel.send(message)
    return str(message["header"]["msg_id"])


def answer(kernel: Whole, asked: str) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = kernel.client.get_control_msg(timeout=DEADLINE)
        if message["parent_header"]["msg_id"] == asked:
            assert message["msg_type"] == "jupyter_gpu_move_reply"
            return dict(message["content"])


def test_a_front_end_asks(kernel: Whole) -> None:
    kernel.ok("import threading; lock = threading.Lock(); x = [1]")
    pid = kernel.remote_pid
    refused = answer(kernel, ask_to_move(kernel, {"to": "H100"}))
    assert refused["status"] == "error" and refused["ename"] == "StaysBehind" and refused["fields"]["names"] == ["lock"]
    for content in ({"to": "B300"}, {"to": 5}, {}):
        assert answer(kernel, ask_to_move(kernel, content))["status"] == "error"
    stays(kernel, pid)
    moved = answer(kernel, ask_to_move(kernel, {"to": "H100", "without": ["lock"]}))
    assert moved["status"] == "ok" and moved["label"] == "H100 (simulated)" and moved["behind"] == ["lock (you left it)"]
    assert kernel.ok("x").results == ["[1]"] and kernel.remote_pid != pid


# ---------------------------------------------------------------- when things break


def on_progress(words: str, action: Callable[[], None]) -> Callable[[dict[str, Any]], None]:
    """Do it once, when the move says that it is there."""
    done = False

    def look(message: dict[str, Any]) -> None:
        nonlocal done
        if not done and words in json.dumps(message["content"]):
            done = True
            action()

    return look


#: A value that takes its time to be rebuilt, and says so by a file.
SLOW = """
import os, time
class Slow:
    def __reduce__(self): return wait, (os.getpid(), os.path.abspath("loading"))
def wait(pid, path):
    if os.getpid() != pid:
        with open(path, "w") as file: print(os.getpid(), file=file)
        time.sleep(100)
    return Slow()
slow = Slow()
x = [1, 2]
"""


def loading(tmp_path: Path) -> int:
    """pid of the kernel that loads."""
    path = tmp_path / "loading"
    wait_for(lambda: path.exists() and path.read_text() != "", "the new kernel to load")
    return int(path.read_text())


def test_the_new_kernel_dies_while_it_loads(kernel: Whole, tmp_path: Path) -> None:
    kernel.ok(SLOW)
    pid = kernel.remote_pid
    moving = kernel.start("%remote move H100")
    os.kill(loading(tmp_path), signal.SIGKILL)
    result = kernel.finish(moving)
    assert result.error is not None and "SIGKILL" in result.traceback
    assert kernel.ok("x").results == ["[1, 2]"]
    stays(kernel, pid)


def test_an_interrupt_while_it_loads(kernel: Whole, tmp_path: Path) -> None:
    kernel.ok(SLOW)
    pid = kernel.remote_pid
    moving = kernel.start("%remote move H100")
    new = loading(tmp_path)
    kernel.interrupt()
    result = kernel.finish(moving)
    assert result.error is not None and result.error["ename"] == "KeyboardInterrupt"
    assert "not moved" in shown(result) and "interrupted" in shown(result)
    ends(new)
    stays(kernel, pid)


def test_an_interrupt_while_it_waits_in_the_queue(kernel: Whole, start: Any) -> None:
    start("jupyter-gpu-h100"), start("jupyter-gpu-h100")
    kernel.ok("x = 1")
    pid = kernel.remote_pid
    result = kernel.run("%remote move H100", on_output=on_progress("queue", kernel.interrupt))
    assert result.error is not None and result.error["ename"] == "KeyboardInterrupt"
    assert kernel.remote_pid == pid
    wait_for(lambda: len(sessions()) == 3, lambda: f"three sessions: {sessions()}")


def test_the_old_kernel_dies_while_it_saves(kernel: Whole, home: Path, tmp_path: Path) -> None:
    """20: said loudly; and the session that was to take over does not stay."""
    kernel.ok("import os, signal\nclass Deadly:\n    def __reduce__(self): os.kill(os.getpid(), signal.SIGKILL)\nd = Deadly()")
    moving = kernel.start("%remote move H100")
    error = None
    while error is None:
        message = kernel.client.get_iopub_msg(timeout=DEADLINE)
        if message["msg_type"] == "error" and message["parent_header"]["msg_id"] == moving:
            error = message["content"]
    assert "SIGKILL" in error["evalue"]
    assert kernel.manager.provisioner.process.wait(10) == 1
    wait_for(lambda: not sessions(), lambda: f"sessions are left: {sessions()}")


def test_a_shutdown_while_it_moves(kernel: Whole, tmp_path: Path) -> None:
    kernel.ok(SLOW)
    old = kernel.remote_pid
    before = set(transits())
    kernel.start("%remote move H100")
    new = loading(tmp_path)
    kernel.close()
    ends(new)
    ends(old)
    wait_for(lambda: not sessions(), lambda: f"sessions are left: {sessions()}")
    assert set(transits()) <= before


def test_a_value_that_cannot_be_rebuilt(kernel: Whole) -> None:
    kernel.ok(
        "import os\nclass Bad:\n    def __reduce__(self): return fail, (os.getpid(),)\ndef fail(pid):\n    assert os.getpid() == pid, 'no'\n    return Bad()\nbad = Bad()"
    )
    pid = kernel.remote_pid
    result = kernel.run("%remote move H100")
    assert result.error is not None and "no" in result.traceback
    stays(kernel, pid)


def test_a_kernel_that_moved_and_is_lost(kernel: Whole) -> None:
    move(kernel)
    running = kernel.start("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    error = None
    while error is None:
        message = kernel.client.get_iopub_msg(timeout=DEADLINE)
        if message["msg_type"] == "error" and message["parent_header"]["msg_id"] == running:
            error = message["content"]
    assert error["ename"] == "KernelLost" and "SIGKILL" in error["evalue"]


def test_a_restart_keeps_the_hardware_that_it_moved_to(kernel: Whole) -> None:
    kernel.ok("x = 1")
    move(kernel)
    kernel.manager.restart_kernel(now=False)
    kernel.client.wait_for_ready(timeout=DEADLINE)
    assert kernel.run("x").error is not None
    only_on("H100")


# ---------------------------------------------------------------- bytes


def sent(result: Result) -> str:
    found = re.search(r"\((\d[\d.]* \w+) of it new\)", shown(result))
    return found[1] if found else ""


def test_what_is_there_is_not_sent_again(kernel: Whole) -> None:
    kernel.ok("import numpy as np; a = np.arange(2_000_000.0); b = np.ones(1_000_000); c = b[5:]")
    assert not sent(move(kernel, "H100"))
    second = move(kernel, "local")
    assert sent(second).endswith("KB"), shown(second)
    kernel.ok("b[3] = 7")
    third = move(kernel, "H100")
    assert sent(third) == "8 MB", shown(third)
    assert kernel.ok("(a == np.arange(2_000_000.0)).all(), b[3], np.shares_memory(b, c)").results[0].replace("np.", "") in (
        "(True_, 7.0, True)",
        "(True, float64(7.0), True)",
        "(True_, float64(7.0), True)",
    )


def test_without_a_common_folder_bytes_go_through_the_shim(kernel: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    """As between two machines. The shim holds a window of it, and not all."""
    kernel.ok("import numpy as np; a = np.random.default_rng(1).random(25_000_000); total = a.sum()")
    shim = psutil.Process(kernel.shim)
    most = before = shim.memory_info().rss
    kernel.ok("import jupyter_gpu_worker.leaving as leaving; leaving.opened = lambda folder, nonce: None")
    moving = kernel.start("%remote move H100")

    def watch(message: dict[str, Any]) -> None:
        nonlocal most
        most = max(most, shim.memory_info().rss)

    assert kernel.finish(moving, on_output=watch).error is None
    assert kernel.ok("bool(a.sum() == total)").results == ["True"]
    high = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{kernel.shim}/status").read_text())[1]) << 10  # type: ignore[index]
    assert high - before < 120 << 20, f"{high - before >> 20} MiB"


def test_nothing_is_left(start: Any, home: Path) -> None:
    kernel: Whole = start("jupyter-gpu-cpu")
    kernel.ok("import numpy as np; a = np.ones(1_000_000)")
    before = set(transits())
    move(kernel)
    (mine,) = set(transits()) - before
    assert mine.stat().st_mode & 0o777 == 0o700
    kernel.close()
    assert not mine.exists()
    wait_for(lambda: not sessions(), lambda: f"sessions are left: {sessions()}")


def test_a_shim_that_was_killed_leaves_a_folder_to_the_next(kernel: Whole, start: Any, home: Path) -> None:
    kernel.ok("import numpy as np; a = np.ones(1_000_000)")
    before = set(transits())
    move(kernel)
    (folder,) = set(transits()) - before
    os.kill(kernel.shim, signal.SIGKILL)

    def swept() -> bool:
        """By whoever comes next; a process that is being killed has its files for a moment."""
        sweep()
        return not folder.exists()

    wait_for(swept, "the folder to go")


def test_an_elastic_kernel_begins_at_home(home: Path, start: Any) -> None:
    write(Spec(ELASTIC), home / "data" / "kernels", provisioner=True)
    kernel: Whole = start(Spec(ELASTIC).name)
    kernel.ok("x = 1")
    only_on("CPU")
    move(kernel)
    only_on("H100")
    move(kernel, "local")
    assert kernel.ok("x").results == ["1"]
    only_on("CPU")


def test_a_notebook_finds_the_kernel_that_it_moved(start: Any, tmp_path: Path) -> None:
    """Its shim is gone, as when a server dies; the next one finds the session on the hardware that it was moved to."""
    env = {**os.environ, "JPY_SESSION_NAME": str(tmp_path / "n.ipynb")}
    kernel: Whole = start("jupyter-gpu-cpu", env=env)
    kernel.ok("x = 41")
    move(kernel)
    os.kill(kernel.shim, signal.SIGHUP)
    assert kernel.manager.provisioner.process.wait(10) == 0
    again: Whole = start("jupyter-gpu-cpu", env=env)
    assert again.ok("x + 1").results == ["42"]
    only_on("H100")
    move(again, "local")
    assert again.ok("x").results == ["41"]
