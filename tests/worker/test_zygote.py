"""The zygote: forks that are quick, independent of each other, and leave nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from client_end import alive, gone_within
from small_gateway import SmallGateway, ZygoteProcess

from jupyter_gpu.wire.messages import KernelHello

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def own(tmp_path: Path) -> ZygoteProcess:
    """A zygote for one test."""
    found = ZygoteProcess(tmp_path / "log")
    ready = found.event("ready")
    assert ready["pid"] == found.process.pid and ready["python"].count(".") == 2
    return found


def run_in(zygote: ZygoteProcess, gateway: SmallGateway, worker_id: str, code: str) -> str:
    """What a fresh worker prints."""
    zygote.fork(gateway, worker_id)
    worker = gateway.next()
    worker.expect(KernelHello)
    text = worker.run(code, take=False).text()
    worker.release(kill=True)
    zygote.exited(worker)
    return text


def test_thirty_forks_leak_nothing(zygote: ZygoteProcess, gateway: SmallGateway) -> None:
    process = psutil.Process(zygote.process.pid)
    run_in(zygote, gateway, "warm", "pass")
    before = process.num_fds()
    for i in range(30):
        zygote.fork(gateway, f"w{i}")
    workers = [gateway.next() for _ in range(30)]
    for worker in workers:
        worker.expect(KernelHello)
        worker.release(kill=True)
    for worker in workers:
        zygote.exited(worker)
    assert process.num_fds() == before
    assert process.num_threads() == 1
    gone_within(lambda: not process.children(recursive=True), "children or zombies")


def test_kernels_inherit_no_files(zygote: ZygoteProcess, gateway: SmallGateway) -> None:
    code = "import os\nfor fd in sorted(map(int, os.listdir('/proc/self/fd'))):\n    try: print(fd, os.readlink(f'/proc/self/fd/{fd}'))\n    except OSError: pass"
    first = run_in(zygote, gateway, "a", code)
    listed = run_in(zygote, gateway, "b", code)
    assert len(first.splitlines()) == len(listed.splitlines())
    pipes = {line.split()[1] for line in listed.splitlines() if "pipe:" in line}
    assert len(pipes) == 2, listed  # stdout and stderr, which the kernel made
    assert "/gw" not in listed


def test_random_numbers_differ(zygote: ZygoteProcess, gateway: SmallGateway) -> None:
    code = "import random\nprint(random.random())"
    assert len({run_in(zygote, gateway, f"r{i}", code) for i in range(3)}) == 3


def test_output_of_control_is_never_garbled(zygote: ZygoteProcess, gateway: SmallGateway) -> None:
    text = run_in(zygote, gateway, "p", "import os\nos.write(1, b'{\"event\": \"forged\"}\\n')\nprint('done')")
    assert "forged" in text and "done" in text


def test_zygote_that_ends_takes_no_session_along(own: ZygoteProcess, gateway: SmallGateway) -> None:
    own.fork(gateway)
    worker = gateway.next()
    worker.expect(KernelHello)
    own.close()
    assert worker.ok("print('alive')").text() == "alive\n"
    assert own.process.returncode == 0


def test_exit_and_unknown_commands(own: ZygoteProcess, gateway: SmallGateway) -> None:
    assert own.process.stdin is not None
    own.process.stdin.write(b"this is no JSON\n\n[1]\n")
    own.say(op="sing")
    own.say(op="fork")
    assert [bool(own.event("failed")["reason"]) for _ in range(4)] == [True] * 4
    pid = own.fork(gateway)
    gateway.next().expect(KernelHello)
    own.say(op="exit")
    own.process.wait(20)
    assert alive(pid)


def test_preloading(own: ZygoteProcess, gateway: SmallGateway, tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    own.say(op="preload", modules=["numpy", "no_such_module_at_all", "this"])
    during = own.fork(gateway, "during")
    gateway.next().expect(KernelHello)
    event = own.event("preloaded")
    assert event["modules"] == ["numpy", "this"] and "no_such_module_at_all" in event["skipped"]
    os.kill(during, 9)
    own.event("exited", worker_id="during")
    code = "import sys\nprint('numpy' in sys.modules)"
    assert run_in(own, gateway, "after", code) == "True\n"
    draw = "import numpy as np, random\nprint(np.random.rand(), random.random())"
    drawn = [run_in(own, gateway, f"n{i}", draw).split() for i in range(2)]
    assert drawn[0][0] != drawn[1][0] and drawn[0][1] != drawn[1][1]
    assert run_in(own, gateway, "mm", "import numpy as np\na = np.ones((400, 400))\nprint((a @ a)[0, 0])") == "400.0\n"
    second = psutil.Process(own.process.pid).children()
    own.close()
    gone_within(lambda: not any(p.is_running() for p in second), "the second generation")


def test_second_generation_killed(own: ZygoteProcess, gateway: SmallGateway) -> None:
    own.say(op="preload", modules=["json"])
    own.event("preloaded")
    pid = own.fork(gateway, "b")
    worker = gateway.next()
    worker.expect(KernelHello)
    (second,) = psutil.Process(own.process.pid).children()
    assert psutil.Process(pid).ppid() == second.pid
    second.kill()
    gone_within(lambda: not second.is_running(), "the second generation")
    assert worker.ok("print('alive')").text() == "alive\n", "sessions outlive it"
    assert run_in(own, gateway, "c", "print('from the first')") == "from the first\n"
    worker.release(kill=True)
    own.exited(worker)  # who died is told all the same
    own.close()
