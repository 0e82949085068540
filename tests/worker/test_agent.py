"""Real workers, forked from a real zygote, against a small gateway."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from client_end import alive, gone_within
from small_gateway import SmallGateway, Worker, ZygoteProcess

from jupyter_gpu.wire.codec import decode
from jupyter_gpu.wire.messages import Activity, Assigned, KernelExited, KernelHello, WorkerFailed

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def worker(zygote: ZygoteProcess, gateway: SmallGateway) -> Worker:
    zygote.fork(gateway)
    found = gateway.next()
    found.expect(KernelHello)
    return found


def test_it_says_who_it_is_and_runs_cells(zygote: ZygoteProcess, gateway: SmallGateway) -> None:
    gateway.env, gateway.cwd = {"SOME_VARIABLE": "some value"}, "/"
    pid = zygote.fork(gateway, "w7")
    worker = gateway.next()
    assert gateway.tokens == ["w7:s3cret"]
    assert (worker.hello.pid, worker.hello.worker_id) == (pid, "w7") and worker.hello.versions.python and worker.hello.kernel_pid != pid
    assert worker.notice(Assigned).session_id == "s-w7"
    hello, _ = worker.expect(KernelHello)
    assert isinstance(hello, KernelHello) and hello.pid == worker.hello.kernel_pid
    cell = worker.ok("import os\nprint(os.environ['SOME_VARIABLE'], os.getcwd(), os.getpgrp() == os.getpid())")
    assert cell.text() == "some value / True\n"
    assert [worker.notice(Activity).busy, worker.notice(Activity).busy] == [True, False]


def test_interrupt_on_the_control_lane(worker: Worker) -> None:
    code = "import time\nprint('ready', flush=True)\ntime.sleep(60)"
    assert worker.run(code, on=lambda m: worker.interrupt() if m.kind == "stream" else None).ename == "KeyboardInterrupt"
    run_id = worker.start(code)
    assert worker.finish(run_id, on=lambda m: worker.interrupt(run_id=run_id) if m.kind == "stream" else None).ename == "KeyboardInterrupt"


def test_interrupt_that_comes_late_does_not_hit_the_next_cell(worker: Worker) -> None:
    worker.interrupt(run_id=worker.ok("x = 1").done.run_id)
    assert worker.ok("print('untouched')").text() == "untouched\n"
    worker.ok("pass")
    [worker.notice(Activity) for _ in range(4)]  # it knows that the cell is over
    worker.interrupt()
    assert worker.ok("print('untouched')").text() == "untouched\n"


def test_interrupt_that_overtakes_its_cell(worker: Worker) -> None:
    worker.namespace["big"] = os.urandom(24 << 20)
    run_id = worker.start("ran = len(big)")
    worker.interrupt(run_id=run_id)
    cell = worker.finish(run_id)
    assert cell.ename == "KeyboardInterrupt"
    assert worker.ok("print(len(big))").text() == f"{24 << 20}\n"


def test_kernel_killed_in_mid_cell_is_reported(worker: Worker) -> None:
    worker.start("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    exited, _ = decode(worker.control.get(timeout=10))
    assert isinstance(exited, KernelExited) and exited.code == -signal.SIGKILL
    assert "SIGKILL" in exited.detail and "memory" in exited.detail
    assert worker.notice(WorkerFailed).error.code
    gone_within(lambda: not alive(worker.hello.pid), "the agent")


def test_kernel_that_exits_by_itself_is_reported(worker: Worker) -> None:
    worker.start("import os\nos._exit(3)")
    exited, _ = decode(worker.control.get(timeout=10))
    assert isinstance(exited, KernelExited) and exited.code == 3 and "3" in exited.detail


def start_children(worker: Worker) -> list[psutil.Process]:
    """One in the kernel's process group, one in a session of its own, one that ignores SIGTERM, and a grandchild whose parent is gone."""
    code = (
        "import subprocess\nps = [subprocess.Popen(['sleep', '600']), subprocess.Popen(['sleep', '600'], start_new_session=True),\n"
        "    subprocess.Popen(['sh', '-c', 'trap \"\" TERM INT HUP; sleep 600; sleep 600'])]\n"
        "out = subprocess.run(['sh', '-c', 'setsid sleep 600 > /dev/null 2>&1 & echo $!'], capture_output=True).stdout\n"
        "print(*(p.pid for p in ps), int(out))"
    )
    pids = [int(p) for p in worker.run(code, take=False).text().split()]
    assert len(pids) == 4
    return [psutil.Process(p) for p in pids]


