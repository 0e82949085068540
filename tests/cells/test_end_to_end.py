"""Real kernel, real embedded gateway, real worker: what fakes cannot show."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

pytestmark = pytest.mark.timeout(120)
R = "%%remote gpu=H100 quiet\n"


class Book:
    """One kernel with the extension loaded."""

    def __init__(self, env: dict[str, str], cwd: Path) -> None:
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=env, cwd=str(cwd))
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self.run("%load_ext jupyter_gpu")

    def run(self, code: str, **options: Any) -> list[dict[str, Any]]:
        """The iopub messages of a cell, as dicts of msg_type and content; the reply comes last."""
        seen: list[dict[str, Any]] = []
        reply = self.client.execute_interactive(code, output_hook=seen.append, timeout=60, **options)
        shown = [
            {"kind": m["msg_type"], "id": m["parent_header"]["msg_id"], **m["content"]}
            for m in seen
            if m["msg_type"] not in ("status", "execute_input")
        ]
        return [*shown, {"kind": "reply", **reply["content"]}]

    def text(self, code: str) -> str:
        got = self.run(code)
        assert got[-1]["status"] == "ok", got
        return "".join(m["text"] for m in got if m["kind"] == "stream")

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel()
        self.manager.cleanup_resources()


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    runtime = tmp_path_factory.mktemp("rt")
    runtime.chmod(0o700)
    found = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER_", "JPY_"))}
    found |= {"JUPYTER_RUNTIME_DIR": str(runtime), "JUPYTER_GPU_SIMULATE": "H100:2", "IPYTHONDIR": str(runtime / "ipython")}
    yield found
    end = time.monotonic() + 30
    while left := _of(runtime):
        for process in left:
            with contextlib.suppress(psutil.Error):  # it ended in between
                if any("jupyter_gpu_gateway" in part for part in process.cmdline()):
                    process.terminate()
        assert time.monotonic() < end, left
        psutil.wait_procs(left, timeout=0.2)


def _of(runtime: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.pid != os.getpid()
                and process.environ().get("JUPYTER_RUNTIME_DIR") == str(runtime)
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def book(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Book]:
    found = Book(env, tmp_path_factory.mktemp("work"))
    yield found
    found.close()


def test_capture_takes_remote_outputs_and_the_summary(book: Book) -> None:
    code = "%%capture cap\n%%remote gpu=H100\nfrom IPython.display import display\nimport sys\nprint('out'); print('err', file=sys.stderr); display(1)\n2"
    assert [m["kind"] for m in book.run(code)] == ["reply"]
    assert book.text("print(repr(cap.stdout), repr(cap.stderr), len(cap.outputs))") == "'out\\n' 'err\\n' 3\n"


def test_redirected_stdout(book: Book) -> None:
    code = "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as f:\n    get_ipython().run_cell_magic('remote', 'gpu=H100 quiet', 'print(5)')\nprint('got', f.getvalue())"
    assert book.text(code) == "got 5\n\n"


def test_local_prints_come_first(book: Book) -> None:
    code = (
        "for i in range(20):\n    print('local', i)\n    get_ipython().run_cell_magic('remote', 'gpu=H100 quiet', f'print(\"remote {i}\")')"
    )
    assert book.text(code) == "".join(f"local {i}\nremote {i}\n" for i in range(20))


def test_error_is_shown_exactly_once(book: Book) -> None:
    got = book.run(R + "import matplotlib.pyplot as plt\nplt.plot([1, 2])\n1/0")
    errors = [m for m in got if m["kind"] == "error"]
    assert len(errors) == 1 and errors[0]["ename"] == "ZeroDivisionError" and got[-1]["ename"] == "ZeroDivisionError"
    got = book.run(R + "try:\n    1/0\nexcept Exception:\n    get_ipython().showtraceback()\nprint('on')")
    assert [m["kind"] for m in got] == ["error", "stream", "reply"] and got[-1]["status"] == "ok"
    got = book.run(R + "x = = 1")
    assert [m["ename"] for m in got if m["kind"] == "error"] == ["SyntaxError"]
    assert "jupyter_gpu" not in str(got)


def test_widgets_live_and_end_with_their_session(book: Book) -> None:
    got = book.run("%%remote gpu=H100 name=widgets quiet\nimport ipywidgets\ns = ipywidgets.IntSlider(value=3)\ns")
    model = next(m["data"]["application/vnd.jupyter.widget-view+json"]["model_id"] for m in got if m["kind"] == "execute_result")
    opened = {m["comm_id"] for m in got if m["kind"] == "comm_open"}
    assert model in opened
    info = book.client.comm_info(reply=True, timeout=20)["content"]["comms"]
    assert opened <= set(info), "a page that is loaded again finds the remote widgets"
    message = book.client.session.msg("comm_msg", {"comm_id": model, "data": {"method": "request_state"}})
    book.client.shell_channel.send(message)
    end = time.monotonic() + 20
    while True:
        assert time.monotonic() < end
        answer = book.client.get_iopub_msg(timeout=20)
        if answer["msg_type"] == "comm_msg" and answer["content"]["comm_id"] == model:
            break
    assert answer["content"]["data"]["state"]["value"] == 3
    assert answer["parent_header"]["msg_id"] == message["header"]["msg_id"]
    got = book.run("%remote stop widgets")
    assert not opened & set(book.client.comm_info(reply=True, timeout=20)["content"]["comms"])


def test_binary_buffers_of_widgets_arrive(book: Book) -> None:
    seen: list[dict[str, Any]] = []
    book.client.execute_interactive(R + "import ipywidgets\nipywidgets.Image(value=b'\\x89PNG' * 100)", output_hook=seen.append, timeout=60)
    buffers = [bytes(b) for m in seen if m["msg_type"] == "comm_open" for b in m["buffers"]]
    assert b"\x89PNG" * 100 in buffers


def test_two_sessions_do_not_mix(book: Book) -> None:
    book.run("shared = [0]")
    book.run(R + "shared.append(1)")
    book.run("%%remote gpu=cpu quiet\nshared.append(2)")
    assert book.text(R + "shared.append(3)\nprint(shared)") == "[0, 1, 2, 3]\n"
    assert book.text("print(shared)") == "[0, 1, 2, 3]\n"


def test_big_arrays_both_ways(book: Book) -> None:
    book.run("import numpy as np\nbig = np.arange(2_000_000.0); same = big")
    assert book.text(R + "big *= 2\nother = big + 1\nprint(big[3])") == "6.0\n"
    assert book.text("print(big[3], same is big, other[3], other.flags.writeable)") == "6.0 True 7.0 True\n"


def test_no_stdin_is_said_remotely(book: Book) -> None:
    got = book.run(R + "input('x')", allow_stdin=False)
    assert got[-1]["ename"] == "StdinNotImplementedError"


def test_history_and_numbers_go_on(book: Book) -> None:
    got = book.run(R + "'shown'")
    result = next(m for m in got if m["kind"] == "execute_result")
    assert result["execution_count"] == got[-1]["execution_count"]
    assert book.text("print(_, Out[%d])" % result["execution_count"]) == "shown shown\n"


def test_plain_ipython(env: dict[str, str], tmp_path: Path) -> None:
    code = "%load_ext jupyter_gpu\nget_ipython().run_cell('%%remote gpu=H100\\nprint(\"hello\")\\nx = [6 * 7]\\nx')\nprint('here', x, _)\n"
    file = tmp_path / "t.ipy"
    file.write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", str(file)], env=env, capture_output=True, text=True, timeout=60
    )
    assert "hello\n" in done.stdout and "[42]" in done.stdout and "here [42]" in done.stdout, (done.stdout, done.stderr)
    assert "H100 (simulated) ·" in done.stdout


def test_nbclient(env: dict[str, str], tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    cells = [
        "%load_ext jupyter_gpu",
        "x = 1",
        "%%remote gpu=H100\nx += 1\nprint(x)\nx",
        "raise_here = x\n",
        "%%remote gpu=H100\nraise ValueError('trouble')",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    before = {k: os.environ.get(k) for k in env}
    with pytest.raises(CellExecutionError) as raised:
        client = NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
        client.execute(env=env)
    assert raised.value.ename == "ValueError" and raised.value.evalue == "trouble"
    outputs = notebook.cells[2].outputs
    assert outputs[0].text == "2\n" and any(o.output_type == "execute_result" and o.data["text/plain"] == "2" for o in outputs)
    assert sum("H100 (simulated) ·" in str(o) for o in outputs) == 1
    assert {k: os.environ.get(k) for k in env} == before


def test_sessions_end_with_their_notebook(env: dict[str, str], tmp_path: Path) -> None:
    one = Book(env, tmp_path)
    pid = int(one.text("%%remote gpu=cpu quiet\nimport os\nprint(os.getpid())"))
    process = psutil.Process(pid)
    one.close()
    process.wait(20)
