"""Workers as processes of this machine, forked from a zygote per interpreter."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Any

from jupyter_gpu.wire.errors import WorkerStartFailed

from ..environment import without_private
from .base import Backend, Checkpoint, WorkerSpec

_log = logging.getLogger(__name__)

#: What notebooks most often import, and what takes long: loaded once, by the zygote, if it is installed.
PRELOAD = [
    "numpy",
    "pandas",
    "torch",
    "matplotlib.pyplot",
    "matplotlib_inline.backend_inline",
    "scipy.sparse",
    "sklearn",
    "sklearn.ensemble",
    "ipywidgets",
    "tqdm",
]
#: Seconds for a process to end by itself.
_GRACE = 5.0


def spawn_zygote(interpreter: str, log: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start a zygote; what it prints goes to ``log``."""
    command, env = [interpreter, "-m", "jupyter_gpu_worker.zygote"], without_private()
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True, env=env)


class Zygote:
    """One zygote process, and the forks that it has to report."""

    def __init__(self, interpreter: str, process: subprocess.Popen[bytes], on_exit: Callable[[str, int], None]) -> None:
        self.interpreter = interpreter
        self.process = process
        self._on_exit = on_exit
        self._waiting: dict[str, asyncio.Future[int]] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.ensure_future(self._read())

    @property
    def alive(self) -> bool:
        return self.process.poll() is None and not self._reader.done()

    def say(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    async def fork(self, spec: WorkerSpec) -> int:
        """Pid of a new worker. Raises ``WorkerStartFailed``."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[spec.worker_id] = future
        try:
            self.say(op="fork", worker_id=spec.worker_id, secret=spec.secret, url=spec.url, env=spec.env, lease=spec.lease)
        except (OSError, ValueError) as error:
            raise WorkerStartFailed(phase="fork", reason=f"the zygote of {self.interpreter} is gone", log=str(error)) from error
        return await future

    async def _read(self) -> None:
        assert self.process.stdout is not None
        reader = asyncio.StreamReader(limit=1 << 20)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), self.process.stdout)
        try:
            while line := await reader.readline():
                try:
                    self._take(json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError):
                    _log.warning("the zygote said %r", line[:200])
        finally:
            transport.close()
            for worker_id, future in self._waiting.items():
                if not future.done():
                    future.set_exception(WorkerStartFailed(phase="fork", reason=f"the zygote of {self.interpreter} ended", log=worker_id))

    def _take(self, event: dict[str, Any]) -> None:
        kind, worker_id = event["event"], event.get("worker_id", "")
        if kind == "ready" and not self._ready.done():
            self._ready.set_result(None)
        elif kind == "forked" and worker_id in self._waiting:
            self._waiting.pop(worker_id).set_result(event["pid"])
        elif kind == "failed" and worker_id in self._waiting:
            self._waiting.pop(worker_id).set_exception(WorkerStartFailed(phase="fork", reason=event["reason"], log=""))
        elif kind == "exited":
            self._on_exit(worker_id, event["code"])
        elif kind == "preloaded":
            _log.info("preloaded %s; skipped %s", event["modules"], event["skipped"])

    async def close(self) -> None:
        """End it. Its workers live on: they belong to their sessions."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            await asyncio.wait_for(asyncio.to_thread(self.process.wait), _GRACE)
        except asyncio.TimeoutError:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
        await asyncio.wait([self._reader], timeout=_GRACE)
        self._reader.cancel()


class ProcessBackend(Backend):
    """``first`` is a zygote of this interpreter that was spawned before all else; ``on_exit(worker_id, code)`` hears of workers that
    end; ``preload`` names modules that zygotes import in the background."""

    def __init__(
        self, log_folder: Path, preload: list[str], on_exit: Callable[[str, int], None], first: subprocess.Popen[bytes] | None = None
    ) -> None:
        self._folder = log_folder
        self._preload = preload
        self._on_exit = on_exit
        self._first = first
        self._zygotes: dict[str, Zygote] = {}

    def _zygote(self, interpreter: str) -> Zygote:
        interpreter = interpreter or sys.executable
        zygote = self._zygotes.get(interpreter)
        if zygote is not None and zygote.alive:
            return zygote
        if self._first is not None and interpreter == sys.executable:
            process, self._first = self._first, None
        else:
            with open(self._folder / "workers.log", "ab") as log:
                try:
                    process = spawn_zygote(interpreter, log)
                except OSError as error:
                    raise WorkerStartFailed(phase="zygote", reason=f"{interpreter} cannot be started: {error.strerror}", log="") from error
        zygote = self._zygotes[interpreter] = Zygote(interpreter, process, self._on_exit)
        if self._preload:
            zygote.say(op="preload", modules=self._preload)
        return zygote

    async def start(self, spec: WorkerSpec) -> AsyncIterator[Checkpoint]:
        zygote = self._zygote(spec.interpreter)
        try:
            pid = await zygote.fork(spec)
        except WorkerStartFailed as error:
            raise WorkerStartFailed(phase=error.phase, reason=error.reason, log=self._tail()) from error
        yield {"pid": pid, "started": _start_time(pid)}

    def _tail(self) -> str:
        try:
            return (self._folder / "workers.log").read_text(errors="replace")[-2000:]
        except OSError:
            return ""

    async def stop(self, checkpoint: Checkpoint) -> None:
        pid = checkpoint["pid"]
        if not _lives(checkpoint):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        end = asyncio.get_running_loop().time() + _GRACE
        while _lives(checkpoint) and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.01)
        if _lives(checkpoint):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def check(self, checkpoints: list[Checkpoint]) -> list[bool]:
        return [_lives(c) for c in checkpoints]

    async def close(self) -> None:
        if self._first is not None:
            self._first.kill()
            await asyncio.to_thread(self._first.wait)
        for zygote in self._zygotes.values():
            await zygote.close()


def _lives(checkpoint: Checkpoint) -> bool:
    """Whether this very process runs; its pid may be somebody else's by now."""
    started = _start_time(checkpoint["pid"])
    return bool(started) and started == checkpoint["started"]


def _start_time(pid: int) -> str:
    """When a process started, in clock ticks since boot; "": there is none, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return _start_time_elsewhere(pid)
    return "" if fields[0] in "ZX" else fields[19]


def _start_time_elsewhere(pid: int) -> str:
    """Where there is no /proc."""
    if sys.platform == "linux":
        return ""
    done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()
