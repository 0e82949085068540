"""A worker's kernel as a whole one: ipykernel's own application with all of its threads, on ZMQ sockets in the worker's folder."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any, NoReturn

from ipykernel.kernelapp import IPKernelApp

from jupyter_gpu.transport.sockets import zmq
from jupyter_gpu.wire.messages import Assign, KernelTerms

from . import moving
from .kernel import WorkerKernel

#: Channel -> number in its socket's name. The heartbeat is answered where the client is.
PORTS = {"shell": 1, "iopub": 2, "stdin": 3, "control": 4, "hb": 5}
#: Name of the file in which a kernel says why it ends, where an exit code is all that its agent would hear.
WHY = "why"
#: Messages on the way to the agent beyond which whoever publishes waits.
_AHEAD = 1000


def connection(folder: str, terms: KernelTerms) -> dict[str, Any]:
    """What a connection file says."""
    ports = {f"{channel}_port": number for channel, number in PORTS.items()}
    return {
        "transport": "ipc",
        "ip": os.path.join(folder, "k"),
        "key": terms.key,
        "signature_scheme": terms.scheme,
        "kernel_name": "",
        **ports,
    }


def write_connection(folder: str, terms: KernelTerms) -> str:
    """Path of the connection file, which nobody else can read."""
    path = os.path.join(folder, "connection.json")
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(connection(folder, terms), file)
    return path


class WholeKernelApp(IPKernelApp):  # type: ignore[misc]
    """ipykernel's own; what it publishes waits for the agent instead of being dropped."""

    name = "ipython-kernel"

    def init_iopub(self, context: Any) -> None:
        super().init_iopub(context)
        socket = self.iopub_thread.socket
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.setsockopt(zmq.SNDHWM, _AHEAD)

    def init_heartbeat(self) -> None:
        """Nobody would listen: the client's end answers."""
        self.heartbeat = None

    def init_poller(self) -> None:
        if sys.platform != "linux":  # where the system ends the kernel with its agent
            super().init_poller()

    def write_connection_file(self, **kwargs: Any) -> None:
        """It is there."""


def become(kernel: WorkerKernel, assign: Assign, folder: str) -> int:
    """Be the kernel of this session until it is shut down; the exit code. ``kernel`` is the one that stood by."""
    assert assign.kernel is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    _forget(kernel)
    os.environ.update(assign.env)
    if assign.cwd:
        try:
            os.chdir(assign.cwd)
        except OSError as error:
            kernel.log.warning("cannot change to %s: %s", assign.cwd, error)
    path = write_connection(folder, assign.kernel)
    if assign.kernel.argv:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _execute([part.replace("{connection_file}", path) for part in assign.kernel.argv], folder)
    asyncio.set_event_loop(asyncio.new_event_loop())
    app = WholeKernelApp.instance(parent_handle=os.getppid())
    app.initialize(["-f", path, *assign.kernel.arguments])
    moving.install(app.kernel)
    app.start()
    return 0


def _execute(command: list[str], folder: str) -> NoReturn:
    try:
        os.execvp(command[0], command)
    except OSError as error:
        with open(os.path.join(folder, WHY), "w") as file:
            file.write(f"{command[0]} cannot be started: {error.strerror}")
        os._exit(127)  # as a shell says it


def _forget(kernel: WorkerKernel) -> None:
    """The process is as if no kernel had been built in it; what was imported stays."""
    for stream in kernel.streams.values():
        stream.close()  # gives the file descriptors back
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    sys.displayhook, sys.excepthook, sys.unraisablehook = sys.__displayhook__, sys.__excepthook__, sys.__unraisablehook__
    shell = type(kernel.shell)
    shell.clear_instance()
    type(kernel).clear_instance()
