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
from ..wire.errors import CannotMove, FrameGarbled, JupyterGpuError, KernelLost, WorkerDied, WorkerStartFailed
from ..wire.messages import KernelTerms, SessionInfo
from ..wire.moving import IDENTITY
from ..wire.signed import Signer, body, join, split
from .channels import Channels
from .connection import ConnectionFile, read
from .ending import Ending
from .gateway import Where
from .kept import Kept, Record, folder, inherit
from .messages import Voice
from .moving import Mover, wanted_of
from .options import Options, environment, parse
from .outstanding import Outstanding
from .publisher import Publisher
from .remote import Order, Remote, key_of

#: Exit code of a kernel whose command there is not, as a shell's.
NOT_FOUND = 127


class Shim(Ending):
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
        self._where = Where()
        self._own: Where | None = None  # the person's own gateway, where another one is configured
        self._outstanding = Outstanding()
        self._mover = Mover(self)
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
            await self._mover.close()
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
        gpu = self._options.gpu
        wanted_of(gpu or "cpu")  # what cannot be read is said before anything is written
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
        wanted, own = wanted_of(self._record.now or gpu or "cpu")
        where = await self.where(own)
        remote = self._remote = Remote(
            where, lambda c, f, n: self.from_remote(remote, c, f, n), lambda e: self.remote_over(remote, e), self._news
        )
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
        if channel == "control" and self._open and self._mover.requested(list(frames)):
            return
        if not self._open or self._remote is None:
            return  # control before there is a kernel: nobody to be asked about it
        if channel == "shell":
            self._publisher.begin()  # who asks and does not subscribe wants to hear nothing
            is_cell = self._voice.asked(list(frames))
            self._outstanding.asked(frames)
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
            if not self._mover.moves:
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

    def from_remote(self, remote: Remote, channel: str, frames: list[memoryview], failures: int) -> asyncio.Future[None] | None:
        """What a kernel says: the one that front ends have, or one that is to take its place."""
        return None if self._mover.heard(remote, channel, frames) else self._from_kernel(channel, frames, failures)

    def remote_over(self, remote: Remote, error: JupyterGpuError | int) -> None:
        """A kernel is gone, and nobody here asked for that."""
        if not self._mover.lost(remote, error):
            self._over(error)

    def _from_kernel(self, channel: str, frames: list[memoryview], failures: int) -> asyncio.Future[None] | None:
        signed = frames if self._far is None else self._sign(frames, self._far, self._signer)
        if channel == "iopub":
            self._outstanding.heard(frames)
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

    # ------------------------------------------------------------ for whoever moves it

    @property
    def remote(self) -> Remote:
        assert self._remote is not None
        return self._remote

    async def where(self, own: bool) -> Where:
        """The configured gateway, or the person's own."""
        if not own or await self._where.is_own():
            return self._where
        self._own = self._own or Where(own=True)
        return self._own

    def check_movable(self) -> None:
        """Raises ``CannotMove``."""
        if self._options.argv:
            raise CannotMove(reason="it is none of ours, which alone know how to leave", instead="Kernels of ipykernel can be moved.")

    def message(self, kind: str, content: dict[str, Any]) -> list[BytesLike]:
        """From the shim to a kernel."""
        return join([IDENTITY], self._far or self._signer, body(kind, content, session="jupyter-gpu"))

    def ask_kernel(self, kind: str, content: dict[str, Any], remote: Remote | None = None) -> None:
        """On the shell channel: handled behind what was sent before."""
        with contextlib.suppress(JupyterGpuError):  # then it is lost, and that is told
            (remote or self.remote).send("shell", self.message(kind, content), self._seen)

    def answer(self, request: list[BytesLike], kind: str, content: dict[str, Any]) -> None:
        """To a front end's request on the control channel."""
        self._channels.send("control", self._voice.reply(request, kind, content))

    def publish(self, kind: str, content: dict[str, Any], parent: BytesLike) -> None:
        """In the kernel's name, under a cell."""
        self._publisher.publish(self._voice.iopub(kind, content, parent))

    def hold(self) -> None:
        """What front ends ask from here on waits."""
        self._channels.pause("shell")

    def release(self) -> None:
        if not self._leaving:
            self._channels.resume("shell")

    def take_place(self, remote: Remote, key: str, to: str, cell: str, reply: dict[str, Any], parent: BytesLike) -> None:
        """This kernel is the one from here on. ``cell``: msg_id of the cell that asked for it, which is over with ``reply``; what waits
        behind it is the new kernel's."""
        self._remote, self._seen = remote, 0
        self._record.session, self._record.now = key, to
        if self._kept is not None:
            self._kept.write(self._record)
        if (frames := self._voice.executed(cell, reply)) is not None:
            self._channels.send("shell", frames)
        self.publish("status", {"execution_state": "idle"}, parent)
        for waiting in self._outstanding.take(cell):
            self._requested("shell", [bytes(frame) for frame in waiting])


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
