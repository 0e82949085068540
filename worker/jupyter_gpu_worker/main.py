"""The life of a forked worker: it forks the kernel, and becomes the agent."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import socket
import sys

from .kernel import WorkerKernel
from .pipe import Pipe, pair

_PR_SET_PDEATHSIG = 1


def run_worker(kernel: WorkerKernel, *, worker_id: str, secret: str, url: str, lease: float) -> int:
    """In the child of the zygote: returns the exit code of the agent. ``lease`` in seconds."""
    ours, theirs = pair()
    parent = os.getpid()
    kernel_pid = os.fork()
    if kernel_pid == 0:
        ours.close()
        code = 1
        try:
            code = run_kernel(kernel, theirs, parent)
        finally:
            _leave(code)
    theirs.close()
    from .agent import run_agent

    return asyncio.run(run_agent(ours, kernel_pid, worker_id=worker_id, secret=secret, url=url, lease=lease))


def run_kernel(kernel: WorkerKernel, sock: socket.socket, parent: int) -> int:
    """In the kernel's process: serve until the agent is gone."""
    os.setsid()  # a group of its own: an interrupt reaches the kernel's children, and not the agent
    die_with_parent()
    if os.getppid() != parent:
        _leave(1)
    reseed()
    kernel.attach(Pipe(sock))
    return asyncio.run(_serve(kernel))


async def _serve(kernel: WorkerKernel) -> int:
    from .cell import CellRunner
    from .kernel import serve

    asyncio.get_running_loop().set_exception_handler(None)
    runner = CellRunner(kernel)
    kernel.hello()
    try:
        await serve(kernel, runner)
    except (OSError, EOFError):
        pass  # the agent is gone: nobody is left to tell
    return 0


def reseed() -> None:
    """Two forks of one process must not draw the same numbers."""
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def die_with_parent() -> None:
    """Where the system can do it: be killed when the parent ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _leave(code: int) -> None:
    """End a forked process: atexit handlers belong to the zygote, output does not."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads it any more
    os._exit(code)
