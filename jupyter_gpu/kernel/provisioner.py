"""Starts shims for jupyter_client, and tells it how they are. Everything that a kernel is, the shim is by itself; here are only the
things that a process cannot know: that a restart is meant, what the kernelspec says, and how long a start may take."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Unicode

from ..config import load
from ..wire.errors import JupyterGpuError
from . import spare
from .gateway import FOUND
from .options import NAMED

#: Seconds for a shim that was asked to end at once.
_GRACE = 5.0
#: Seconds between two looks at what another thread or process does.
_LOOK = 0.003
_IPYKERNEL = ("ipykernel_launcher", "ipykernel")
_OURS = "jupyter_gpu.kernel.shim"


class GpuProvisioner(LocalProvisioner):  # type: ignore[misc]
    """The kernel runs on ``gpu`` of the configured gateway."""

    gpu = Unicode("", help="Hardware, as in %%remote gpu=: H100, H100:2, any, cpu. Empty: the default, else cpu.").tag(config=True)

    _meant = False  # somebody asked for the end of the process
    _launched = False
    _file = ""  # of the connection
    _found: dict[str, Any]

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        given = dict(kwargs.get("env") or {})
        kwargs = await super().pre_launch(**kwargs)
        env = kwargs["env"]
        names = {name for name, value in given.items() if os.environ.get(name) != value} | set(self.kernel_spec.env or {})
        env[NAMED] = ",".join(sorted(names | set(load().forward_env)))
        env.pop("JPY_PARENT_PID", None)
        self._file = str(self.parent.connection_file) if self.parent is not None else ""
        kwargs["cmd"] = self._command(list(kwargs["cmd"]))
        return kwargs

    def _command(self, command: list[str]) -> list[str]:
        """The shim that does what ``command`` would have done here."""
        if _OURS in command:
            return [*command, *(["--gpu", self.gpu] if self.gpu and "--gpu" not in command else [])]
        shim = [sys.executable, "-m", _OURS, *(["--gpu", self.gpu] if self.gpu else [])]
        file = self._file
        if (len(command) > 2 and command[1] == "-m" and command[2] in _IPYKERNEL) or _launches_ipykernel(command):
            at = next(i for i, part in enumerate(command) if part in _IPYKERNEL)
            return [*shim, "--interpreter", shutil.which(command[0]) or command[0], *command[at + 1 :]]
        there = ["{connection_file}" if part == file else part for part in command]
        return [*shim, "-f", file, "--argv", json.dumps(there)]

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Returns when the kernel can be talked to, however long that takes; else nothing of it is left."""
        reading, writing = os.pipe()
        try:
            try:
                self._found = await _aside(_look_up)
                kwargs["env"][FOUND] = json.dumps(self._found)
                if self._launched and not self._meant:
                    cmd = [*cmd, "--attach"]
                self._meant, self._launched = False, True
                info = await self._launch(cmd, writing, kwargs)
            finally:
                os.close(writing)
            await self._until_ready(reading)
            spare.prepare_soon()
            return info
        except BaseException:
            await self._end_at_once(signal.SIGTERM)
            raise
        finally:
            os.close(reading)

    async def _launch(self, cmd: list[str], ready: int, kwargs: dict[str, Any]) -> Any:
        """As a local kernel's process, by way of one that waits where there is one."""
        options = self._scrub_kwargs(kwargs)
        kwargs["env"]["JPY_PARENT_PID"] = str(os.getpid())
        process = spare.take(cmd, ready, **options)
        if process is None:
            return await super().launch_kernel([*cmd, "--ready", str(ready)], pass_fds=(ready,), **kwargs)
        self.process, self.pid, self.pgid = process, process.pid, process.pid
        self.cwd = kwargs.get("cwd", Path.cwd())
        return self.connection_info

    async def _until_ready(self, reading: int) -> None:
        """Raises ``RuntimeError`` with the reason if the shim gives up."""
        os.set_blocking(reading, False)
        rest = b""
        while True:
            try:
                data = os.read(reading, 65536)
            except BlockingIOError:
                await asyncio.sleep(_LOOK)
                continue
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                told = json.loads(line)
                if told["state"] == "ready":
                    return
                if told["state"] in ("ports", "died"):  # its process ends, as a local kernel's would, and the restarter tries again
                    self.log.warning("kernel %s: %s", self.kernel_id, told["text"])
                    return
                if told["state"] == "failed":
                    raise RuntimeError(told["text"])
                self.log.info("kernel %s waits: its session is %s", self.kernel_id, told["session"])
        raise RuntimeError("The process of the remote kernel ended while it started; its words are in the log of whoever started it.")

    async def _end_at_once(self, number: int) -> None:
        """SIGTERM ends the session too; SIGUSR1 leaves it, as SIGKILL does, but in order."""
        process = self.process
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.send_signal(number)
        loop = asyncio.get_running_loop()
        end = loop.time() + _GRACE
        while process.poll() is None and loop.time() < end:
            await asyncio.sleep(0.01)
        with contextlib.suppress(OSError):
            process.kill()

    def _mean_it(self) -> None:
        """The process is about to end because somebody wants it to, unless an accident came first."""
        self._meant = self._meant or (self.process is not None and self.process.poll() is None)

    async def send_signal(self, signum: int) -> None:
        """Shutdown interrupts first, and must not fail for it."""
        with contextlib.suppress(OSError):
            await super().send_signal(signum)

    async def kill(self, restart: bool = False) -> None:
        self._mean_it()
        await self._end_at_once(signal.SIGUSR1)

    async def cleanup(self, restart: bool = False) -> None:
        """A kernel that was killed left its session: it is ended here, unless this is a restart, which keeps the hardware."""
        if not restart and self._file:
            with contextlib.suppress(Exception):  # a shutdown must not fail for the network; the session has its own time
                await asyncio.wait_for(_end_left(self._file, self._found), _GRACE)
        await super().cleanup(restart)

    async def shutdown_requested(self, restart: bool = False) -> None:
        self._mean_it()

    async def terminate(self, restart: bool = False) -> None:
        self._mean_it()
        with contextlib.suppress(OSError):
            await super().send_signal(signal.SIGTERM)


