"""The commands, the help, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from jupyter_gpu.cells.help import HELP
from jupyter_gpu.cells.notebook import Notebook
from jupyter_gpu.wire.errors import BadHardware, BadOptionValue, NoSuchName, SessionNotFound, UnknownOption

pytestmark = pytest.mark.timeout(30)
Run = Callable[[str], Any]


def test_importing_and_loading_cost_nothing() -> None:
    code = (
        "import sys, jupyter_gpu\n"
        "heavy = lambda: sorted({m.partition('.')[0] for m in sys.modules} & {'IPython', 'numpy', 'msgspec', 'cloudpickle', 'websockets', 'ipykernel'})\n"
        "print(heavy())\n"
        "class Shell:\n"
        "    input_transformers_cleanup = []\n"
        "    def register_magic_function(self, *a, **k): pass\n"
        "jupyter_gpu.load_ipython_extension(Shell())\n"
        "print(heavy(), 'RemoteError' in dir(jupyter_gpu), jupyter_gpu.__version__)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert out[0] == "[]" and out[1].startswith("[] True 0.")


def test_public_names() -> None:
    import jupyter_gpu
    from jupyter_gpu.sync.handles import Handle

    assert jupyter_gpu.Handle is Handle and issubclass(jupyter_gpu.RemoteError, Exception)
    with pytest.raises(AttributeError):
        jupyter_gpu.nonsense  # noqa: B018


@pytest.mark.parametrize("what", ["%remote", "%%remote"])
def test_help_is_complete(shell: Any, what: str) -> None:
    shown = shell.inspector.info(shell._ofind(what).obj)["docstring"]
    for word in ("gpu=", "in=", "out=", "keep=", "name=", "timeout=", "idle=", "quiet", "status", "plan", "stop", "default", "# remote:"):
        assert word in shown, word
    assert shown == HELP.strip() or HELP.strip() in shown


def test_status(run: Run, capsys: Any) -> None:
    run("%%remote gpu=H100\npass")
    capsys.readouterr()
    run("%remote status").raise_error()
    shown = capsys.readouterr().out
    for word in ("H100", "simulated", "ready", "your own", "yes"):
        assert word in shown, shown


def test_plan_runs_and_sends_nothing(run: Run, gateway: Any, shell: Any, capsys: Any) -> None:
    run("import threading\npayload = list(range(1000)); ran = 0; lock = threading.Lock()\ndef f(): return payload")
    capsys.readouterr()
    run("%%remote plan gpu=H100\nran = 1\nf(), lock").raise_error()
    shown = capsys.readouterr().out
    assert "payload" in shown and "used by a function" in shown and "cannot travel" in shown and "2.8 KB" in shown
    assert shell.user_ns["ran"] == 0 and not gateway.opened and not Notebook.of(shell).remotes
    run("%%remote gpu=H100\nf()").raise_error()
    capsys.readouterr()
    run("%%remote plan gpu=H100\nf()")
    assert "is there" in capsys.readouterr().out
    run("payload.append(1)")
    run("%remote plan gpu=H100 payload").raise_error()
    assert "is sent" in capsys.readouterr().out


@pytest.mark.parametrize(("line", "error"), [("plan", BadOptionValue), ("plan nosuch", NoSuchName), ("stop nosuch", SessionNotFound), ("statsu", UnknownOption),
                                             ("default gpu=H100:0", BadHardware), ("quiet maybe", BadOptionValue), ("gpu=H100", UnknownOption)])  # fmt: skip
def test_bad_commands(run: Run, line: str, error: type[Exception]) -> None:
    assert isinstance(run(f"%remote {line}").error_in_exec, error)


def test_misspelt_command_names_the_nearest(run: Run) -> None:
    assert run("%remote statsu").error_in_exec.nearest == "status"


def test_stop(run: Run, gateway: Any, capsys: Any) -> None:
    run("%%remote gpu=H100\npass")
    run("%%remote gpu=cpu name=second\npass")
    run("%remote stop second").raise_error()
    assert [s.killed for s in gateway.opened] == [False, True]
    run("%remote stop h100").raise_error()
    assert [s.killed for s in gateway.opened] == [True, True]
    run("%%remote gpu=H100\npass").raise_error()
    run("%remote stop all").raise_error()
    assert len(gateway.opened) == 3 and gateway.opened[2].killed
    capsys.readouterr()
    run("%remote stop")
    assert "no remote session" in capsys.readouterr().out


def test_default(run: Run, gateway: Any, shell: Any) -> None:
    run("%remote default gpu=H100 quiet").raise_error()
    run("x = 1\ny = 2").raise_error()
    assert gateway.opened[0].ran[0].code == "x = 1\ny = 2\n", "as the person wrote it"
    run("# remote: off\nz = 3")
    run("%%remote gpu=cpu\npass")
    run("%%remote\npass")
    assert [len(s.ran) for s in gateway.opened] == [2, 1]
    run("%remote default off").raise_error()
    run("z = 4")
    assert [len(s.ran) for s in gateway.opened] == [2, 1] and shell.user_ns["z"] == 4


def test_directive(run: Run, gateway: Any) -> None:
    run("# remote: gpu=H100\nx = 1").raise_error()
    assert gateway.opened[0].ran[0].code == "# %%remote gpu=H100\nx = 1\n"


def test_unload_takes_everything_back(run: Run, shell: Any, gateway: Any) -> None:
    run("%%remote gpu=H100\npass")
    run("%unload_ext jupyter_gpu").raise_error()
    assert gateway.opened[0].killed and shell.find_cell_magic("remote") is None
    run("# remote: gpu=H100\nx = 1").raise_error()
    assert len(gateway.opened) == 1
    run("%load_ext jupyter_gpu").raise_error()
