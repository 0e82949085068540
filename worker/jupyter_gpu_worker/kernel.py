"""The kernel of a worker: ipykernel's own, on a socket to the agent instead of ZMQ."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import zmq
from ipykernel.ipkernel import IPythonKernel
from ipykernel.jsonutil import json_clean
from jupyter_client.session import DELIM, Session
from traitlets import Any as AnyTrait
from traitlets.config import Config

from jupyter_gpu.wire.codec import decode, encode
from jupyter_gpu.wire.messages import AnyMessage, Jupyter, KernelHello, Message

from . import versions
from .pipe import ASSIGN, PAYLOAD, Frame, Pipe
from .streams import DirectPublisher, Flusher, PromptStream

_Frame: Any = zmq.Frame  # type: ignore[attr-defined]  # pyzmq exports it without saying so

#: Messages about a request that ``CellDone`` tells: not sent.
_SILENT = (b".status", b".execute_input")


class Outlet:
    """What ipykernel takes for a ZMQ socket: sends go to the agent."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.pipe: Pipe | None = None
        self.on_reply: Any = None

    def send_multipart(self, parts: Sequence[Any], *args: Any, **kwargs: Any) -> None:
        if self.pipe is None or (self.channel == "iopub" and parts[0].endswith(_SILENT)):
            return
        at = list(parts).index(DELIM)
        body = [p.bytes if isinstance(p, _Frame) else p for p in parts[at + 2 :]]
        if self.on_reply is not None and self.on_reply(body):
            return
        self.pipe.send(encode(Jupyter(channel=self.channel), body))

    def send(self, part: Any, *args: Any, **kwargs: Any) -> None:
        """ZMQ's single-part send: nothing of ipykernel's needs it here."""


class _NoChannelThread:
    """ipykernel asks which thread is the main one."""

    parent_thread = threading.main_thread()

    def __bool__(self) -> bool:
        return False