def _launches_ipykernel(command: list[str]) -> bool:
    """With options of Python's own before the module."""
    at = command.index("-m") if "-m" in command[:-1] else -1
    return at >= 0 and command[at + 1] in _IPYKERNEL


async def _aside(function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What blocks, in a thread of its own. Not by the loop's executor, nor by its means of waking it: where a process was forked with its
    loop (as nbclient's users do), these are the parent's."""
    found: list[dict[str, Any] | BaseException] = []

    def run() -> None:
        try:
            found.append(function())
        except BaseException as error:
            found.append(error)

    threading.Thread(target=run, name="jupyter-gpu", daemon=True).start()
    while not found:
        await asyncio.sleep(_LOOK)
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


async def _end_left(file: str, found: dict[str, Any]) -> None:
    """The session of a shim that is gone, if it left one."""
    from .kept import folder, hold
    from .moving import wanted_of
    from .remote import end_session, key_of

    kept = hold(folder() / f"{Path(file).stem}.json", create=False)
    if kept is None:
        return
    try:
        record = kept.read()
        if record is None:
            return
        if wanted_of(record.now or record.wanted or "cpu")[1] and not found["own"]:
            from .gateway import Where

            url, token = await Where(own=True).now()
        else:
            url, token = found["url"], found["token"]
        await end_session(url, token, key_of(record.session))
    finally:
        kept.remove()  # also of one that cannot be reached, and ends by itself: nobody is to come back to it


def _look_up() -> dict[str, Any]:
    """The gateway, started if need be. Raises ``RuntimeError``, whose text front ends show."""
    from .. import embedded

    try:
        config = load()
        if config.gateway:
            return {"url": config.gateway, "token": config.token, "own": False, "outlive": config.outlive}
        found = embedded.find_or_start(config)
        return {"url": found.url, "token": found.token, "own": True, "outlive": config.outlive}
    except JupyterGpuError as error:
        raise RuntimeError(str(error)) from None
