"""The command line, as a person runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from jupyter_gpu._version import __version__


@pytest.fixture
def person() -> Iterator[dict[str, str]]:
    """Environment of somebody who has configured nothing. A short path: a unix socket's must be."""
    home = Path(tempfile.mkdtemp(prefix="jg-"))
    (home / "runtime").mkdir(mode=0o700)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER_", "JPY_"))}
    places = {"HOME": home, "JUPYTER_RUNTIME_DIR": home / "runtime", "JUPYTER_DATA_DIR": home / "data", "TMPDIR": home, "COLUMNS": "200"}
    yield {**env, **{k: str(v) for k, v in places.items()}}
    shutil.rmtree(home, ignore_errors=True)


def cli(person: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr); there is never a traceback."""
    command = [sys.executable, "-m", "jupyter_gpu.cli", *arguments]
    done = subprocess.run(command, env=person, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_version(person: dict[str, str]) -> None:
    assert cli(person, "--version") == (0, __version__ + "\n", "")


def test_help_names_the_commands(person: dict[str, str]) -> None:
    code, out, _ = cli(person, "--help")
    assert code == 0 and all(f"\n    {command}" in out for command in ("gateway", "status", "stop", "demo"))


def test_a_command_that_does_not_exist(person: dict[str, str]) -> None:
    code, out, err = cli(person, "start")
    assert code == 2 and out == "" and "invalid choice: 'start'" in err


def test_the_gateways_own_options(person: dict[str, str]) -> None:
    code, out, _ = cli(person, "gateway", "--help")
    assert code == 0 and out.startswith("usage: jupyter gpu gateway")
    assert all(option in out for option in ("--url", "--simulate", "--token-file", "--standby", "--exit-when-idle"))
    assert "--own" not in out


def test_status_without_a_gateway(person: dict[str, str]) -> None:
    code, out, err = cli(person, "status")
    assert code == 1 and out == ""
    assert err == "Your own gateway does not run; the first %%remote cell starts it.\n"


def test_status_of_a_gateway_that_is_not_there(person: dict[str, str]) -> None:
    code, _, err = cli({**person, "JUPYTER_GPU_GATEWAY": "ws://127.0.0.1:1", "JUPYTER_GPU_TOKEN": "x"}, "status")
    assert code == 1 and "ws://127.0.0.1:1" in err and "JUPYTER_GPU_GATEWAY" in err


def test_stop_without_a_gateway(person: dict[str, str]) -> None:
    assert cli(person, "stop", "--gateway") == (0, "Your own gateway does not run.\n", "")
    code, _, err = cli(person, "stop", "--all")
    assert code == 1 and "does not run" in err
    code, _, err = cli(person, "stop")
    assert code == 2 and "required" in err


def test_a_gateway_to_share(person: dict[str, str]) -> None:
    command = [sys.executable, "-m", "jupyter_gpu.cli", "gateway", "--url", "ws://127.0.0.1:0", "--simulate", "H100:2", "--preload", ""]
    process = subprocess.Popen(command, env=person, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stderr is not None
        said = ""
        while "Ctrl-C" not in said:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            said += line
        assert "offers: " in said and "2 × H100 (simulated)" in said
        told = dict(re.findall(r"export (\w+)=(\S+)", said))
        assert set(told) == {"JUPYTER_GPU_GATEWAY", "JUPYTER_GPU_TOKEN"}

        code, out, err = cli({**person, **told}, "status")
        assert (code, err) == (0, "")
        assert told["JUPYTER_GPU_GATEWAY"] in out and out.count("H100 (simulated)") == 2 and "No sessions." in out
        assert cli({**person, **told}, "stop", "--all")[:2] == (0, "There are no sessions.\n")
        code, _, err = cli({**person, **told}, "stop", "s-nobody")
        assert code == 1 and "s-nobody" in err
        code, _, err = cli({**person, **told, "JUPYTER_GPU_TOKEN": "wrong"}, "status")
        assert code == 1 and "did not accept the token" in err and told["JUPYTER_GPU_TOKEN"] not in err

        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)  # Ctrl-C
        _, err = process.communicate(timeout=15)
        assert process.returncode == 0 and "Traceback" not in err, err
        psutil.wait_procs(family, timeout=10)
        assert not any(p.is_running() for p in family)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def test_a_token_that_was_given_is_not_shown(person: dict[str, str]) -> None:
    command = [sys.executable, "-m", "jupyter_gpu.cli", "gateway", "--url", "ws://127.0.0.1:0", "--preload", "", "--standby", "0"]
    env = {**person, "JUPYTER_GPU_TOKEN": "a-token-of-mine"}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        said = ""
        while "Ctrl-C" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=15)
    assert process.returncode == 0 and "a-token-of-mine" not in said + rest and "Traceback" not in rest


def test_kernels_are_installed_listed_and_removed(person: dict[str, str]) -> None:
    """24: with ``--user``, for servers that may lack our provisioner, it is not named: the spec would vanish from their picker."""
    env = {**person, "JUPYTER_GPU_SIMULATE": "H100:2,A100"}
    try:
        code, out, err = cli(env, "install", "--user")
        assert (code, err) == (0, "")
        kernels = Path(person["JUPYTER_DATA_DIR"]) / "kernels"
        found = {p.parent.name: json.loads(p.read_text()) for p in kernels.glob("*/kernel.json")}
        assert {name: spec["display_name"] for name, spec in found.items()} == {
            "jupyter-gpu-h100": "Python 3 (H100, simulated)",
            "jupyter-gpu-a100": "Python 3 (A100, simulated)",
            "jupyter-gpu-cpu": "Python 3 (remote CPU)",
        }
        assert all("kernel_provisioner" not in spec["metadata"] and "{connection_file}" in spec["argv"] for spec in found.values())
        code, out, _ = cli(env, "list")
        assert code == 0 and "jupyter-gpu-a100  Python 3 (A100, simulated)" in out
        code, out, _ = cli(env, "install", "--user", "h100:2")
        assert code == 0 and "Python 3 (2 × H100, simulated)" in out and (kernels / "jupyter-gpu-h100-2").is_dir()
        code, out, _ = cli(env, "install", "--user", "--elastic")
        assert code == 0 and out.startswith("Python 3 (elastic)") and out.count("\n") == 1
        assert "local" in json.loads((kernels / "jupyter-gpu-elastic" / "kernel.json").read_text())["argv"]
        assert cli(env, "remove", "elastic")[0] == 0
        assert cli(env, "remove", "H100:2")[0] == 0 and not (kernels / "jupyter-gpu-h100-2").exists()
        code, _, err = cli(env, "remove", "B300")
        assert code == 1 and "jupyter-gpu-b300" in err and "jupyter-gpu-a100" in err
        (kernels / "mine").mkdir()
        assert cli(env, "remove")[0] == 0 and [p.name for p in kernels.iterdir()] == ["mine"], "those of others stay"
        assert "No kernels are installed" in cli(env, "list")[1]
    finally:
        cli(env, "stop", "--gateway")


def test_hardware_that_is_none(person: dict[str, str]) -> None:
    env = {**person, "JUPYTER_GPU_SIMULATE": "H100"}
    try:
        code, _, err = cli(env, "install", "--user", "H100:x")
        assert code == 1 and "gpu=H100:x" in err
    finally:
        cli(env, "stop", "--gateway")
