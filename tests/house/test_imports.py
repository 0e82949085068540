"""Importing is free: no package of ours loads a heavy library before it is used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ["IPython", "torch", "pandas", "numpy", "jupyter_server", "docker", "matplotlib", "ipykernel", "rich", "sklearn", "ipywidgets"]


@pytest.mark.parametrize(
    "module",
    [
        "jupyter_gpu",
        "jupyter_gpu.wire.messages",
        "jupyter_gpu.wire.link",
        "jupyter_gpu.wire.errors",
        "jupyter_gpu.transport.driver",
        "jupyter_gpu.sync.replica",
        "jupyter_gpu.sync.names",
        "jupyter_gpu.cli",
        "jupyter_gpu.client",
        "jupyter_gpu_gateway.__main__",
        "jupyter_gpu_gateway.app",
    ],
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, json, {module}; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_package_itself_imports_next_to_nothing() -> None:
    code = "import sys, json, jupyter_gpu; print(json.dumps(sorted(m for m in sys.modules if m.startswith('jupyter_gpu') or m in ('asyncio', 'msgspec'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["jupyter_gpu", "jupyter_gpu._version"]
