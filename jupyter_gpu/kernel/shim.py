"""A kernel, as far as front ends can tell: the process that a kernelspec's argv starts. The real one is elsewhere.

Frames pass as they come, in both directions. What is done here: heartbeats, the welcome on iopub, restart and shutdown, the pace of iopub,
and to say what became of a kernel that is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import signal
import sys
import uuid
from collections.abc import Sequence
from typing import Any

from ..wire.codec import BytesLike
from ..wire.errors import FrameGarbled, JupyterGpuError, KernelLost, WorkerDied, WorkerStartFailed
from ..wire.messages import KernelTerms, SessionInfo
from ..wire.signed import Signer, join, split
from .channels import Channels
from .connection import ConnectionFile, read
from .gateway import Where
from .kept import Kept, Record, folder, inherit
from .messages import Voice
from .options import Options, environment, parse
from .publisher import Publisher
from .remote import Order, Remote, key_of

#: Seconds for a kernel to end by itself before its session is ended; longer than a manager's patience, who then kills.
_GRACE = 10.0
#: Seconds for a gateway to hear of it.
_STOP = 4.0
#: Exit code of a kernel whose command there is not, as a shell's.
NOT_FOUND = 127
#: Seconds between two looks whether whoever started this process is still there.
_PARENT = 1.0


class Shim:
    """One kernel's local end. ``run()`` gives the exit code."""

    def __init__(self, options: Options, connection: ConnectionFile) -> None:
        self._options = options
        self._connection = connection
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._signer = Signer(connection.key.encode(), connection.scheme)
        self._far: Signer | None = None  # of a kernel that signs otherwise: it was another connection file's
        self._voice = Voice(self._signer)
        self._seen = 0  # failures that front ends were told of
        self._remote: Remote | None = None
        self._open = False  # the kernel can be talked to
        self._kept: Kept | None = None
        self._record: Record
        self._notices: list[str] = []  # to be said under the next cell
        self._leaving = False
        self._asked_to_end = False
        self._ready = False  # the kernel has begun to answer
        self._failure: JupyterGpuError | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._channels = Channels(connection, self._requested, self._subscribed)
        self._channels.pause("shell")
        self._channels.pause("stdin")
        limited = "JPY_SESSION_NAME" in os.environ  # jupyter_server names the notebook to the kernels that it starts
        self._publisher = Publisher(lambda frames: self._channels.send("iopub", frames), self._signer, limited)

    # ------------------------------------------------------------ life

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        loop.add_signal_handler(signal.SIGTERM, lambda: self._spawn(self._terminate()))
        loop.add_signal_handler(signal.SIGUSR1, self._leave_session)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self._abandoned()))
        self._spawn(self._watch_parent())
        opening = asyncio.ensure_future(self._start())
        try:
            waiting: list[asyncio.Future[Any]] = [opening, self._ended]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if opening.done() and (error := opening.exception()) is not None:
                return self._failed(error)
            return await self._ended
        finally:
            opening.cancel()
            await asyncio.wait([opening])
            for task in self._tasks - {asyncio.current_task()}:
                task.cancel()
            self._publisher.flush()
            if self._remote is not None:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._remote.close(), 2)
            self._channels.close()
            if self._kept is not None:
                self._kept.close()

    def _spawn(self, coroutine: object) -> None:
        task = asyncio.ensure_future(coroutine)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self) -> None:
        from ..cells.options import parse_gpu

        gpu = self._options.gpu
        wanted = list(parse_gpu(gpu or "cpu"))
        where = Where()
        notebook = os.environ.get("JPY_SESSION_NAME", "")
        self._kept, before = inherit(folder(), self._connection.path.stem, notebook, gpu)
        anew = attached = False
        if before is not None and before.wanted == gpu and not before.lost:
            # Started again with the same connection file: a restart, which means an empty namespace. Else the notebook is back.
            same = before.file == self._connection.path.stem
            anew = same and not (before.fresh or self._options.attach)
            attached = not same or self._options.attach
            self._record = before
        else:
            self._record = Record(uuid.uuid4().hex, self._connection.key, self._connection.scheme, notebook, gpu)
            if before is not None and before.lost:
                self._notices.append(f"This is a new kernel, and its namespace is empty. The one before is gone: {before.lost}")
        self._record.fresh, self._record.file = False, self._connection.path.stem
        self._kept.write(self._record)
        if (self._record.key, self._record.scheme) != (self._connection.key, self._connection.scheme):
            self._far = Signer(self._record.key.encode(), self._record.scheme)
        remote = Remote(where, self._from_kernel, self._over, self._news)
        self._remote = remote
        order = Order(
            key=key_of(self._record.session),
            wanted=wanted,
            terms=KernelTerms(key=self._record.key, scheme=self._record.scheme, argv=self._options.argv, arguments=self._options.arguments),
            cwd=os.getcwd(),
            interpreter=self._options.interpreter,
            env=environment(),
            owner=notebook,
            alone=await where.outlive() if notebook else -1.0,
        )
        try:
            await remote.open(order, anew=anew)
        except BaseException:
            self._kept.remove()
            raise
        if attached and not remote.created:
            self._notices.append("Connected again to the kernel that was there, with its variables.")
        self._open = True
        self._channels.resume("shell")
        self._channels.resume("stdin")
        if not attached:
            await remote.up.wait()
        if self._failure is None:
            self._ready = True
            tell(self._options.ready, state="ready")

    def _failed(self, error: BaseException) -> int:
        sentence = str(error) if isinstance(error, JupyterGpuError) else repr(error)
        tell(self._options.ready, state="failed", text=sentence)
        print(sentence, file=sys.stderr)
        return 1

    def _news(self, info: SessionInfo) -> None:
        tell(self._options.ready, state="waiting", session=info.state.value, position=info.queue_position, label=info.label)

    # ------------------------------------------------------------ from front ends

    def _requested(self, channel: str, frames: list[bytes]) -> None:
        if channel == "control" and b'"shutdown_request"' in b"".join(frames[:6]):
            self._shutdown(list(frames))
            return
        if not self._open or self._remote is None:
            return  # control before there is a kernel: nobody to be asked about it
        if channel == "shell":
            self._publisher.begin()  # who asks and does not subscribe wants to hear nothing
            is_cell = self._voice.asked(list(frames))
            while is_cell and self._notices:
                self._publisher.publish(self._voice.notice(self._notices.pop(0), list(frames)))
        try:
            if self._remote.send(channel, self._sign(frames, self._signer, self._far), self._seen):
                self._channels.pause("shell")
                self._spawn(self._resume_when_drained(self._remote))
        except JupyterGpuError as error:
            self._over(error)

    async def _resume_when_drained(self, remote: Remote) -> None:
        with contextlib.suppress(JupyterGpuError):
            await remote.drained()
            self._channels.resume("shell")

    @staticmethod
    def _sign(frames: Sequence[BytesLike], by: Signer, anew: Signer | None) -> Sequence[BytesLike]:
        """As they are, unless the two ends sign with different keys."""
        if anew is None:
            return frames
        try:
            message = split(frames)
        except FrameGarbled:
            return frames
        if not by.fits(message.signature, message.body):
            return frames  # the kernel will refuse it, as it should
        return join(message.identities, anew, message.body)

    def _subscribed(self, topic: bytes) -> None:
        self._channels.send("iopub", self._voice.welcome(topic))
        self._publisher.begin()

    # ------------------------------------------------------------ from the kernel

    def _from_kernel(self, channel: str, frames: list[memoryview], failures: int) -> asyncio.Future[None] | None:
        signed = frames if self._far is None else self._sign(frames, self._far, self._signer)
        if channel == "iopub":
            return self._publisher.publish(signed)
        if channel == "shell":
            self._voice.answered(list(signed))
            self._seen = max(self._seen, failures)
        self._channels.send(channel, signed)
        return None

    def _over(self, error: JupyterGpuError | int) -> None:
        """The kernel is gone, and nobody here asked for that."""
        if self._leaving:
            return
        self._leaving = True
        code = 0
        if not isinstance(error, int) and not self._asked_to_end:
            code = 1
            # A kernel that ran and ended is a restarter's business, as a local one would be.
            told = "died" if isinstance(error, WorkerDied) and error.exit > 0 and error.exit != NOT_FOUND else "failed"
            reason = getattr(error, "detail", "") or getattr(error, "reason", "") or error.sentence
            error = KernelLost(reason=reason) if self._ready else WorkerStartFailed(phase="kernel", reason=reason)
            self._failure = error
            self._publisher.flush()
            for frames in self._voice.failure(error):
                self._channels.send("iopub", frames)
            print(str(error), file=sys.stderr)
            self._record.lost = error.sentence
            if not self._ready:
                tell(self._options.ready, state=told, text=str(error))
            if self._kept is not None and self._ready:
                self._kept.write(self._record)
            elif self._kept is not None:
                self._kept.remove()
        elif self._kept is not None:
            self._kept.remove()
        self._channels.close("hb")  # front ends are to notice
        self._spawn(self._let_go(code))

    async def _let_go(self, code: int) -> None:
        """What is left of the session may hold hardware that the next kernel wants."""
        if self._remote is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._remote.stop(kill=True), 2)
        self._leave(code)

    # ------------------------------------------------------------ interrupt, shutdown, restart

    def _interrupt(self) -> None:
        if self._open and self._remote is not None:
            with contextlib.suppress(JupyterGpuError):
                self._remote.signal(signal.SIGINT)

    async def _terminate(self) -> None:
        """The kernel gets the signal itself, and may do something about it; not for ever."""
        if self._open and self._remote is not None and not self._leaving:
            self._asked_to_end = True
            with contextlib.suppress(JupyterGpuError):
                self._remote.signal(signal.SIGTERM)
            await asyncio.wait([self._ended], timeout=_GRACE)
        if not self._ended.done():
            await self._end(128 + signal.SIGTERM, kill=True)

    def _shutdown(self, frames: list[BytesLike]) -> None:
        restart = False
        with contextlib.suppress(FrameGarbled, ValueError):
            restart = bool(json.loads(bytes(split(frames).body[3])).get("restart"))
        if not self._leaving:
            self._leaving = True
            self._spawn(self._shut_down(frames, restart))

    async def _shut_down(self, frames: list[BytesLike], restart: bool) -> None:
        """The kernel is asked itself, so that what it has to do at its end is done; a restart keeps the hardware."""
        remote = self._remote
        if not restart and self._open and remote is not None:
            self._leaving = False
            self._asked_to_end = True
            with contextlib.suppress(JupyterGpuError):
                remote.send("control", self._sign(frames, self._signer, self._far), self._seen)
            await asyncio.wait([self._ended], timeout=_GRACE)
            self._leaving = True
        else:
            with contextlib.suppress(FrameGarbled):
                content = {"status": "ok", "restart": restart}
                self._channels.send("control", self._voice.reply(frames, "shutdown_reply", content))
                self._publisher.publish(self._voice.iopub("shutdown_reply", content, split(frames).body[0]))
            if restart and self._open and remote is not None:
                try:
                    await remote.restart()
                    self._record.fresh = True
                    if self._kept is not None:
                        self._kept.write(self._record)
                    self._leave(0)
                    return
                except JupyterGpuError:
                    pass  # then without its hardware
        await self._end(0, kill=False)

    async def _end(self, code: int, *, kill: bool) -> None:
        """End the session, then this process."""
        self._leaving = True
        if self._remote is not None and hasattr(self._remote, "info"):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._remote.stop(kill), _STOP)
        if self._kept is not None:
            self._kept.remove()
        self._leave(code)

    def _leave(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)

    def _leave_session(self) -> None:
        """The provisioner kills this process, and sees to the session itself: it may be a restart, which keeps the hardware."""
        self._leaving = True
        self._leave(-signal.SIGKILL)

    async def _watch_parent(self) -> None:
        parent = os.getppid()
        if str(parent) != os.environ.get("JPY_PARENT_PID"):
            return
        while os.getppid() == parent:
            await asyncio.sleep(_PARENT)
        await self._abandoned()

    async def _abandoned(self) -> None:
        """Whoever started this process is gone. The kernel of a notebook waits for the notebook to come back."""
        if self._open and self._record.notebook:
            self._leaving = True
            self._leave(0)
        else:
            await self._end(0, kill=False)


