"""Whole kernels when things break: nothing lost, nothing twice, nothing left, and plain words."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from notebook_driver import DEADLINE, descendants_in, wait_for
from whole_driver import Whole, ends, sessions

NUMBERS = "".join(f"{i}\n" for i in range(2000))


def gateway_process(home: Path) -> psutil.Process:
    found = [p for p in descendants_in(home / "runtime") if any("jupyter_gpu_gateway" in part for part in p.cmdline())]
    return next(p for p in found if p.ppid() not in {q.pid for q in found})


def pause_until(path: Path) -> str:
    """Code that goes on when the file is there."""
    return f"import os, time\nwhile not os.path.exists({str(path)!r}): time.sleep(0.005)\n"


def test_the_gateway_is_killed_in_mid_cell(home: Path, start: Any, tmp_path: Path) -> None:
    """Its workers live on; the gateway is started again by whoever needs it, and nothing is lost or comes twice."""
    kernel: Whole = start()
    go = tmp_path / "go"
    kernel.ok("kept = 'still here'")
    running = kernel.start(f"print('before', flush=True)\n{pause_until(go)}for i in range(2000): print(i)")

    def killed(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream" and not go.exists():
            before = gateway_process(home)
            before.kill()
            before.wait(10)
            go.touch()

    result = kernel.finish(running, on_output=killed)
    assert result.error is None and result.text() == "before\n" + NUMBERS
    assert kernel.ok("kept").results == ["'still here'"]
    assert not kernel.ok("1").text("stderr")


def test_the_kernel_is_killed(start: Any) -> None:
    """20: said under the cell that ran, and heartbeats end; the next start does not pretend to be the same kernel."""
    kernel: Whole = start("jupyter-gpu-cpu")
    running = kernel.start(
        "import os, signal, time\nprint('last words', flush=True)\ntime.sleep(0.05)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    seen: list[dict[str, Any]] = []
    end = time.monotonic() + DEADLINE
    while not any(m["msg_type"] == "error" for m in seen):
        assert time.monotonic() < end, seen
        message = kernel.client.get_iopub_msg(timeout=DEADLINE)
        if message["parent_header"].get("msg_id") == running:
            seen.append(message)
    assert [m["content"]["text"] for m in seen if m["msg_type"] == "stream"] == ["last words\n"]
    error = seen[-1]["content"]
    assert error["ename"] == "KernelLost" and "SIGKILL" in error["evalue"]
    assert seen[-1]["header"]["session"] == seen[0]["header"]["session"], "18: in the kernel's own name"
    assert kernel.manager.provisioner.process.wait(10) == 1
    kernel.manager.restart_kernel(now=True)
    kernel.client.wait_for_ready(timeout=DEADLINE)
    first = kernel.ok("1 + 1")
    assert first.results == ["2"] and "namespace is empty" in first.text("stderr") and "SIGKILL" in first.text("stderr")
    assert not kernel.ok("1").text("stderr"), "once is enough"


def test_the_agent_is_killed(start: Any) -> None:
    kernel: Whole = start("jupyter-gpu-cpu")
    remote = kernel.remote_pid
    running = kernel.start("print('on', flush=True)\nimport time\ntime.sleep(60)")
    while kernel.client.get_iopub_msg(timeout=DEADLINE)["msg_type"] != "stream":
        pass
    os.kill(psutil.Process(remote).ppid(), signal.SIGKILL)
    while (message := kernel.client.get_iopub_msg(timeout=DEADLINE))["msg_type"] != "error":
        pass
    assert message["parent_header"]["msg_id"] == running and message["content"]["ename"] == "KernelLost"
    ends(remote)
    assert kernel.manager.provisioner.process.wait(10) == 1


def test_the_shim_is_killed_and_started_again(start: Any) -> None:
    """An accident of the local end: the kernel goes on, with its variables."""
    kernel: Whole = start()
    kernel.ok("kept = 41")
    remote = kernel.remote_pid
    os.kill(kernel.shim, signal.SIGKILL)
    wait_for(lambda: kernel.manager.provisioner.process.poll() is not None, "the shim to end")
    kernel.manager.restart_kernel(now=True)  # as the restarter does
    kernel.client.wait_for_ready(timeout=DEADLINE)
    assert kernel.ok("kept + 1").results == ["42"] and kernel.remote_pid == remote


def test_input_across_a_restart_of_the_gateway(home: Path, start: Any) -> None:
    kernel: Whole = start("jupyter-gpu-cpu")

    def answer(request: dict[str, Any]) -> str:
        before = gateway_process(home)
        before.kill()
        before.wait(10)
        return "answered"

    assert kernel.run("print(input('?'))", stdin=answer).text() == "answered\n"


@pytest.mark.timeout(300)
def test_a_large_buffer(start: Any) -> None:
    """As widgets send them: one message with 200 MB beside it, and back."""
    kernel: Whole = start("jupyter-gpu-cpu")
    code = "from comm import create_comm\nc = create_comm(target_name='t')\nc.on_msg(lambda m: c.send({'n': len(m['buffers'][0])}, buffers=m['buffers']))"
    opened = next(m for m in kernel.ok(code).messages if m["msg_type"] == "comm_open")
    data = os.urandom(200_000_000)
    message = kernel.client.session.msg("comm_msg", {"comm_id": opened["content"]["comm_id"], "data": {}})
    kernel.client.session.send(kernel.client.shell_channel.socket, message, buffers=[data])
    while (back := kernel.client.get_iopub_msg(timeout=120))["msg_type"] != "comm_msg":
        pass
    assert back["content"]["data"] == {"n": len(data)} and back["buffers"][0] == data


def test_two_clients(start: Any) -> None:
    kernel: Whole = start("jupyter-gpu-cpu")
    second = kernel.stranger()
    try:
        first_id = kernel.start("mine = input('first? ')")
        assert kernel.client.get_stdin_msg(timeout=DEADLINE)["content"]["prompt"] == "first? "
        second_id = second.execute("other = 1")
        kernel.client.input("1")
        assert kernel.finish(first_id).reply["status"] == "ok"
        reply = second.get_shell_msg(timeout=DEADLINE)
        while reply["parent_header"]["msg_id"] != second_id:
            reply = second.get_shell_msg(timeout=DEADLINE)
        assert reply["content"]["status"] == "ok"
        seen = set()
        while second_id not in seen or first_id not in seen:
            seen.add(second.get_iopub_msg(timeout=DEADLINE)["parent_header"].get("msg_id"))
    finally:
        second.stop_channels()


def test_many_messages_to_a_front_end_that_is_slow(start: Any) -> None:
    """14: whatever piles up, nothing is dropped, idle included."""
    kernel: Whole = start("jupyter-gpu-cpu")
    code = "from IPython.display import display\nfor i in range(20000): display({'application/x-n': i}, raw=True)"
    running = kernel.start(code)
    reply = kernel.client.get_shell_msg(timeout=120)
    while reply["parent_header"]["msg_id"] != running:
        reply = kernel.client.get_shell_msg(timeout=120)
    numbers = []
    while True:
        message = kernel.client.get_iopub_msg(timeout=DEADLINE)
        if message["parent_header"].get("msg_id") != running:
            continue
        if message["msg_type"] == "display_data":
            numbers.append(message["content"]["data"]["application/x-n"])
        elif message["content"].get("execution_state") == "idle":
            break
    assert numbers == list(range(20000))


def test_nothing_is_left(home: Path) -> None:
    wait_for(lambda: not sessions(), lambda: f"sessions are left: {sessions()}")
