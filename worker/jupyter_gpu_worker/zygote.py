"""The process from which workers are forked: everything imported, the kernel built, no thread, no CUDA.

Control is one JSON object per line: requests on stdin, events on stdout. Libraries that take long to import are loaded by a second
generation, forked from the first, which serves meanwhile.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import platform
import select
import signal
import threading
from typing import Any

from .kernel import WorkerKernel, build
from .main import die_with_parent, run_worker


class Zygote:
    """One generation. ``out`` and ``commands`` are file descriptors."""

    def __init__(self, kernel: WorkerKernel, commands: int, out: int) -> None:
        self.kernel = kernel
        self.commands = commands
        self.out = out
        self.children: dict[int, str] = {}
        self.next: _Next | None = None
        self._buffer = b""
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def say(self, **event: Any) -> None:
        os.write(self.out, json.dumps(event).encode() + b"\n")  # one write: two generations share the pipe

    def serve(self) -> None:
        """Until the commands end."""
        while True:
            ready, _, _ = select.select([self.commands, self._wake_r], [], [])
            if self._wake_r in ready:
                os.read(self._wake_r, 4096)
                self.reap()
            if self.commands in ready:
                data = os.read(self.commands, 65536)
                if not data:
                    return
                *lines, self._buffer = (self._buffer + data).split(b"\n")
                for line in lines:
                    if not self.obey(json.loads(line)):
                        return

    def obey(self, command: dict[str, Any]) -> bool:
        operation = command["op"]
        if operation == "exit":
            return False
        if operation == "fork":
            if self.next is not None and self.next.ready:
                os.write(self.next.commands, json.dumps(command).encode() + b"\n")
            else:
                self.fork(command)
        elif operation == "preload" and self.next is None:
            self.preload(command["modules"])
        return True

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if self.next is not None and pid == self.next.pid:
                os.close(self.next.commands)
                self.next = None  # this generation goes on alone
                continue
            worker_id = self.children.pop(pid, "")
            self.say(event="exited", worker_id=worker_id, pid=pid, code=os.waitstatus_to_exitcode(status))

    # ------------------------------------------------------------ forks

    def fork(self, command: dict[str, Any]) -> None:
        worker_id = command["worker_id"]
        if threading.active_count() != 1:
            self.say(event="failed", worker_id=worker_id, reason=f"threads run in the zygote: {[t.name for t in threading.enumerate()]}")
            return
        try:
            pid = os.fork()
        except OSError as error:
            self.say(event="failed", worker_id=worker_id, reason=f"cannot fork: {error.strerror}")
            return
        if pid == 0:
            self._become_worker(command)
        self.children[pid] = worker_id
        self.say(event="forked", worker_id=worker_id, pid=pid)

    def _leave_zygote(self) -> None:
        """In a child: nothing of the zygote's is the child's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(self._wake_r)
        os.close(self._wake_w)
        os.close(self.commands)
        if self.next is not None:
            os.close(self.next.commands)

    def _become_worker(self, command: dict[str, Any]) -> None:
        code = 1
        try:
            self._leave_zygote()
            os.close(self.out)
            _normal_priority()
            os.setsid()
            os.environ.update(command.get("env", {}))
            code = run_worker(
                self.kernel,
                worker_id=command["worker_id"],
                secret=command["secret"],
                url=command["url"],
                lease=float(command.get("lease", 300)),
            )
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)

    def preload(self, modules: list[str]) -> None:
        """Fork the generation that imports ``modules``."""
        read, write = os.pipe()
        ready_r, ready_w = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(write)
            os.close(ready_r)
            out = self.out
            self._leave_zygote()
            code = 1
            try:
                die_with_parent()  # it may be in the middle of an import, and would end only after it
                _preload(self.kernel, modules, read, out, ready_w)
                code = 0
            finally:
                os._exit(code)
        os.close(read)
        os.close(ready_w)
        self.next = _Next(pid, write, ready_r)


class _Next:
    """The generation that is loading, or has loaded."""

    def __init__(self, pid: int, commands: int, signal_fd: int) -> None:
        self.pid = pid
        self.commands = commands
        self._signal: int | None = signal_fd
        self._ready = False

    @property
    def ready(self) -> bool:
        if self._signal is not None and select.select([self._signal], [], [], 0)[0]:
            self._ready = os.read(self._signal, 1) == b"1"
            os.close(self._signal)
            self._signal = None
        return self._ready


def _preload(kernel: WorkerKernel, modules: list[str], commands: int, out: int, ready: int) -> None:
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # the first generation goes first
    loaded, skipped = [], {}
    for name in modules:
        try:
            if importlib.util.find_spec(name) is None:
                skipped[name] = "not installed"
                continue
            importlib.import_module(name)
            loaded.append(name)
        except Exception as error:  # a library that is broken here is the business of the cell that imports it
            skipped[name] = f"{type(error).__name__}: {error}"
    _normal_priority()
    _settle()
    zygote = Zygote(kernel, commands, out)
    zygote.say(event="preloaded", modules=loaded, skipped=skipped)
    os.write(ready, b"1")
    os.close(ready)
    zygote.serve()


def _normal_priority() -> None:
    if hasattr(os, "SCHED_IDLE") and os.sched_getscheduler(0) == os.SCHED_IDLE:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _settle() -> None:
    """What exists now is shared with all forks: keep the collector from touching, and so copying, its pages."""
    gc.collect()
    gc.freeze()


#: Imported by a kernel's first moments: better once, here.
_SOON = [
    "jupyter_gpu_worker.agent",
    "jupyter_gpu_worker.cell",
    "asyncio",
    "tornado.platform.asyncio",
    "IPython.core.completer",
    "IPython.core.ultratb",
    "matplotlib_inline",
    "comm",
    "cloudpickle",
    "xxhash",
    "stack_data",
    "pygments.lexers.python",
    "pygments.formatters.terminal256",
    "json",
    "concurrent.futures.thread",
    "tempfile",
    "inspect",
]


def main() -> None:
    os.environ.pop("PYTEST_CURRENT_TEST", None)  # ipykernel captures no file descriptors where it is set
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    commands, out = os.dup(0), os.dup(1)
    for fd in (commands, out):
        os.set_inheritable(fd, False)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)  # what libraries print while they are imported belongs into the log
    os.close(null)
    kernel = build()
    for name in _SOON:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # optional; the kernel does without it as well
    _settle()
    zygote = Zygote(kernel, commands, out)
    zygote.say(event="ready", pid=os.getpid(), python=platform.python_version())
    zygote.serve()


if __name__ == "__main__":
    main()