def check_all_gone(worker: Worker, children: list[psutil.Process]) -> None:
    gone_within(lambda: not alive(worker.hello.pid), "the agent")
    gone_within(lambda: not alive(worker.hello.kernel_pid), "the kernel")
    gone_within(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in children), "the kernel's children")


@pytest.mark.parametrize("kill", [False, True])
def test_release_leaves_nothing(zygote: ZygoteProcess, worker: Worker, kill: bool) -> None:
    children = start_children(worker)
    worker.release(kill=kill)
    assert zygote.exited(worker)["code"] == 0
    check_all_gone(worker, children)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_agent_killed_leaves_nothing(zygote: ZygoteProcess, worker: Worker, number: signal.Signals) -> None:
    children = start_children(worker)
    os.kill(worker.hello.pid, number)
    zygote.exited(worker)
    check_all_gone(worker, children)


def test_files_go_with_the_worker_even_without_its_zygote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway: SmallGateway) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    zygote = ZygoteProcess(tmp_path / "log")
    zygote.event("ready")
    zygote.fork(gateway)
    worker = gateway.next()
    worker.expect(KernelHello)
    zygote.process.kill()
    zygote.process.wait(10)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()]
    worker.release(kill=True)
    for _ in range(20):
        if alive(worker.hello.pid):
            os.kill(worker.hello.pid, signal.SIGTERM)  # the gateway does both
    check_all_gone(worker, [])
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []
    zygote.close()


def test_release_during_a_stubborn_cell(worker: Worker) -> None:
    worker.start(
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('ready', flush=True)\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass"
    )
    worker.jupyter(lambda m: m.kind == "stream")
    worker.release()
    check_all_gone(worker, [])


def test_gateway_restart_loses_nothing(gateway: SmallGateway, worker: Worker) -> None:
    run_id = worker.start("import time\nfor i in range(60):\n    print(i, flush=True); time.sleep(.02)\nx = 5")
    worker.jupyter(lambda m: m.kind == "stream")
    gateway.stop()
    assert worker.connection is None
    gateway.start()
    assert gateway.next() is worker
    assert worker.hellos[-1].session_id == f"s-{worker.hello.worker_id}"
    cell = worker.finish(run_id)
    assert cell.text() == "".join(f"{i}\n" for i in range(1, 60))
    assert worker.namespace["x"] == 5


def test_lease_ends_all(gateway: SmallGateway, zygote: ZygoteProcess) -> None:
    zygote.fork(gateway, lease=0.5)
    worker = gateway.next()
    worker.expect(KernelHello)
    children = start_children(worker)
    gateway.stop()
    check_all_gone(worker, children)
    zygote.exited(worker)


def test_no_gateway_at_all(gateway: SmallGateway, zygote: ZygoteProcess) -> None:
    gateway.stop()
    pid = zygote.fork(gateway, "nobody hears it", lease=0.3)
    assert zygote.event("exited", worker_id="nobody hears it")["pid"] == pid
    assert not alive(pid)


def test_slow_client_holds_up_the_kernel_and_not_the_memory(gateway: SmallGateway, worker: Worker) -> None:
    rss = psutil.Process(worker.hello.pid).memory_info().rss
    worker.gateway.call(_set(worker, False))
    run_id = worker.start("line = 'x' * 100_000\nfor i in range(3000): print(line, flush=True)")
    end = time.monotonic() + 2
    while time.monotonic() < end:
        assert psutil.Process(worker.hello.pid).memory_info().rss < rss + (160 << 20)
        time.sleep(0.05)
    worker.gateway.call(_set(worker, True))
    assert len(worker.finish(run_id, timeout=50).text()) == 3000 * 100_001


async def _set(worker: Worker, reading: bool) -> None:
    (worker.reading.set if reading else worker.reading.clear)()


def test_big_values_both_ways(worker: Worker) -> None:
    worker.namespace["data"] = bytearray(os.urandom(8 << 20))
    worker.ok("data[0:4] = b'abcd'\nmore = bytes(data[:3_000_000])")
    assert worker.namespace["data"][:5].startswith(b"abcd") and worker.namespace["more"] == bytes(worker.namespace["data"][:3_000_000])
