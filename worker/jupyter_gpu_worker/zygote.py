"""The process from which workers are forked: everything imported, the kernel built, no thread, no CUDA.

Control is one JSON object per line: requests on stdin, events on stdout. Libraries that take long to import are loaded by a second
generation, forked from the first, which serves meanwhile and passes on what the second one says.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import shutil
import signal
import tempfile
import threading
from dataclasses import dataclass
from typing import Any, NoReturn

from .kernel import WorkerKernel, build
from .main import run_worker
from .preload import load, low_priority, normal_priority, settle
from .processes import adopt_orphans, die_with, kill_children


class Lines:
    """Cuts what comes from a file descriptor into lines of JSON."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rest = b""

    def read(self) -> list[Any] | None:
        """What is there; what is no JSON becomes None. None: it has ended."""
        data = os.read(self.fd, 65536)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [_parse(line) for line in lines if line.strip()]


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


@dataclass
class _Worker:
    worker_id: str
    folder: str  #: with its files, which go when it does


@dataclass
class _Next:
    """The generation that is loading, or has loaded."""

    pid: int
    commands: int
    events: Lines
    ready: bool = False

    def close(self) -> None:
        os.close(self.commands)
        os.close(self.events.fd)


class Zygote:
    """One generation. ``out`` and ``commands`` are file descriptors; ``folder`` is where workers get folders of their own."""

    def __init__(self, kernel: WorkerKernel, commands: int, out: int, folder: str) -> None:
        self.kernel = kernel
        self.commands = Lines(commands)
        self.out = out
        self.folder = folder
        self.workers: dict[int, _Worker] = {}
        self.next: _Next | None = None
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        adopt_orphans()

    def say(self, **event: Any) -> None:
        data = json.dumps(event).encode() + b"\n"
        while data:
            data = data[os.write(self.out, data) :]

    def serve(self) -> None:
        """Until the commands end, or nobody hears the events."""
        with contextlib.suppress(BrokenPipeError):
            while True:
                watched = [self.commands.fd, self._wake_r, *([self.next.events.fd] if self.next is not None else [])]
                ready, _, _ = select.select(watched, [], [])
                if self.next is not None and self.next.events.fd in ready:
                    self._pass_on(self.next)
                if self._wake_r in ready:
                    os.read(self._wake_r, 4096)
                    self.reap()
                if self.commands.fd in ready:
                    commands = self.commands.read()
                    if commands is None or not all(self.obey(c) for c in commands):
                        return

    def obey(self, command: Any) -> bool:
        """False: end."""
        operation = command.get("op") if isinstance(command, dict) else None
        if operation == "exit":
            return False
        if operation == "fork":
            self._fork_somewhere(command)
        elif operation == "preload":
            if self.next is None:
                self.preload([str(m) for m in command.get("modules", ())])
        else:
            self.say(event="failed", worker_id="", reason=f"no such command: {str(command)[:200]}")
        return True

    # ------------------------------------------------------------ ends

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if self.next is not None and pid == self.next.pid:
                self._lost_next(self.next)
            elif (worker := self.workers.pop(pid, None)) is not None:
                # If the agent was killed, what its kernel had started is ours now.
                kill_children(spare={*self.workers, *([self.next.pid] if self.next is not None else [])})
                shutil.rmtree(worker.folder, ignore_errors=True)
                self.say(event="exited", worker_id=worker.worker_id, pid=pid, code=os.waitstatus_to_exitcode(status))

    def _pass_on(self, following: _Next) -> bool:
        """False: there is no more."""
        events = following.events.read()
        for event in events or ():
            kind = event["event"]
            if kind == "preloaded":
                following.ready = True
            elif kind == "forked":  # remembered here too: they are ours if that generation ends
                self.workers[event["pid"]] = _Worker(event["worker_id"], event.pop("folder"))
            elif kind == "exited":
                self.workers.pop(event["pid"], None)
            self.say(**event)
        return events is not None

    def _lost_next(self, following: _Next) -> None:
        """The second generation died: this one goes on alone, with its workers."""
        while select.select([following.events.fd], [], [], 0)[0] and self._pass_on(following):
            pass
        self.next = None
        following.close()

    # ------------------------------------------------------------ forks

    def _fork_somewhere(self, command: dict[str, Any]) -> None:
        if missing := {"worker_id", "secret", "url"} - command.keys():
            self.say(event="failed", worker_id=str(command.get("worker_id", "")), reason=f"fork needs {', '.join(sorted(missing))}")
            return
        if self.next is not None and self.next.ready:
            try:
                os.write(self.next.commands, json.dumps(command).encode() + b"\n")
                return
            except BrokenPipeError:
                pass  # it has just died: SIGCHLD is on its way
        self.fork(command)

    def fork(self, command: dict[str, Any]) -> None:
        worker_id = command["worker_id"]
        if threading.active_count() != 1:
            self.say(event="failed", worker_id=worker_id, reason=f"threads run in the zygote: {[t.name for t in threading.enumerate()]}")
            return
        folder = ""
        try:
            if not os.path.isdir(self.folder):  # the last worker of a generation that died took it along
                self.folder = tempfile.mkdtemp(prefix="jupyter-gpu-")
            folder = tempfile.mkdtemp(dir=self.folder)
            pid = os.fork()
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            self.say(event="failed", worker_id=worker_id, reason=f"cannot fork: {error.strerror}")
            return
        if pid == 0:
            self._become_worker(command, folder)
        self.workers[pid] = _Worker(worker_id, folder)
        self.say(event="forked", worker_id=worker_id, pid=pid, **self._details(folder))

    def _details(self, folder: str) -> dict[str, Any]:
        return {}

    def leave_zygote(self) -> None:
        """In a child: nothing of the zygote's is the child's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self._wake_r)
        os.close(self._wake_w)
        os.close(self.commands.fd)
        os.close(self.out)
        if self.next is not None:
            self.next.close()

    def _become_worker(self, command: dict[str, Any], folder: str) -> NoReturn:
        code = 1
        zygote = os.getppid()
        try:
            self.leave_zygote()
            normal_priority()
            os.setsid()
            os.environ.update(command.get("env", {}))
            code = run_worker(
                self.kernel,
                worker_id=command["worker_id"],
                secret=command["secret"],
                url=command["url"],
                lease=float(command.get("lease", 300)),
                folder=folder,
            )
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if os.getppid() != zygote:  # then nobody else will
                with contextlib.suppress(OSError):
                    os.rmdir(self.folder)  # fails as long as another worker has its files there
            os._exit(code)

    def preload(self, modules: list[str]) -> None:
        """Fork the generation that imports ``modules``."""
        commands_r, commands_w = os.pipe()
        events_r, events_w = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                die_with(parent)  # it may be in the middle of an import, and would end only after it
                os.close(commands_w)
                os.close(events_r)
                self.leave_zygote()
                low_priority()  # the first generation goes first
                loaded, skipped = load(modules)
                normal_priority()
                settle()
                second = _Second(self.kernel, commands_r, events_w, self.folder)
                second.say(event="preloaded", modules=loaded, skipped=skipped)
                second.serve()
                code = 0
            finally:
                os._exit(code)
        os.close(commands_r)
        os.close(events_w)
        self.next = _Next(pid, commands_w, Lines(events_r))


class _Second(Zygote):
    """Tells the first generation where its workers' files are."""

    def _details(self, folder: str) -> dict[str, Any]:
        return {"folder": folder}


