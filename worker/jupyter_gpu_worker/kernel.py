"""The kernel of a worker: ipykernel's own, on a socket to the agent instead of ZMQ."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

import ipykernel
from ipykernel.ipkernel import IPythonKernel
from ipykernel.jsonutil import json_clean
from IPython.core.profiledir import ProfileDir
from jupyter_client.session import DELIM, Session
from traitlets import Any as AnyTrait
from traitlets import Type
from traitlets.config import Config

from jupyter_gpu.sync.pickler import ReductionInterrupted, reducing
from jupyter_gpu.transport.ring import Ring
from jupyter_gpu.transport.ring import make as make_ring
from jupyter_gpu.wire.codec import encode
from jupyter_gpu.wire.messages import AnyMessage, Assign, Chunk, InputOver, Jupyter, KernelHello, Message

from . import shared, versions
from .chunks import Receiving, Sending
from .outlet import NoChannelThread, Outlet, ZmqFrame
from .pipe import ASSIGN, PAYLOAD, Pipe
from .shell import ZMQInteractiveShell, place_of
from .streams import DirectPublisher, Flusher, PromptStream

T = TypeVar("T")
Received = tuple[int, AnyMessage, list[memoryview]]

#: Seconds after which an interrupt is repeated that hit where Python ignores exceptions.
_AGAIN = 0.01


class WorkerKernel(IPythonKernel):  # type: ignore[misc]
    """An ``IPythonKernel`` that is built before the fork, and given its pipe after it."""

    shell_class = Type(ZMQInteractiveShell)
    shell_stream = AnyTrait()
    control_stream = AnyTrait()
    stdin_socket = AnyTrait()
    debugpy_stream = AnyTrait()

    def __init__(self, **kwargs: Any) -> None:
        self.interrupted = False  #: an interrupt came while no code of the person's ran
        self.in_user_code = False
        super().__init__(**kwargs)
        self._execute_sleep = 0
        self.shell_channel_thread = NoChannelThread()

    @property
    def _supports_kernel_subshells(self) -> bool:
        return False

    # ------------------------------------------------------------ after the fork

    def attach(self, pipe: Pipe, folder: str = "") -> None:
        """Use ``pipe`` from here on; the calling thread is the main one. ``folder`` is for files of this kernel's own."""
        self.pipe = pipe
        self.folder = folder
        self.stash: deque[Received] = deque()
        self.ring: Ring | None = None
        self.shared = shared.from_environment(os.environ, self.log)
        self.sending = Sending(self)
        self.receiving = Receiving(self)
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
        self.streams = {"stdout": sys.stdout, "stderr": sys.stderr}

        def flush() -> None:
            for stream in self.streams.values():
                stream.flush()

        self.iopub_socket.before = flush
        if folder:
            self.shell.ipython_dir = folder
            self.shell.profile_dir = ProfileDir.create_profile_dir_by_name(folder, "default")
        self._report_ignored = sys.unraisablehook
        sys.unraisablehook = self._ignored
        pipe.critical.on_leave = self._left_critical
        pipe.watch_signals()
        signal.signal(signal.SIGINT, self._on_interrupt)

    def tell(self, message: Message, buffers: Sequence[Any] = ()) -> None:
        """Send a message to the client."""
        if isinstance(message, Chunk):
            self.sending.send(message.digest, buffers[0])
        else:
            self.pipe.send(encode(message, buffers))

    def hello(self) -> None:
        self.ring, offer = make_ring() or (None, None)
        self.tell(KernelHello(pid=os.getpid(), versions=versions.here(), cwd=os.getcwd(), ring=offer, shared=self.shared is not None))

    # ------------------------------------------------------------ interrupts

    def _on_interrupt(self, signum: int, frame: Any) -> None:
        if os.getpid() != self.session.pid:
            # A child between fork and exec: unwinding would make a second kernel of it, on the same pipe.
            os._exit(128 + signum)
        if reducing.depth and not self.in_user_code and not self.pipe.critical.depth:
            raise ReductionInterrupted  # ends the one value, which stays here; the others are collected
        if not self.in_user_code or self.pipe.critical.depth:
            self.interrupted = True  # raised when that is done, or told when the cell begins
        else:
            raise KeyboardInterrupt

    def _left_critical(self) -> None:
        if self.interrupted and self.in_user_code:
            self.interrupted = False
            raise KeyboardInterrupt

    def _ignored(self, found: Any) -> None:
        """Python drops exceptions of finalizers and fork hooks. A press of the stop button must not be lost that way."""
        if found.exc_type is not KeyboardInterrupt or os.getpid() != self.session.pid:
            self._report_ignored(found)
        elif self.in_user_code:
            _press_again()  # when that callback is over

    @contextmanager
    def _cancel_on_sigint(self, future: asyncio.Future[Any]) -> Iterator[None]:
        """Overridden: ipykernel cancels a cell that awaits. Here that arrives as ``KeyboardInterrupt``, and code of the cell that runs
        at this moment is interrupted on the spot; code of the event loop is not, since that would lose the task that it works on."""

        def interrupt(signum: int, frame: Any) -> None:
            where = place_of(frame)
            if where == "code":
                self._on_interrupt(signum, frame)
            elif where == "entering":
                _press_again()
            else:
                cell = self.shell.running
                if cell is not None:
                    cell.interrupted = True
                future.get_loop().call_soon_threadsafe(future.cancel if cell is None else partial(cell.cancel, future))

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def user_code(self) -> Iterator[None]:
        """Interrupts are raised in here."""
        before, self.in_user_code = self.in_user_code, True
        try:
            yield
        finally:
            self.in_user_code = before

    def pre_handler_hook(self) -> None:
        """Overridden: interrupts are let through by ``do_execute`` alone, where code of the person's runs."""

    def post_handler_hook(self) -> None:
        """See ``pre_handler_hook``."""

    async def do_execute(self, *args: Any, **kwargs: Any) -> Any:
        for name, stream in self.streams.items():
            if getattr(sys, name, None) is None:  # the shell could not even tell of it
                setattr(sys, name, stream)
        began = time.perf_counter()
        self.shell.display_failure = None
        try:
            try:
                with self.user_code():
                    reply = await super().do_execute(*args, **kwargs)
                if reply["status"] == "error" and self.shell.display_failure is not None and reply["ename"] == "NoneType":
                    reply["ename"], reply["evalue"] = self.shell.display_failure
            finally:
                self.seconds = time.perf_counter() - began
                # A cell may have changed it, and the next cell must be stoppable.
                signal.signal(signal.SIGINT, self._on_interrupt)
        except KeyboardInterrupt:  # between the person's code and ours
            reply = interrupted_reply()
        return reply

    # ------------------------------------------------------------ input

    def _input_request(self, prompt: Any, ident: Any, parent: Any, password: bool = False) -> str:
        sys.stdout.flush()
        sys.stderr.flush()
        content = json_clean({"prompt": str(prompt), "password": password})
        question = self.session.msg("input_request", content, parent)
        request = question["header"]["msg_id"]

        def answer(message: AnyMessage, parts: list[memoryview]) -> Sequence[memoryview] | None:
            if not isinstance(message, Jupyter) or message.channel != "stdin":
                return None
            return parts if json.loads(bytes(parts[1])).get("msg_id") in (request, None) else None  # one may come too late for its request

        try:
            self.session.send(self.stdin_socket, question, ident=ident)
            body = self.wait_for(answer)
        except KeyboardInterrupt:
            self.tell(InputOver(request=request))
            raise KeyboardInterrupt("Interrupted by user") from None
        value = str(json.loads(bytes(body[3])).get("value", ""))
        if value == "\x04":
            raise EOFError
        return value

    def wait_for(self, wanted: Callable[[AnyMessage, list[memoryview]], T | None]) -> T:
        """Block the main thread until ``wanted(message, buffers)`` gives something; all else waits for the loop."""
        found: T | None = None
        while found is None:
            for frame in self.pipe.receive(block=True):
                received = self.receiving.take(frame[1])
                if received is None:
                    continue
                if found is None and frame[0] == PAYLOAD and (found := wanted(*received)) is not None:
                    continue
                self.stash.append((frame[0], *received))
        return found


