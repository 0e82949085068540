"""The part of a worker that talks to the gateway: a process of its own, so that a cell that holds the GIL costs no connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any

from jupyter_gpu.transport.connection import Connection
from jupyter_gpu.transport.dial import dial
from jupyter_gpu.transport.driver import LinkDriver
from jupyter_gpu.transport.envelope import notice
from jupyter_gpu.transport.outbox import Outbox
from jupyter_gpu.transport.raw import pool_of
from jupyter_gpu.wire.codec import BytesLike, decode, encode, size_of
from jupyter_gpu.wire.errors import JupyterGpuError, WorkerDied
from jupyter_gpu.wire.link import Lane, Link
from jupyter_gpu.wire.messages import (
    PROTOCOL,
    Activity,
    AnyMessage,
    Assign,
    Assigned,
    Interrupt,
    Jupyter,
    KernelExited,
    Release,
    WorkerFailed,
    WorkerHello,
)
from jupyter_gpu.wire.spool import Spool

from . import versions
from .pipe import ASSIGN, BUSY, HEADER, IDLE, PAYLOAD, FrameParser
from .processes import kill_children

if TYPE_CHECKING:
    from .channels import Channels

_log = logging.getLogger(__name__)

#: Bytes on their way to the kernel beyond which the client waits.
_FULL = 4 << 20
#: What a whole kernel may say while its client is away: then it waits, as it does where nobody reads a pipe.
_AWAY = 2 << 30
#: In place of a run_id: whichever cell begins next.
_NEXT = "*"
#: Reads from the kernel in a row before the gateway has its turn.
_READS = 4
#: Seconds within which what a dead kernel said last is read; a child of its may hold its pipe open for ever.
_LAST_WORDS = 0.5
#: Seconds that a kernel gets to end by itself.
_GRACE = 3.0


class KernelPort:
    """The agent's end of the pipe to the kernel."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._parser = FrameParser(pool=pool_of(asyncio.get_running_loop()))
        self._sock: socket.socket | None = None
        self._out: Outbox
        self._reading = False
        self.ended = asyncio.Event()  #: all that the kernel said was read

    def attach(self, sock: socket.socket) -> None:
        self._sock = sock
        self._out = Outbox(sock, lambda error: None)  # a kernel that is gone is read to its end, and reaped
        self.resume_reading()

    def close(self) -> None:
        """The kernel ends when its pipe does."""
        if self._sock is not None:
            self.pause_reading()
            self._out.close()
            self._sock.close()
            self._sock = None
            self.ended.set()

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            assert self._sock is not None
            asyncio.get_running_loop().remove_reader(self._sock)

    def resume_reading(self) -> None:
        if not self._reading and self._sock is not None:
            self._reading = True
            asyncio.get_running_loop().add_reader(self._sock, self._readable)

    def _readable(self) -> None:
        for _ in range(_READS):
            if self._sock is None or not self._reading:
                return
            target = self._parser.target()
            try:
                count = self._sock.recv_into(target)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                count = 0
            if not count:
                self.pause_reading()
                self.ended.set()
                return
            for kind, data in self._parser.filled(count):
                assert isinstance(data, memoryview)
                self._agent.from_kernel(kind, data)
            if count < len(target):
                return

    def send(self, parts: Sequence[BytesLike], kind: int = PAYLOAD) -> Awaitable[None] | None:
        """Hand a frame to the kernel; an awaitable if its pipe is full."""
        self._out.put([HEADER.pack(size_of(parts), kind), *parts])
        return self._out.room() if self._out.size > _FULL else None