class WorkerKernel(IPythonKernel):  # type: ignore[misc]
    """An ``IPythonKernel`` that is built before the fork, and given its pipe after it."""

    shell_stream = AnyTrait()
    control_stream = AnyTrait()
    stdin_socket = AnyTrait()
    debugpy_stream = AnyTrait()

    def __init__(self, **kwargs: Any) -> None:
        self.interrupted = False  #: an interrupt came while no code of the person's ran
        self.in_user_code = False
        super().__init__(**kwargs)
        self._execute_sleep = 0
        self.shell_channel_thread = _NoChannelThread()

    @property
    def _supports_kernel_subshells(self) -> bool:
        return False

    # ------------------------------------------------------------ after the fork

    def attach(self, pipe: Pipe) -> None:
        """Use ``pipe`` from here on; the calling thread is the main one."""
        self.pipe = pipe
        self.stash: deque[Frame] = deque()
        for outlet in (self.iopub_socket, self.shell_stream, self.stdin_socket):
            outlet.pipe = pipe
        self.session.pid = os.getpid()
        self._shell_parent.set({})
        self._shell_parent_ident.set(b"")
        publisher = DirectPublisher(self.iopub_socket.send_multipart)
        self.iopub_thread = publisher
        flusher = Flusher()
        sys.stdout.flush()
        sys.stderr.flush()
        for name in ("stdout", "stderr"):
            setattr(sys, name, PromptStream(self.session, publisher, name, flusher, pipe.critical))
        self._stdout, self._stderr = sys.stdout, sys.stderr
        self.displayhook_parent = None
        pipe.critical.on_leave = self._left_critical
        signal.signal(signal.SIGINT, self._on_interrupt)

    def tell(self, message: Message, buffers: Sequence[Any] = ()) -> None:
        """Send a message to the client."""
        self.pipe.send(encode(message, buffers))

    def hello(self) -> None:
        self.tell(KernelHello(pid=os.getpid(), versions=versions.here(), cwd=os.getcwd()))

    # ------------------------------------------------------------ interrupts

    def _on_interrupt(self, signum: int, frame: Any) -> None:
        if not self.in_user_code or self.pipe.critical.depth:
            self.interrupted = True  # raised when that is done, or told when the cell begins
        else:
            raise KeyboardInterrupt

    def _left_critical(self) -> None:
        if self.interrupted and self.in_user_code:
            self.interrupted = False
            raise KeyboardInterrupt

    def pre_handler_hook(self) -> None:
        """Overridden: interrupts are let through by ``do_execute`` alone, where code of the person's runs."""

    def post_handler_hook(self) -> None:
        """See ``pre_handler_hook``."""

    @contextlib.contextmanager
    def _cancel_on_sigint(self, future: asyncio.Future[Any]) -> Any:
        """Overridden: a cell that awaits is cancelled, as in every ipykernel; here it is remembered why."""

        def cancel(signum: int, frame: Any) -> None:
            self.cancelled = True
            future.get_loop().call_soon_threadsafe(future.cancel)

        before = signal.signal(signal.SIGINT, cancel)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    async def do_execute(self, *args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        self.cancelled = False
        try:
            try:
                self.in_user_code = True
                reply = await super().do_execute(*args, **kwargs)
                if self.cancelled and reply.get("ename") == "CancelledError":
                    # To the person it is what the stop button always raises.
                    lines = [line.replace("CancelledError", "KeyboardInterrupt") for line in reply["traceback"]]
                    reply.update(ename="KeyboardInterrupt", traceback=lines)
            finally:
                self.in_user_code = False
                self.seconds = time.perf_counter() - began
                # A cell may have changed it, and the next cell must be stoppable.
                signal.signal(signal.SIGINT, self._on_interrupt)
        except KeyboardInterrupt:  # between the person's code and ours
            reply = {
                "status": "error",
                "ename": "KeyboardInterrupt",
                "evalue": "",
                "traceback": [],
                "user_expressions": {},
                "payload": [],
                "execution_count": self.execution_count,
            }
        return reply

    # ------------------------------------------------------------ input

    def _input_request(self, prompt: Any, ident: Any, parent: Any, password: bool = False) -> str:
        sys.stdout.flush()
        sys.stderr.flush()
        content = json_clean({"prompt": str(prompt), "password": password})
        self.session.send(self.stdin_socket, "input_request", content, parent, ident=ident)
        try:
            body = self.wait_for(lambda m, b: b if isinstance(m, Jupyter) and m.channel == "stdin" else None)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Interrupted by user") from None
        value = str(json.loads(bytes(body[3])).get("value", ""))
        if value == "\x04":
            raise EOFError
        return value

    def wait_for(self, wanted: Any) -> Any:
        """Block the main thread until ``wanted(message, buffers)`` gives something; all else waits for the loop."""
        while True:
            for frame in self.pipe.receive(block=True):
                if frame[0] == PAYLOAD:
                    message, buffers = decode(frame[1])
                    if (found := wanted(message, buffers)) is not None:
                        return found
                self.stash.append(frame)


def build() -> WorkerKernel:
    """A kernel with its shell, complete but for the pipe: what the zygote makes once, before it forks."""
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # or debugpy warns of frozen modules, in the person's cell
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    config = Config()
    config.HistoryManager.enabled = False  # its file belongs to the notebook's own machine; and no thread before a fork
    config.InteractiveShell.cache_size = 1000
    session = Session(config=config, key=b"", username="remote")
    kernel: WorkerKernel = WorkerKernel.instance(
        config=config,
        session=session,
        shell_stream=Outlet("shell"),
        stdin_socket=Outlet("stdin"),
        iopub_socket=Outlet("iopub"),
        user_ns={},
        log=logging.getLogger("jupyter_gpu_worker.kernel"),
    )
    if "" not in sys.path:
        sys.path.insert(0, "")
    return kernel


async def serve(kernel: WorkerKernel, handle: Any) -> None:
    """Feed frames to ``handle(message, buffers)`` (async) one after the other until the agent is gone; comm messages are not held up
    by a cell that awaits."""
    from tornado.ioloop import IOLoop

    kernel.io_loop = IOLoop.current()
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    queue: asyncio.Queue[tuple[AnyMessage, list[memoryview]]] = asyncio.Queue()

    def take(frames: Sequence[Frame]) -> None:
        for kind, data in frames:
            message, buffers = decode(data)
            if kind == ASSIGN:
                handle.assign(message)
            elif isinstance(message, Jupyter) and message.channel == "shell":
                loop.create_task(dispatch(kernel, buffers))
            else:
                queue.put_nowait((message, buffers))

    def readable() -> None:
        try:
            take(kernel.pipe.receive(block=False))
        except EOFError:
            if not ended.done():
                ended.set_result(None)

    def unstash() -> None:
        while kernel.stash:
            take([kernel.stash.popleft()])

    async def work() -> None:
        while True:
            message, buffers = await queue.get()
            await handle(message, buffers)
            unstash()

    loop.add_reader(kernel.pipe.sock, readable)
    worker = loop.create_task(work())
    await asyncio.wait([ended, worker], return_when=asyncio.FIRST_COMPLETED)
    worker.cancel()
    if worker.done() and not worker.cancelled():
        worker.result()


async def dispatch(kernel: WorkerKernel, parts: Sequence[memoryview]) -> None:
    """Let ipykernel handle a message of the shell channel: ``parts`` are its four JSON parts and its buffers."""
    frames = [_Frame(DELIM), _Frame(b""), *(_Frame(bytes(p)) for p in parts)]
    await kernel.shell_main(None, frames)
