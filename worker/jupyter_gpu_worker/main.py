"""The life of a forked worker: it forks the kernel, and becomes the agent."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import traceback

from jupyter_gpu.wire.messages import Assign

from .kernel import WorkerKernel, serve
from .pipe import Pipe, pair
from .processes import adopt_orphans, die_with, forget_exit_handlers, leave, reseed, run_exit_handlers


def run_worker(kernel: WorkerKernel, *, worker_id: str, secret: str, url: str, lease: float, folder: str = "") -> int:
    """In the child of the zygote: returns the exit code of the agent. ``lease`` in seconds; ``folder`` is the worker's own, for its
    files; whoever started the worker removes it."""
    ours, theirs = pair()
    parent = os.getpid()
    adopt_orphans()
    kernel_pid = os.fork()
    if kernel_pid == 0:
        code = 1
        try:
            ours.close()
            log = os.dup(2)  # stderr becomes the person's
            code = run_kernel(kernel, theirs, parent, folder)
        except BaseException:
            os.write(log, traceback.format_exc().encode())
            raise
        finally:
            leave(code)
    theirs.close()
    from .agent import run_agent

    return asyncio.run(run_agent(ours, kernel_pid, worker_id=worker_id, secret=secret, url=url, lease=lease, folder=folder))


def log_to(fd: int) -> None:
    """Ours goes to the worker's log: ``sys.stderr`` is the person's, and so is the root logger."""
    logger = logging.getLogger("jupyter_gpu_worker")
    handler = logging.StreamHandler(os.fdopen(fd, "w", buffering=1))
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s %(name)s[{os.getpid()}]: %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False


def run_kernel(kernel: WorkerKernel, sock: socket.socket, parent: int, folder: str = "") -> int:
    """In the kernel's process: serve until the agent is gone."""
    os.setsid()  # a group of its own: an interrupt reaches the kernel's children, and not the agent
    die_with(parent)
    forget_exit_handlers()
    reseed()
    log_to(os.dup(2))
    kernel.attach(Pipe(sock), folder)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    serving = loop.create_task(_serve(kernel))
    assigned: Assign | None = None
    while True:
        try:
            assigned = loop.run_until_complete(serving)
            break
        except (KeyboardInterrupt, SystemExit):
            if serving.done():
                raise
            # It came out of a task of the person's own, which has ended; the loop goes on where it was.
        except RuntimeError:
            if serving.done():
                raise
            break  # exit() in a cell stops the loop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if assigned is not None:
        from .whole import become

        loop.close()
        become(kernel, assigned, folder)
    run_exit_handlers()
    return 0


async def _serve(kernel: WorkerKernel) -> Assign | None:
    """The assignment, if it is one for a whole kernel; else None, when the agent is gone."""
    from .cell import CellRunner

    runner = CellRunner(kernel)
    try:
        kernel.hello()
        return await serve(kernel, runner)
    except (OSError, EOFError):
        return None  # the agent is gone: nobody is left to tell
