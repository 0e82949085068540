"""A person with two simulated H100 and the kernels that `jupyter gpu install` wrote; nothing of it may be left behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from notebook_driver import end_gateways
from whole_driver import Whole

from jupyter_gpu.kernel import spare
from jupyter_gpu.kernel.specs import Spec, write


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """The environment of this very process names it: the provisioner lives in whoever starts kernels."""
    folder = Path(tempfile.mkdtemp(prefix="jgk-"))  # short: a unix socket's path must be
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("JUPYTER_", "JPY_")):
                patch.delenv(name)
        patch.setenv("HOME", str(folder))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(runtime))
        patch.setenv("JUPYTER_DATA_DIR", str(folder / "data"))
        patch.setenv("JUPYTER_GPU_SIMULATE", "H100:2")
        write(Spec("H100", True), folder / "data" / "kernels", provisioner=True)
        write(Spec("CPU"), folder / "data" / "kernels", provisioner=True)
        yield folder
        spare.end()
        end_gateways(runtime)
        left = [path.name for path in (runtime / "jupyter_gpu" / "kernels").glob("*")]
        assert not left, f"files of kernels are left: {left}"
    shutil.rmtree(folder, ignore_errors=True)


Start = Callable[..., Whole]


@pytest.fixture
def start(home: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts kernels, and ends them after the test."""
    begun: list[Whole] = []

    def begin(name: str = "jupyter-gpu-h100", **options: object) -> Whole:
        begun.append(Whole(name, **{"cwd": str(tmp_path), **options}))
        return begun[-1]

    yield begin
    for each in begun:
        each.close()


@pytest.fixture(scope="module")
def whole(home: Path) -> Iterator[Whole]:
    """One that tests share which leave it as it was."""
    kernel = Whole("jupyter-gpu-h100", cwd=str(home))
    yield kernel
    kernel.close()
