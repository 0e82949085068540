from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_gpu import embedded
from jupyter_gpu.config import JupyterGPU
from jupyter_gpu.wire.errors import DiskFull, GatewayStartFailed, ProtocolMismatch, TokenFileExposed
from jupyter_gpu.wire.messages import PROTOCOL

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JupyterGPU:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    return JupyterGPU()


@pytest.fixture
def url() -> Iterator[str]:
    """Somebody who listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"ws://127.0.0.1:{server.getsockname()[1]}"


def write(config: JupyterGPU, url: str, **more: Any) -> Path:
    path = embedded.info_path(config)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(json.dumps({"url": url, "token": "t", "pid": 5, "software": "0.1", "protocol": PROTOCOL, "simulate": "", **more}))
    path.chmod(0o600)
    return path


class Played:
    """In place of the gateway's process: ``body`` is what it runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        self.commands: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        real = subprocess.Popen

        def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
            self.commands.append(command)
            self.environments.append(options["env"])
            self.started.append(real([command[0], "-c", body], **options))
            return self.started[-1]

        monkeypatch.setattr(subprocess, "Popen", start)


def test_a_gateway_that_simulates_is_another_one(config: JupyterGPU) -> None:
    paths = {embedded.info_path(JupyterGPU(simulate=s)) for s in ("", "H100", "H100:2")}
    assert len(paths) == 3 and len({p.parent for p in paths}) == 1


def test_it_is_found(config: JupyterGPU, url: str) -> None:
    assert embedded.find(config) is None
    write(config, url)
    assert embedded.find(config) == embedded.Found(url, "t", 5)
    assert embedded.find_or_start(config) == embedded.Found(url, "t", 5)


def test_one_that_does_not_answer_is_not_found(config: JupyterGPU, url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    for dead in (f"ws://127.0.0.1:{port}", f"unix://{tmp_path}/none.sock"):
        write(config, dead)
        assert embedded.find(config) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "{}",
        '{"url": "nonsense", "token": "t", "pid": 1, "software": "", "protocol": 1}',
        '{"url": 7, "token": "t", "pid": "x"}',
    ],
)
def test_a_file_that_is_no_gateways_work_is_as_if_it_were_not_there(config: JupyterGPU, text: str) -> None:
    write(config, "ws://x").write_text(text)
    assert embedded.find(config) is None


def test_another_protocol(config: JupyterGPU, url: str) -> None:
    write(config, url, protocol=PROTOCOL + 1, software="9.9")
    with pytest.raises(ProtocolMismatch, match=r"release 9\.9") as caught:
        embedded.find_or_start(config)
    assert caught.value.here == str(PROTOCOL)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read(config: JupyterGPU, url: str, mode: int) -> None:
    path = write(config, url)
    path.chmod(mode)
    with pytest.raises(TokenFileExposed) as caught:
        embedded.find_or_start(config)
    assert caught.value.path == str(path) and caught.value.mode == f"{mode:04o}"
    assert path.exists(), "whether to trust it is for the person to say"


def test_a_folder_that_others_can_read(config: JupyterGPU, url: str) -> None:
    path = write(config, url)
    path.parent.chmod(0o755)
    with pytest.raises(TokenFileExposed) as caught:
        embedded.find(config)
    assert caught.value.path == str(path.parent)


def test_somebody_elses_file(config: JupyterGPU, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(config, url)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(TokenFileExposed):
        embedded.find(config)


def test_what_it_is_started_with(config: JupyterGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_GPU_TOKEN", "of another gateway")
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    played = Played(monkeypatch, "raise SystemExit('the last line')")
    config.simulate, config.preload, config.exit_when_idle = "H100", ["numpy", "torch"], 7.5
    with pytest.raises(GatewayStartFailed) as caught:
        embedded.find_or_start(config)
    assert caught.value.reason == "the last line" and Path(caught.value.log).exists()
    assert stat.S_IMODE(Path(caught.value.log).stat().st_mode) == 0o600
    (command,), (env,) = played.commands, played.environments
    joined = " ".join(command)
    assert f"--own {embedded.info_path(config)}" in joined and "--simulate H100" in joined
    assert "--preload numpy,torch" in joined and "--exit-when-idle 7.5" in joined
    assert "JUPYTER_GPU_TOKEN" not in env and "JPY_PARENT_PID" not in env


def test_one_that_says_nothing_and_ends(config: JupyterGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    Played(monkeypatch, "raise SystemExit(3)")
    with pytest.raises(GatewayStartFailed, match="exit code 3"):
        embedded.find_or_start(config)


def test_one_that_never_listens_is_ended(config: JupyterGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_START", 0.3)
    played = Played(monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(GatewayStartFailed, match=r"0\.3 seconds"):
        embedded.find_or_start(config)
    assert played.started[0].returncode is not None, "nothing is left behind"


def test_an_interrupt_while_it_starts_ends_it(config: JupyterGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch, "import time; time.sleep(60)")

    def press(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded.time, "sleep", press)
    with pytest.raises(KeyboardInterrupt):
        embedded.find_or_start(config)
    assert played.started[0].returncode is not None


def test_two_notebooks_that_start_at_once_share_one(config: JupyterGPU, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    path = embedded.info_path(config)
    info = json.dumps({"url": url, "token": "t", "pid": 5, "software": "0.1", "protocol": PROTOCOL})
    body = f"import os; d = os.open({str(path) + '.new'!r}, os.O_WRONLY | os.O_CREAT, 0o600); os.write(d, {info.encode()!r}); os.rename({str(path) + '.new'!r}, {str(path)!r})"
    played = Played(monkeypatch, body + "; import time; time.sleep(1)")
    found: list[embedded.Found] = []
    threads = [threading.Thread(target=lambda: found.append(embedded.find_or_start(config))) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert found == [embedded.Found(url, "t", 5)] * 4 and len(played.started) == 1
    played.started[0].wait(10)


def raiser(error: OSError) -> Callable[..., Any]:
    def fail(*args: Any, **options: Any) -> Any:
        raise error

    return fail


def test_a_runtime_folder_that_cannot_be_used(config: JupyterGPU, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jupyter_gpu").write_text("a file where the folder should be")
    with pytest.raises((GatewayStartFailed, TokenFileExposed)) as caught:
        embedded.find_or_start(config)
    assert str(tmp_path) in str(caught.value)


def test_a_full_disk_and_one_that_cannot_be_written(config: JupyterGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", raiser(OSError(28, "No space left on device")))
    with pytest.raises(DiskFull, match="No space left"):
        embedded.find_or_start(config)
    monkeypatch.setattr(Path, "mkdir", raiser(PermissionError(13, "Permission denied", "/some/where")))
    with pytest.raises(GatewayStartFailed, match="/some/where"):
        embedded.find_or_start(config)