def main() -> None:
    os.environ.pop("PYTEST_CURRENT_TEST", None)  # ipykernel captures no file descriptors where it is set
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    commands, out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)  # what libraries print while they are imported belongs into the log
    os.close(null)
    folder = tempfile.mkdtemp(prefix="jupyter-gpu-")
    try:
        kernel = build(folder)
        shutil.rmtree(os.path.join(folder, "ipython"), ignore_errors=True)  # each worker gets one of its own
        load(SOON)
        settle()
        zygote = Zygote(kernel, commands, out, folder)
        zygote.say(event="ready", pid=os.getpid(), python=platform.python_version())
        zygote.serve()
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(folder)  # workers that live on have their files there, and the last one removes it


#: Imported in a kernel's or an agent's first moments: better once, here.
SOON = [
    "jupyter_gpu_worker.agent",
    "jupyter_gpu_worker.cell",
    "jupyter_gpu_worker.channels",
    "jupyter_gpu_worker.whole",
    "debugpy",
    "ipykernel.debugger",
    "ipykernel.subshell_manager",
    "IPython.core.debugger",
    "IPython.extensions.storemagic",
    "sqlite3",
    "tornado.platform.asyncio",
    "IPython.core.ultratb",
    "cloudpickle",
    "stack_data",
    "pygments.lexers.python",
    "pygments.formatters.terminal256",
    "psutil",
]


if __name__ == "__main__":
    main()