def tell(descriptor: int, **what: object) -> None:
    """To the provisioner that started this process, if one did."""
    if descriptor >= 0:
        with contextlib.suppress(OSError):
            os.write(descriptor, json.dumps(what).encode() + b"\n")


def _stand_by(descriptor: int) -> Options | None:
    """Be ready for a kernel that somebody may want."""
    from . import spare

    for module in ("jupyter_core.paths", "jupyter_gpu.cells.options", "argparse", "encodings.idna", "concurrent.futures.thread"):
        importlib.import_module(module)
    parse(["-f", "x"])
    told = spare.wait_for_orders(descriptor)
    return None if told is None else parse([*told[0], "--ready", str(told[1])])


def main() -> int:
    if sys.argv[1:2] == ["--standby"]:
        found = _stand_by(int(sys.argv[2]))
        if found is None:
            return 0
        options = found
    else:
        options = parse(sys.argv[1:])

    async def run(connection: ConnectionFile) -> int:
        try:
            shim = Shim(options, connection)
        except JupyterGpuError as error:
            tell(options.ready, state="ports", text=str(error))  # others have them: to be tried with new ones
            raise
        return await shim.run()

    try:
        return asyncio.run(run(read(options.connection_file)))
    except JupyterGpuError as error:
        print(error, file=sys.stderr)
        tell(options.ready, state="failed", text=str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
