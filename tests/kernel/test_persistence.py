"""A notebook's kernel outlives whoever started it, and is found again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from notebook_driver import DEADLINE, wait_for
from whole_driver import Whole, ends, sessions

#: Plays a Jupyter server that dies in mid-cell.
SERVER = """
import sys, os
sys.path[:0] = {paths!r}
from whole_driver import Whole
kernel = Whole("jupyter-gpu-h100", cwd={cwd!r}, env=dict(os.environ, JPY_SESSION_NAME={notebook!r}))
kernel.ok("kept = 41")
sent = kernel.start({code!r})
print(sent, kernel.shim, flush=True)
while kernel.client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
    pass
print("ready", flush=True)
sys.stdin.read()
"""


def abandoned(tmp_path: Path, notebook: str, code: str) -> tuple[str, int]:
    """(msg_id of the cell that runs, pid of the shim) of a kernel whose server was killed."""
    here = str(Path(__file__).parent)
    script = SERVER.format(paths=[here, str(Path(here).parent / "e2e")], cwd=str(tmp_path), notebook=notebook, code=code)
    server = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    sent, shim = server.stdout.readline().split()
    assert server.stdout.readline() == "ready\n"
    server.kill()
    server.wait()
    server.stdout.close()
    assert server.stdin is not None
    server.stdin.close()
    return sent, int(shim)


def start_for(start: Any, notebook: str, **options: Any) -> Whole:
    kernel: Whole = start(env={**os.environ, "JPY_SESSION_NAME": notebook}, **options)
    return kernel


def test_the_same_notebook_finds_its_kernel_again(start: Any, tmp_path: Path) -> None:
    notebook, go = str(tmp_path / "n.ipynb"), tmp_path / "go"
    code = f"import os, time\nprint('before', flush=True)\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\nfor i in range(3): print(i)"
    sent, shim = abandoned(tmp_path, notebook, code)
    ends(shim)
    go.touch()
    wait_for(lambda: "H100 (simulated) idle" in sessions(), lambda: f"the cell to end: {sessions()}")
    kernel = start_for(start, notebook, wait=False)  # waiting throws away what iopub has to tell
    told: list[dict[str, Any]] = []
    while not told or told[-1]["content"].get("execution_state") != "idle":
        message = kernel.client.get_iopub_msg(timeout=DEADLINE)
        if message["parent_header"].get("msg_id") == sent:
            told.append(message)
    assert "".join(m["content"]["text"] for m in told if m["msg_type"] == "stream").endswith("0\n1\n2\n")
    found = kernel.ok("kept + 1")
    assert found.results == ["42"] and "Connected again" in found.text("stderr")
    assert sessions() == ["H100 (simulated) idle"] or sessions() == ["H100 (simulated) busy"]


def test_another_notebook_gets_a_kernel_of_its_own(start: Any, tmp_path: Path) -> None:
    notebook = str(tmp_path / "n.ipynb")
    _, shim = abandoned(tmp_path, notebook, "print(1)")
    ends(shim)
    assert start_for(start, str(tmp_path / "other.ipynb")).run("kept").error is not None
    mine = start_for(start, notebook)
    assert mine.ok("kept").results == ["41"]


def test_a_notebook_that_is_open_keeps_its_kernel(start: Any, tmp_path: Path) -> None:
    notebook = str(tmp_path / "n.ipynb")
    first = start_for(start, notebook)
    first.ok("kept = 1")
    second = start_for(start, notebook)
    assert second.run("kept").error is not None and first.ok("kept").results == ["1"]


def test_a_kernel_of_no_notebook_ends_with_its_server(home: Path, tmp_path: Path) -> None:
    _, shim = abandoned(tmp_path, "", "print(1)")
    ends(shim)
    wait_for(lambda: not sessions(), lambda: f"the session to end: {sessions()}")


def test_the_files_are_nobody_elses(start: Any, home: Path, tmp_path: Path) -> None:
    start_for(start, str(tmp_path / "n.ipynb"))
    folder = home / "runtime" / "jupyter_gpu" / "kernels"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [f.stat().st_mode & 0o777 for f in folder.iterdir()] == [0o600]


@pytest.mark.parametrize("number", [signal.SIGTERM])
def test_a_shim_that_is_asked_to_end_ends_its_session(start: Any, number: int, tmp_path: Path) -> None:
    """22: what a server's ``shutdown_all`` does by a shutdown_request, the system does by a signal."""
    kernel = start_for(start, str(tmp_path / "n.ipynb"))
    remote = kernel.remote_pid
    os.kill(kernel.shim, number)
    ends(remote)
    wait_for(lambda: not sessions(), lambda: f"the session to end: {sessions()}")
