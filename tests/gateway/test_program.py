"""``python -m jupyter_gpu_gateway`` with real workers: how it starts, and what is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from jupyter_gpu_gateway.runtime import kept_token, socket_path, sole_owner, write_info
from plain_client import dial
from played import End, Rpc, go

from jupyter_gpu.transport.envelope import open_envelope
from jupyter_gpu.wire.messages import PROTOCOL, Hello, SessionState, Versions, Welcome


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


@contextlib.contextmanager
def started(folder: Path, *options: str, token: str = "") -> Iterator[subprocess.Popen[str]]:
    """A gateway; nothing of it is left afterwards, however the test ends."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER_", "JPY_"))}
    env |= {"JUPYTER_GPU_TOKEN": token} if token else {}
    env["TMPDIR"] = str(folder)
    command = [sys.executable, "-m", "jupyter_gpu_gateway", "--preload", "", *options]
    with open(folder / "log", "a") as log:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
    try:
        yield process
    finally:
        family = everybody(process)
        process.terminate()
        try:
            process.wait(15)
        finally:
            for each in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
        assert process.stdout is not None
        process.stdout.close()


def everybody(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


async def reach(info: dict[str, str]) -> Rpc:
    rpc = Rpc(await dial(info["url"], "/v1/rpc", info["token"]))
    await rpc.send(Hello(protocol=PROTOCOL, versions=Versions(software="test", python="3.11.7", cloudpickle="3")))
    assert isinstance(await rpc.next(), Welcome)
    return rpc


def test_an_own_gateway_leaves_nothing_behind(folder: Path) -> None:
    info_file = folder / "own" / "gateway.json"
    with started(folder, "--own", str(info_file), "--simulate", "H100") as process:
        wait_for(info_file.exists, "the info file")
        assert info_file.stat().st_mode & 0o777 == 0o600 and info_file.parent.stat().st_mode & 0o777 == 0o700
        info = json.loads(info_file.read_text())
        assert info["pid"] == process.pid and info["protocol"] == PROTOCOL and info["simulate"] == "H100"
        assert info["url"] == f"unix://{info_file.with_suffix('.sock')}"

        async def use() -> None:
            rpc = await reach(info)
            opened = await rpc.open("a notebook", "H100")
            change = await rpc.reaches(opened.session_id, SessionState.READY)
            assert change.session.pid and psutil.pid_exists(change.session.pid)
            link = End(await dial(info["url"], f"/v1/sessions/{opened.session_id}/link", info["token"]))
            assert open_envelope(await link.socket.recv())
            os.kill(process.pid, signal.SIGTERM)  # with a session that is connected, and a standby worker that is coming up
            await rpc.socket.wait_closed()

        family = everybody(process)
        go(use())
        family = [*family, *everybody(process)]
        assert process.wait(15) == 0
        wait_for(lambda: not any(p.is_running() for p in family), f"left: {[p for p in family if p.is_running()]}")
    assert not info_file.exists() and not info_file.with_suffix(".sock").exists()
    wait_for(lambda: not list(folder.glob("jupyter-gpu-*")), "the workers' files are gone")


def test_ended_while_its_first_worker_is_being_forked(folder: Path) -> None:
    info_file = folder / "own" / "gateway.json"
    with started(folder, "--own", str(info_file), "--standby", "2") as process:
        wait_for(info_file.exists, "the info file")
        process.terminate()
        family: set[psutil.Process] = set()
        while process.poll() is None:
            family |= set(everybody(process))
            time.sleep(0.005)
        assert process.returncode == 0
        wait_for(lambda: not any(p.is_running() for p in family), f"left: {family}")


def test_it_ends_when_nobody_needs_it(folder: Path) -> None:
    """Two that began side by side: the one that somebody is connected to outlives the other."""
    files = [folder / name / "gateway.json" for name in ("used", "unused")]
    options = ("--standby", "0", "--exit-when-idle", "1")
    with started(folder, "--own", str(files[0]), *options) as used:
        wait_for(files[0].exists, "the info file")

        async def stay() -> None:
            rpc = await reach(json.loads(files[0].read_text()))
            with started(folder, "--own", str(files[1]), *options) as unused:
                assert await asyncio.to_thread(unused.wait, 20) == 0
            assert used.poll() is None and await rpc.sessions() == {}, "somebody is connected"
            await rpc.socket.close()

        go(stay())
        assert used.wait(10) == 0
    for file in files:
        assert not file.exists() and not file.with_suffix(".sock").exists()


def test_two_gateways_of_one_folder(folder: Path) -> None:
    """The second would take the first one's workers for orphans."""
    options = ("--url", "ws://127.0.0.1:0", "--folder", str(folder / "state"), "--standby", "0")
    with started(folder, *options, token="one") as first:
        assert first.stdout is not None
        assert "listens at" in first.stdout.readline()
        with started(folder, *options, token="two") as second:
            assert second.wait(15) == 1
        assert "runs already" in (folder / "log").read_text()
        assert first.poll() is None


def test_a_unix_socket_at_which_another_gateway_answers(folder: Path) -> None:
    url = f"unix://{folder / 'shared.sock'}"
    with started(folder, "--url", url, "--folder", str(folder / "first"), "--standby", "0", token="one") as first:
        assert first.stdout is not None
        assert url in first.stdout.readline()
        said = refusal(folder, "--url", url, token="two")
        assert "No gateway could be started" in (folder / "log").read_text() and "another one answers" in (folder / "log").read_text(), said

        async def still() -> None:
            assert await (await reach({"url": url, "token": "one"})).sessions() == {}

        go(still())
        assert not list(folder.glob("*.lock"))
        first.kill()  # it leaves its socket behind
        first.wait(10)
    assert (folder / "shared.sock").is_socket()
    with started(folder, "--url", url, "--folder", str(folder / "third"), "--standby", "0", token="three") as third:
        assert third.stdout is not None
        assert url in third.stdout.readline(), "a dead socket is taken over"

        async def serves() -> None:
            assert await (await reach({"url": url, "token": "three"})).sessions() == {}

        go(serves())
    assert not (folder / "shared.sock").exists()


def refusal(folder: Path, *options: str, token: str = "token") -> str:
    with started(folder, "--folder", str(folder / "state"), *options, token=token) as process:
        assert process.wait(15) == 1
    text = (folder / "log").read_text()
    assert "Traceback" not in text, text
    return text.strip().splitlines()[-1]


def test_a_token_file_that_others_can_read(folder: Path) -> None:
    file = folder / "token"
    file.write_text("secret-token")
    file.chmod(0o644)
    said = refusal(folder, "--token-file", str(file))
    assert "Others can read" in said and "0644" in said and "secret-token" not in said


def test_token_files_that_are_no_use(folder: Path) -> None:
    assert "--token-file" in refusal(folder, "--token-file", str(folder / "missing"))
    empty = folder / "empty"
    empty.touch(0o600)
    assert "never open" in refusal(folder, "--token-file", str(empty))


@pytest.mark.parametrize("url", ["wss://127.0.0.1:0", "ws://127.0.0.1", "nonsense", "unix://relative"])
def test_where_it_cannot_listen(folder: Path, url: str) -> None:
    assert "--url" in refusal(folder, "--url", url)


def test_an_address_that_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refusal(folder, "--url", f"ws://127.0.0.1:{taken.getsockname()[1]}")
    assert "cannot listen" in said and "--url" in said


def test_simulated_hardware_that_is_nonsense(folder: Path) -> None:
    assert "TYPE:COUNT" in refusal(folder, "--url", "ws://127.0.0.1:0", "--simulate", "H100:0")


# ---------------------------------------------------------------- runtime.py


def test_the_token_is_kept_and_one_that_others_could_read_is_not(tmp_path: Path) -> None:
    info_file = tmp_path / "gateway.json"
    assert kept_token(info_file, "one") == "one"
    assert kept_token(info_file, "two") == "one"
    file = tmp_path / "gateway.token"
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    assert kept_token(info_file, "three") == "three"
    assert file.stat().st_mode & 0o777 == 0o600 and kept_token(info_file, "four") == "three"


def test_the_info_file_is_its_owners_alone(tmp_path: Path) -> None:
    write_info(tmp_path / "gateway.json", {"url": "ws://here", "token": "t"})
    assert (tmp_path / "gateway.json").stat().st_mode & 0o777 == 0o600
    assert json.loads((tmp_path / "gateway.json").read_text())["token"] == "t"
    assert [f.name for f in tmp_path.iterdir()] == ["gateway.json"]


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    from jupyter_gpu.wire.errors import GatewayStartFailed

    with sole_owner(tmp_path / "x" / "gateway.json"):
        with pytest.raises(GatewayStartFailed, match="runs already"):
            with sole_owner(tmp_path / "x" / "gateway.json"):
                raise AssertionError
    with sole_owner(tmp_path / "x" / "gateway.json"):
        pass


def test_a_path_that_is_too_long_for_a_socket(tmp_path: Path) -> None:
    assert socket_path(Path("/run/gateway.json")) == Path("/run/gateway.sock")
    assert socket_path(Path("/run") / ("x" * 100) / "gateway.json") is None
