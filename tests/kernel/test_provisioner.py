"""What jupyter_client asks of a provisioner, and in which order: restarts, interrupts, kills, failed launches."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager, KernelManager
from notebook_driver import DEADLINE, wait_for
from whole_driver import Whole, ends, sessions

from jupyter_gpu.kernel import provisioner
from jupyter_gpu.kernel.options import environment
from jupyter_gpu.kernel.provisioner import GpuProvisioner


def ports(manager: Any) -> dict[str, Any]:
    return {k: v for k, v in manager.get_connection_info().items() if k.endswith("_port") or k == "key"}


def test_what_is_returned_can_be_compared(start: Any) -> None:
    """1 and 2: the key is bytes; scheme, transport and ip are there."""
    kernel = start("jupyter-gpu-cpu")
    info = kernel.manager.provisioner.connection_info
    assert isinstance(info["key"], bytes) and info["signature_scheme"] == "hmac-sha256" and info["transport"] == "tcp" and info["ip"]


def test_a_restart_keeps_ports_key_and_hardware(start: Any) -> None:
    """3: a client that stays connected must find the new kernel where the old one was."""
    kernel = start()
    kernel.ok("here = 1")
    remote, before = kernel.remote_pid, ports(kernel.manager)
    held = kernel.ok("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])").text()
    kernel.manager.restart_kernel()
    kernel.client.wait_for_ready(timeout=DEADLINE)
    assert ports(kernel.manager) == before and kernel.remote_pid != remote
    assert kernel.run("here").error is not None
    assert kernel.ok("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])").text() == held
    ends(remote)
    assert len(sessions()) == 1


def test_a_restart_now_means_an_empty_namespace(start: Any) -> None:
    """5: nothing but ``cleanup(True)`` tells that it is one."""
    kernel = start()
    kernel.ok("here = 1")
    remote = kernel.remote_pid
    kernel.manager.restart_kernel(now=True)
    kernel.client.wait_for_ready(timeout=DEADLINE)
    assert kernel.run("here").error is not None
    ends(remote)
    assert len(sessions()) == 1


def test_new_ports_at_the_first_autorestart(start: Any) -> None:
    """4: the restarter passes ``newports=True`` before the kernel counts as stable."""
    kernel = start("jupyter-gpu-cpu")
    before = ports(kernel.manager)
    kernel.manager.restart_kernel(now=True, newports=True)
    assert ports(kernel.manager) == before
    kernel.client.wait_for_ready(timeout=DEADLINE)


def test_a_kill_ends_the_session_too(start: Any) -> None:
    kernel = start("jupyter-gpu-cpu")
    remote = kernel.remote_pid
    kernel.client.stop_channels()
    kernel.manager.shutdown_kernel(now=True)
    kernel.closed = True
    ends(remote)
    assert not any(s.startswith("CPU") for s in sessions())


def test_an_interrupt_reaches_the_cell_and_its_children(start: Any) -> None:
    """9: the kernel leads its process group."""
    kernel = start("jupyter-gpu-cpu")
    code = "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\nprint(child.pid, flush=True)\nchild.wait()"
    child: list[int] = []

    def pressed(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream" and not child:
            child.append(int(message["content"]["text"]))
            kernel.interrupt()

    result = kernel.run(code, on_output=pressed)
    assert result.error is not None and result.error["ename"] == "KeyboardInterrupt"
    ends(child[0])
    assert kernel.ok("1 + 1").results == ["2"]


def test_a_signal_to_what_is_gone_is_no_error() -> None:
    """6: shutdown interrupts first, and an exception there would abort it."""

    class Gone:
        pid, returncode = 2**22 + 1, None

        def send_signal(self, number: int) -> None:
            raise ProcessLookupError

    made = GpuProvisioner(kernel_id="k", kernel_spec=None)
    made.process, made.pgid = Gone(), 2**22 + 1
    asyncio.run(made.send_signal(signal.SIGINT))


def test_poll_knows_processes_alone(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """7: a gateway that cannot be reached is no exit."""
    kernel = start("jupyter-gpu-cpu")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr("socket.socket.connect", never)
    monkeypatch.setattr(provisioner, "_look_up", never)
    assert asyncio.run(kernel.manager.provisioner.poll()) is None


def test_a_failed_launch_says_why_and_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1: whatever was acquired goes on every failure path."""
    before = sessions()
    manager = KernelManager(kernel_name="jupyter-gpu-h100")
    manager.kernel_spec.metadata["kernel_provisioner"]["config"]["gpu"] = "B300"
    manager.kernel_spec.argv[manager.kernel_spec.argv.index("H100")] = "B300"
    with pytest.raises(RuntimeError, match="no B300"):
        manager.start_kernel()
    assert manager.provisioner is not None and manager.provisioner.process.wait(10) is not None
    assert sessions() == before
    manager.cleanup_resources()


