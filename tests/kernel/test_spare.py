"""A shim that waits for a kernel: taken, given up, and gone with whoever has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from whole_driver import ends

from jupyter_gpu.kernel import spare


def test_the_second_kernel_takes_the_one_that_waits(start: Any, tmp_path: Path) -> None:
    start("jupyter-gpu-cpu")
    waiting = spare._kept[os.getpid()].process.pid
    second = start("jupyter-gpu-cpu", env={**os.environ, "ASKED_FOR": "yes"})
    assert second.shim == waiting
    assert second.ok("import os; print(os.getcwd(), os.environ['ASKED_FOR'])").text().split() == [str(tmp_path), "yes"]
    assert spare._kept[os.getpid()].process.pid != waiting, "and there is another one"


def test_one_that_died_is_not_taken(start: Any) -> None:
    start("jupyter-gpu-cpu")
    spare._kept[os.getpid()].process.kill()
    spare._kept[os.getpid()].process.wait()
    assert start("jupyter-gpu-cpu").ok("1 + 1").results == ["2"]


def test_what_it_could_not_do_starts_without(start: Any) -> None:
    start("jupyter-gpu-cpu")
    waiting = spare._kept[os.getpid()].process
    piped = start("jupyter-gpu-cpu", stdout=subprocess.PIPE)
    assert piped.shim != waiting.pid and piped.manager.provisioner.process.stdout is not None
    assert waiting.poll() is not None, "it is not left behind"


def test_it_ends_with_its_process() -> None:
    code = "from jupyter_gpu.kernel import spare\nspare.prepare()\nprint(next(iter(spare._kept.values())).process.pid, flush=True)\nimport os\nos._exit(1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    ends(int(done.stdout))


def test_it_can_be_switched_off(monkeypatch: Any) -> None:
    spare.end()
    monkeypatch.setenv(spare.SWITCH, "0")
    spare.prepare()
    assert os.getpid() not in spare._kept