class Agent:
    """One worker's connection: payloads pass through it unread, except those of the CONTROL lane."""

    def __init__(self, kernel_pid: int, *, worker_id: str, secret: str, url: str, lease: float, folder: str = "") -> None:
        self.kernel_pid = kernel_pid
        self.channels: Channels | None = None  #: of a whole kernel
        self.busy = False
        self._folder = folder
        self.worker_id = worker_id
        self.session_id = ""
        self._url = url
        self._token = f"{worker_id}:{secret}"
        self._stopping = asyncio.Event()
        self._release: Release | None = None
        self._draining: asyncio.Task[None] | None = None
        self._running = ""  #: run_id of the cell that the kernel is at
        self._delivered = False  #: the kernel was given something since its last cell
        self._pressed = ""  #: run_id of a cell that was interrupted before it began
        self._gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()  #: wait status of the kernel
        self.port = KernelPort(self)
        self.driver = LinkDriver(
            self._dial, Link(spool=Spool()), self._from_client, self._from_gateway, self._on_state, session=worker_id, give_up=lease
        )

    def _on_state(self, state: str, detail: str) -> None:
        if state == "dropped" and not self.session_id:
            self._stopping.set()  # it stood by and holds nobody's work: a gateway that comes back starts its own

    async def _dial(self) -> Connection:
        connection = await dial(self._url, "/v1/worker", self._token)
        hello = WorkerHello(
            protocol=PROTOCOL,
            worker_id=self.worker_id,
            pid=os.getpid(),
            kernel_pid=self.kernel_pid,
            versions=versions.here(),
            session_id=self.session_id,
            busy=bool(self._running) or self.busy,
        )
        await connection.send(notice(hello))
        return connection

    # ------------------------------------------------------------ what comes

    def from_kernel(self, kind: int, data: memoryview) -> None:
        if kind in (BUSY, IDLE):
            self._running = str(data, "ascii")
            self._delivered = False
            self.driver.notify(Activity(busy=kind == BUSY))
            if kind == BUSY and self._pressed in (self._running, _NEXT):
                self._pressed = ""
                self._signal(signal.SIGINT)
            return
        self.tell_client([data])

    def tell_client(self, parts: Sequence[BytesLike]) -> None:
        """What the kernel says. It is kept until the client has it."""
        try:
            self.driver.send(parts)
        except JupyterGpuError as error:
            _log.error("what the kernel said cannot be kept: %s", error)
            self._kill()
            return
        full = _FULL * 8 if self.channels is None else _AWAY
        if self.driver.link.backlog > full and self._draining is None:
            self._draining = asyncio.ensure_future(self._hold_kernel(full // 2, self.channels or self.port))

    async def _hold_kernel(self, below: int, source: KernelPort | Channels) -> None:
        """Stop reading the kernel until the client has caught up: then the kernel waits in its next write."""
        source.pause_reading()
        try:
            await self.driver.drain(below)
        except JupyterGpuError:
            return  # the driver has ended, and run_agent ends with it
        finally:
            self._draining = None
            source.resume_reading()

    def _from_client(self, lane: Lane, payload: memoryview) -> Awaitable[None] | None:
        if lane == Lane.DATA:
            if self.channels is not None:
                self._to_whole(self.channels, payload)
                return None
            self._delivered = True
            return self.port.send([payload])
        message, frames = decode(payload)
        if isinstance(message, Interrupt):
            self._interrupt(message)
        elif isinstance(message, Jupyter) and self.channels is not None:
            self.channels.from_client(message, frames)
        return None

    def _to_whole(self, channels: Channels, payload: memoryview) -> None:
        message, frames = decode(payload)
        if isinstance(message, Jupyter):
            channels.from_client(message, frames)

    def _interrupt(self, message: Interrupt) -> None:
        """It overtakes data: the cell may not have begun, and it may be over, and the next one is none of its business."""
        run_id = message.run_id
        if self.channels is not None:
            self._signal(message.number)
        elif run_id and run_id != self._running:
            self._pressed = run_id
        elif self._running:
            self._signal(signal.SIGINT)
        elif self._delivered:
            self._pressed = _NEXT
            self._signal(signal.SIGINT)  # in case that a widget's callback runs

    def _from_gateway(self, message: AnyMessage) -> None:
        if isinstance(message, Assign):
            self.session_id = message.session_id
            self.port.send(encode(message), ASSIGN)
            if message.kernel is not None:
                from .channels import Channels

                self.driver.link.expect_heirs()
                self.channels = Channels(self, self._folder, message.kernel)
            self.driver.notify(Assigned(session_id=message.session_id))
        elif isinstance(message, Release):
            self._release = message
            self._stopping.set()

    # ------------------------------------------------------------ the kernel's end

    def _signal(self, number: int) -> None:
        if self._gone.done():
            return  # the number may be another process's by now
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.kernel_pid, number)

    def _kill(self) -> None:
        if self._gone.done():
            return
        self._signal(signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.kernel_pid, signal.SIGKILL)  # before it had a group of its own

    def _reap(self) -> None:
        """The kernel, and orphans of its that had become ours."""
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == self.kernel_pid and not self._gone.done():
                    self._gone.set_result(found[1])

    async def run(self, sock: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        self._reap()  # it may have ended before anybody listened
        self.port.attach(sock)
        driving = asyncio.ensure_future(self.driver.run())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            waiting: list[asyncio.Future[Any]] = [self._gone, driving, stopping]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._gone.done() and not stopping.done() and not driving.done():
                await self._tell_death(self._gone.result())
            elif stopping.done() and self._release is not None and not self._release.kill:
                if self.channels is not None:
                    self.channels.shut_down()
                else:
                    self.port.close()
                await asyncio.wait([self._gone], timeout=_GRACE)
            return 0
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # it is ending, and has yet to clear up
            self._kill()
            await asyncio.wait([self._gone])
            loop.remove_signal_handler(signal.SIGCHLD)
            self.port.close()
            if self.channels is not None:
                self.channels.close()
            kill_children()
            stopping.cancel()
            await self.driver.close()
            await asyncio.wait([driving])
            if not driving.cancelled() and (error := driving.exception()) is not None:
                _log.warning("the agent ends: %s", error)

    async def _tell_death(self, status: int) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            if self.channels is not None:
                await self.channels.last_words(_LAST_WORDS)
            else:
                await asyncio.wait_for(self.port.ended.wait(), _LAST_WORDS)
        code = os.waitstatus_to_exitcode(status)
        detail = (self.channels.why() if self.channels is not None else "") or _describe(code)
        # A whole kernel's outputs are not to be overtaken: its client ends with this.
        lane = Lane.CONTROL if self.channels is None else Lane.DATA
        self.driver.send(encode(KernelExited(code=code, detail=detail)), lane)
        with contextlib.suppress(JupyterGpuError, asyncio.TimeoutError):
            await asyncio.wait_for(self.driver.drain(0), 5)
        self.driver.notify(WorkerFailed(error=WorkerDied(exit=code, detail=detail).to_record()))
        await asyncio.sleep(0)


def _describe(code: int) -> str:
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if -code == signal.SIGKILL:
        return f"killed by {name}; if nobody did that, by the system's out-of-memory killer: there was too little memory for it"
    return f"killed by {name}"


async def run_agent(sock: socket.socket, kernel_pid: int, *, worker_id: str, secret: str, url: str, lease: float, folder: str = "") -> int:
    """Serve until released, until the kernel is gone, or until no gateway was there for ``lease`` seconds."""
    sock.setblocking(False)
    agent = Agent(kernel_pid, worker_id=worker_id, secret=secret, url=url, lease=lease, folder=folder)
    return await agent.run(sock)
