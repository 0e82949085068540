"""A kernel that is killed and started again with the same connection file, whatever it was at: as VS Code restarts kernels, and a
manager that does not wait."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file
from notebook_driver import DEADLINE, Notebook, wait_for
from whole_driver import ends, sessions


class Plain(Notebook):
    """A shim by itself, which tells how its start goes."""

    def __init__(self, file: str, gpu: str) -> None:
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "jupyter_gpu.kernel.shim", "-f", file, "--gpu", gpu, "--ready", str(writing)]
        self.process = subprocess.Popen(command, pass_fds=(writing,), start_new_session=True)
        os.close(writing)
        self._told = os.fdopen(reading)
        self._file = file

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Until it tells something of this kind."""
        for line in self._told:
            told = json.loads(line)
            assert told["state"] != "failed", told
            if wanted(told):
                return
        raise AssertionError("its process ended")

    def connect(self) -> None:
        self.client = BlockingKernelClient(connection_file=self._file)
        self.client.load_connection_file()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=DEADLINE)

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(DEADLINE)
        self._told.close()


def session_is(state: str) -> Callable[[dict[str, Any]], bool]:
    return lambda told: told.get("session") == state


def is_ready(told: dict[str, Any]) -> bool:
    return bool(told["state"] == "ready")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "asked to end"])
@pytest.mark.parametrize("phase", ["queued", "starting", "connecting", "ready", "busy"])
def test_in_every_phase_of_a_launch(home: Path, tmp_path: Path, start: Any, phase: str, number: int) -> None:
    held = [start(), start()] if phase == "queued" else []
    before = len(sessions())
    file, _ = write_connection_file(str(tmp_path / "kernel.json"))
    first = Plain(file, "H100" if held else "CPU")
    remote = 0
    if phase in ("queued", "starting"):
        first.until(session_is(phase))
    elif phase == "connecting":
        first.until(session_is("ready"))
    else:
        first.until(is_ready)
        first.connect()
        remote = int(first.ok("here = 1\nimport os; os.getpid()").results[0])
        if phase == "busy":
            running = first.start("print('on', flush=True)\nwhile True: pass")
            while (message := first.client.get_iopub_msg(timeout=DEADLINE))["msg_type"] != "stream":
                pass
            assert message["parent_header"]["msg_id"] == running
        first.client.stop_channels()
    first.kill(number)
    second = Plain(file, "H100" if held else "CPU")
    if held:
        second.until(session_is("queued"))
        held[0].close()
    second.until(is_ready)
    second.connect()
    assert second.run("here").error is not None, "it is a new kernel"
    assert second.ok("1 + 1").results == ["2"]
    if remote:
        ends(remote)
    now = before + 1 - len(held[:1])
    wait_for(lambda: len(sessions()) == now, lambda: f"one session of it: {sessions()}")
    second.client.stop_channels()
    second.kill(signal.SIGTERM)
    wait_for(lambda: len(sessions()) == now - 1, lambda: f"its session to end: {sessions()}")


def test_an_idle_kernel_is_not_a_dead_one(home: Path, start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """8: sessions of cells end when nothing runs for so long; a restarter would take that for death, and start another kernel."""
    monkeypatch.setenv("JUPYTER_GPU_IDLE", "1")
    kernel = start("jupyter-gpu-cpu")
    kernel.ok("here = 1")
    remote = kernel.remote_pid
    time.sleep(3)  # the gateway looks once a second
    assert kernel.manager.is_alive() and kernel.client.hb_channel.is_beating()
    assert kernel.ok("here").results == ["1"] and kernel.remote_pid == remote
