"""The shim by itself, as a client starts it that knows nothing of provisioners; and what it is made of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from notebook_driver import DEADLINE, wait_for
from whole_driver import Whole, ends, sessions

from jupyter_gpu.kernel.connection import read
from jupyter_gpu.kernel.specs import Spec, write
from jupyter_gpu.wire.errors import ConnectionFileBad


@pytest.fixture
def plain(home: Path, start: Any) -> Whole:
    """21: VS Code starts argv itself, and ignores what the metadata say about provisioners."""
    write(Spec("ANY"), home / "data" / "kernels", provisioner=False)
    kernel: Whole = start(Spec("ANY").name)
    assert type(kernel.manager.provisioner) is LocalProvisioner
    return kernel


def test_it_is_a_complete_kernel(plain: Whole) -> None:
    assert plain.ok("1 + 1").results == ["2"]
    assert plain.run("print(input('? '))", stdin=lambda request: "yes").text() == "yes\n"
    plain.ok("here = 1")
    plain.manager.restart_kernel(now=True)
    plain.client.wait_for_ready(timeout=DEADLINE)
    assert plain.run("here").error is not None, "a restart means an empty namespace, whoever does it"
    remote = plain.remote_pid
    plain.close()
    ends(remote)
    wait_for(lambda: not sessions(), lambda: f"sessions are left: {sessions()}")


def shim(*arguments: str, **env: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "jupyter_gpu.kernel.shim", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **env})
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no connection file"),
        ("[]", "no connection file"),
        ('{"shell_port": 1}', "it does not say iopub_port"),
        ('{"transport": "pigeon"}', "neither tcp nor ipc"),
        (None, "No such file"),
    ],
)
def test_a_connection_file_that_is_none(home: Path, tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "kernel.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConnectionFileBad, match=says):
        read(path)
    code, err = shim("-f", str(path))
    assert code == 1 and says in err and str(path) in err


def connection_file(tmp_path: Path) -> Path:
    from jupyter_client.connect import write_connection_file

    return Path(write_connection_file(str(tmp_path / "kernel.json"), key=b"k")[0])


def test_a_gateway_that_is_gone(home: Path, tmp_path: Path) -> None:
    code, err = shim("-f", str(connection_file(tmp_path)), JUPYTER_GPU_GATEWAY="ws://127.0.0.1:9", JUPYTER_GPU_TOKEN="t")
    assert code == 1 and "ws://127.0.0.1:9 cannot be reached" in err


def test_hardware_that_does_not_exist(home: Path, tmp_path: Path) -> None:
    code, err = shim("-f", str(connection_file(tmp_path)), "--gpu", "B300")
    assert code == 1 and "no B300" in err
    assert not list((home / "runtime" / "jupyter_gpu" / "kernels").glob("kernel*"))


def test_ports_and_key_of_both_transports(tmp_path: Path) -> None:
    path = connection_file(tmp_path)
    told = read(path)
    assert told.key == "k" and told.endpoint("shell") == f"tcp://127.0.0.1:{json.loads(path.read_text())['shell_port']}"
    path.write_text(json.dumps({**json.loads(path.read_text()), "transport": "ipc", "ip": "/tmp/k", "shell_port": 1}))
    assert read(path).endpoint("shell") == "ipc:///tmp/k-1"


def test_importing_the_shim_costs_little() -> None:
    heavy = ["IPython", "ipykernel", "jupyter_client", "traitlets", "tornado", "numpy"]
    code = f"import sys, json, jupyter_gpu.kernel.shim; print(json.dumps([m for m in {heavy!r} if m in sys.modules]))"
    assert json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) == []