def test_a_launch_that_is_given_up_leaves_nothing(home: Path, start: Any) -> None:
    """A start that waits for hardware is cancelled."""
    held = [start(), start()]

    async def test() -> None:
        manager = AsyncKernelManager(kernel_name="jupyter-gpu-h100")
        starting = asyncio.ensure_future(manager.start_kernel())
        while "CPU queued" not in sessions():
            await asyncio.sleep(0.02)
        starting.cancel()
        await asyncio.wait([starting])
        assert manager.provisioner is not None
        assert manager.provisioner.process is None or manager.provisioner.process.poll() is not None

    asyncio.run(test())
    wait_for(lambda: len(sessions()) == len(held), lambda: f"the session to end: {sessions()}")


def test_the_environment_is_a_list_of_what_is_allowed(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """10: not the server's secrets; what was asked for by name goes along."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    kernel = start("jupyter-gpu-cpu", env={**os.environ, "ASKED_FOR": "yes"})
    found = json.loads(kernel.ok("import os, json; print(json.dumps(dict(os.environ)))").text())
    assert found["ASKED_FOR"] == "yes" and found["OMP_NUM_THREADS"] == "3"
    assert "AWS_SECRET_ACCESS_KEY" not in found and "JPY_PARENT_PID" not in found


def test_what_is_never_sent() -> None:
    there = {
        "JPY_PARENT_PID": "1",
        "JUPYTER_GPU_TOKEN": "t",
        "JUPYTER_GPU_ENV": "JPY_PARENT_PID,JUPYTER_GPU_TOKEN,MINE",
        "MINE": "m",
        "LC_ALL": "C",
        "IPYKERNEL_CELL_NAME": "<cell>",
    }
    assert environment(there) == {"MINE": "m", "LC_ALL": "C", "IPYKERNEL_CELL_NAME": "<cell>"}


def test_cwd_arguments_and_paths(start: Any, tmp_path: Path) -> None:
    """11."""
    (tmp_path / "there.txt").touch()
    kernel = start("jupyter-gpu-cpu", extra_arguments=["--InteractiveShell.ast_node_interactivity=all"])
    assert kernel.ok("import os; print(os.getcwd())").text().strip() == str(tmp_path)
    assert kernel.ok("1\n2").results == ["1", "2"], "the kernel got its arguments"
    assert kernel.manager.resolve_path("there.txt") == str(tmp_path / "there.txt") and kernel.manager.resolve_path("not.txt") is None


def test_waiting_for_hardware_is_part_of_the_launch(start: Any) -> None:
    """12: no clock of a client's runs meanwhile."""
    first, second = start(), start()

    async def test() -> None:
        manager = AsyncKernelManager(kernel_name="jupyter-gpu-h100")
        starting = asyncio.ensure_future(manager.start_kernel())
        while "CPU queued" not in sessions():
            await asyncio.sleep(0.02)
        assert not starting.done()
        await asyncio.to_thread(first.close)
        await starting
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=DEADLINE)
        client.stop_channels()
        await manager.shutdown_kernel()

    asyncio.run(test())
    assert second.ok("1 + 1").results == ["2"]


def test_heartbeats_are_answered_here(whole: Whole) -> None:
    """20: also while the other end cannot be reached; see test_faults.py for when they end."""
    assert whole.client.hb_channel.is_beating()


def kernel_spec(home: Path, *argv: str) -> str:
    """Name of a kernel of this command."""
    folder = home / "data" / "kernels" / "bad"
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"kernel_provisioner": {"provisioner_name": "jupyter-gpu", "config": {"gpu": "CPU"}}}
    spec = {"argv": [*argv, "{connection_file}"], "display_name": "bad", "language": "python", "metadata": metadata}
    (folder / "kernel.json").write_text(json.dumps(spec))
    return folder.name


def test_a_kernel_that_cannot_start_fails_the_launch(home: Path) -> None:
    """What happened there is said here, and nothing is left."""
    before = sessions()
    manager = KernelManager(kernel_name=kernel_spec(home, "/no/such/kernel"))
    with pytest.raises(RuntimeError, match="did not start .kernel.*/no/such/kernel cannot be started: No such file"):
        manager.start_kernel()
    wait_for(lambda: sessions() == before, lambda: f"the session to end: {sessions()}")
    manager.cleanup_resources()


def test_a_kernel_that_ends_at_once_is_a_restarters_business(home: Path) -> None:
    """As a local one is: it was started, and its process is gone."""
    before = sessions()
    manager = KernelManager(kernel_name=kernel_spec(home, sys.executable, "-c", "raise SystemExit(3)"))
    manager.start_kernel()
    wait_for(lambda: not manager.is_alive(), "its end to be seen")
    wait_for(lambda: sessions() == before, lambda: f"the session to end: {sessions()}")
    manager.cleanup_resources()