def _press_again() -> None:
    """SIGINT once more, a little later."""
    again = threading.Timer(_AGAIN, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    again.daemon = True
    again.start()


def interrupted_reply(evalue: str = "") -> dict[str, Any]:
    """The execute_reply of a cell whose code was not reached, or just left, by an interrupt."""
    text = f"\x1b[0;31mKeyboardInterrupt\x1b[0m: {evalue}" if evalue else "\x1b[0;31mKeyboardInterrupt\x1b[0m"
    found = {"status": "error", "ename": "KeyboardInterrupt", "evalue": evalue, "traceback": [text]}
    return {**found, "user_expressions": {}, "payload": []}


def failed_reply() -> dict[str, Any]:
    """The execute_reply of a cell that the shell itself could not run."""
    text = "the remote shell failed while it ran this cell, which may have changed the shell; the log of the worker says how"
    return {**interrupted_reply(), "ename": "RuntimeError", "evalue": text, "traceback": [f"\x1b[0;31mRuntimeError\x1b[0m: {text}"]}


def build(folder: str = "") -> WorkerKernel:
    """A kernel with its shell, complete but for the pipe: what the zygote makes once, before it forks. ``folder``: for files that the
    shell wants to have (none: where a person's IPython has its own)."""
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # or debugpy warns of frozen modules, in the person's cell
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    config = Config()
    config.HistoryManager.enabled = False  # its file belongs to the notebook's own machine; and no thread before a fork
    config.IPKernelApp.connection_file = ""  # its being there tells libraries (tqdm) that this is a notebook
    if folder:
        config.InteractiveShell.ipython_dir = os.path.join(folder, "ipython")
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


class Handler(Protocol):
    """What takes the client's messages."""

    def assign(self, message: AnyMessage) -> None: ...
    async def __call__(self, message: AnyMessage, buffers: list[memoryview]) -> None: ...


async def serve(kernel: WorkerKernel, handle: Handler) -> Assign | None:
    """Feed frames to ``handle(message, buffers)`` (async) one after the other until the agent is gone; comm messages are not held up
    by a cell that awaits. Returns the assignment if it is one for a whole kernel, of which nothing here is any business."""
    from tornado.ioloop import IOLoop

    kernel.io_loop = IOLoop.current()
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Assign | None] = loop.create_future()
    tasks: set[asyncio.Task[None]] = set()  # the loop itself holds them weakly
    queue: asyncio.Queue[tuple[AnyMessage, list[memoryview]]] = asyncio.Queue()

    def take(kind: int, message: AnyMessage, buffers: list[memoryview]) -> None:
        if isinstance(message, Assign) and message.kernel is not None:
            ended.set_result(message)
        elif kind == ASSIGN:
            handle.assign(message)
        elif isinstance(message, Jupyter) and message.channel == "shell":
            tasks.add(task := loop.create_task(dispatch_late(kernel, buffers)))
            task.add_done_callback(tasks.discard)
        else:
            queue.put_nowait((message, buffers))

    def readable() -> None:
        try:
            for kind, data in kernel.pipe.receive(block=False):
                if (received := kernel.receiving.take(data)) is not None:
                    take(kind, *received)
        except EOFError:
            if not ended.done():
                ended.set_result(None)

    def unstash() -> None:
        while kernel.stash:
            take(*kernel.stash.popleft())

    async def work() -> None:
        while True:
            message, buffers = await queue.get()
            await handle(message, buffers)
            unstash()

    loop.add_reader(kernel.pipe.sock, readable)
    loop.add_reader(kernel.pipe.wake, kernel.pipe.woken)
    worker = loop.create_task(work())
    waiting: list[asyncio.Future[Any]] = [ended, worker]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    worker.cancel()
    loop.remove_reader(kernel.pipe.sock)
    loop.remove_reader(kernel.pipe.wake)
    if worker.done() and not worker.cancelled():
        worker.result()
    return ended.result() if ended.done() else None


async def dispatch(kernel: WorkerKernel, parts: Sequence[memoryview]) -> None:
    """Let ipykernel handle a message of the shell channel: ``parts`` are its four JSON parts and its buffers."""
    await kernel.shell_main(None, _zmq_frames(parts))


def _zmq_frames(parts: Sequence[memoryview]) -> list[Any]:
    return [ZmqFrame(DELIM), ZmqFrame(b""), *(ZmqFrame(p) for p in parts)]


async def dispatch_late(kernel: WorkerKernel, parts: Sequence[memoryview]) -> None:
    """The same for a message of a widget's: callbacks of the person's run, which can be interrupted too."""
    try:
        with kernel.user_code():
            if ipykernel.version_info[:2] < (7, 4):  # which would let it wait for a cell that awaits it
                await kernel.dispatch_shell(_zmq_frames(parts), subshell_id=None)
            else:
                await dispatch(kernel, parts)
    except KeyboardInterrupt:
        kernel.log.warning("a callback was interrupted")
