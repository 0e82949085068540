from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from websockets.exceptions import ConnectionClosed

sys.path.insert(0, str(Path(__file__).parent))

from client_end import KernelEnd, alive, gone_within
from small_gateway import SmallGateway, ZygoteProcess


class KernelHost:
    """A process that forks kernels, and the ends of those that it forked."""

    def __init__(self) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock.settimeout(60)
        command = [sys.executable, str(Path(__file__).parent / "kernel_host.py"), str(theirs.fileno())]
        env = {k: v for k, v in os.environ.items() if k not in {"MPLBACKEND", "PYTEST_CURRENT_TEST"}}
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=env, start_new_session=True)
        theirs.close()
        self._ready = False

    def fork(self) -> KernelEnd:
        if not self._ready:
            assert self._sock.recv(16) == b"ready"
            self._ready = True
        ours, theirs = socket.socketpair()
        socket.send_fds(self._sock, [b"f"], [theirs.fileno()])
        theirs.close()
        return KernelEnd(int(self._sock.recv(32)), ours)

    def close(self) -> None:
        self._sock.close()
        self.process.wait(20)


@pytest.fixture(scope="session")
def host() -> Iterator[KernelHost]:
    found = KernelHost()
    yield found
    found.close()


@pytest.fixture
def new_kernel(host: KernelHost) -> Iterator[Callable[[], KernelEnd]]:
    """Kernels of one's own; all of them, and what they started, must end with their socket."""
    ends: list[KernelEnd] = []

    def make() -> KernelEnd:
        ends.append(host.fork())
        return ends[-1]

    yield make
    for end in ends:
        end_kernel(end)


@pytest.fixture(scope="module")
def shared(host: KernelHost) -> Iterator[KernelEnd]:
    """One kernel for the tests of a module that do not harm it."""
    end = host.fork()
    end.hello()
    yield end
    end_kernel(end)


def end_kernel(end: KernelEnd) -> None:
    end.sock.close()
    try:
        process = psutil.Process(end.pid)
    except psutil.NoSuchProcess:
        return
    try:
        process.wait(10)
    except psutil.TimeoutExpired:
        os.kill(end.pid, signal.SIGKILL)
        raise AssertionError("the kernel did not end when its pipe did") from None


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZygoteProcess]:
    """A zygote that has no child left when the module's tests are over."""
    found = ZygoteProcess(tmp_path_factory.mktemp("zygote") / "log")
    found.event("ready")
    yield found
    gone_within(lambda: not psutil.Process(found.process.pid).children(recursive=True), "children of the zygote")
    found.close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[SmallGateway]:
    folder = Path(tempfile.mkdtemp(prefix="jg-"))  # a unix socket's path must be short
    found = SmallGateway(folder)
    yield found
    for worker in found.workers.values():
        if worker.connection is not None:
            with contextlib.suppress(ConnectionClosed):  # it ended by itself, and its socket with it
                worker.release(kill=True)
    for worker in found.workers.values():
        gone_within(lambda w=worker: not alive(w.hello.pid) and not alive(w.hello.kernel_pid), "a worker")  # type: ignore[misc]
    found.close()
    shutil.rmtree(folder)
