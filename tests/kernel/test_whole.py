"""The way of a kernel from end to end: a kernelspec, the shim, one's own gateway, a worker."""

from __future__ import annotations

import os
from pathlib import Path

from whole_driver import Whole, ends, sessions


def test_a_cell(whole: Whole) -> None:
    result = whole.ok("print('out'); 1 + 1")
    assert result.text() == "out\n" and result.results == ["2"]


def test_it_is_elsewhere_and_has_the_hardware(whole: Whole) -> None:
    found = whole.ok("import os; print(os.getpid(), os.environ['CUDA_VISIBLE_DEVICES'])").text().split()
    assert int(found[0]) != whole.shim and found[1] == "SIM-H100-0"
    assert "H100 (simulated) idle" in sessions() or "H100 (simulated) busy" in sessions()


def test_an_error_is_the_kernels_own(whole: Whole) -> None:
    result = whole.run("def f():\n    return 1 / 0\nf()")
    assert result.error is not None and result.error["ename"] == "ZeroDivisionError" and result.reply["status"] == "error"
    assert "line 2" in result.traceback


def test_input_goes_to_the_client_that_asked(whole: Whole) -> None:
    """13: an input_request is routed by the identity of the shell channel."""
    result = whole.run("print(input('name? '))", stdin=lambda request: "from " + request["prompt"])
    assert result.text() == "from name? \n"


def test_shutdown_leaves_nothing(start: object, tmp_path: Path) -> None:
    kernel: Whole = start("jupyter-gpu-cpu")  # type: ignore[operator]
    remote, before = kernel.remote_pid, sessions()
    assert kernel.ok("import atexit, pathlib; atexit.register(lambda: pathlib.Path('left.txt').write_text('in order'))").error is None
    shim = kernel.shim
    kernel.close()
    ends(shim), ends(remote)
    assert (tmp_path / "left.txt").read_text() == "in order", "the kernel itself was asked to end"
    assert "CPU idle" in before and not any(s.startswith("CPU") for s in sessions())
    assert not os.path.exists(kernel.manager.connection_file)
