"""One session's link: messages for the notebook's thread, all I/O on the daemon thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from .iothread import IoThread
from .sync.bulk import PIECE, Assembler, take
from .sync.squeeze import Meter
from .transport.dial import dial
from .transport.driver import LinkDriver
from .transport.ring import Ring, join
from .upload import Upload
from .wire.codec import decode, encode, size_of
from .wire.errors import JupyterGpuError, LinkBroken, SessionLost, SnapshotRefused, WorkerDied
from .wire.link import Lane, Link
from .wire.messages import (
    AnyMessage,
    Applied,
    CellDone,
    Chunk,
    Fetch,
    Fetched,
    InputOver,
    Interrupt,
    Kept,
    KernelExited,
    KernelHello,
    Message,
    RunCell,
    SessionInfo,
    Versions,
    Want,
)
from .wire.spool import Spool

_log = logging.getLogger(__name__)

#: Bytes not acknowledged beyond which ``Session.send`` waits.
_HIGH = 32 << 20
#: Seconds between two looks at how far the sending is.
_EVERY = 0.25
#: Bytes from which a payload may be in memory of the connection's.
_SHARED = 16 << 10
#: Seconds for the first message of a kernel that is ready.
_GREETING = 10.0


class Session:
    """A remote kernel, through its link. ``send`` and ``receive`` for one thread at a time; messages that come while no cell runs and
    nothing is being fetched go to ``listener``, on the I/O thread."""

    def __init__(self, io: IoThread, url: str, token: str, info: SessionInfo, kill: Callable[[str], None]) -> None:
        self._io = io
        self.info = info
        self.hello: KernelHello | None = None
        self._greeted = threading.Event()
        self.listener: Callable[[AnyMessage, list[memoryview]], None] | None = None
        self.on_input_over: Callable[[str], None] | None = None  #: (msg_id of the request), on the I/O thread
        self.on_progress: Callable[[int], None] | None = None  #: while a chunk is sent, every now and then: bytes of it that have arrived
        self._kill = kill
        self._assembler = Assembler()
        self._ring: Ring | None = None
        self._meter = Meter()
        self._inbox: SimpleQueue[tuple[AnyMessage, list[memoryview]] | BaseException] = SimpleQueue()
        self._attended = False  #: somebody waits in ``receive``, or is about to
        self._run_id = ""  #: of the cell that an interrupt is meant for
        self._failure: BaseException | None = None
        self.state = "connecting"
        # Bytes: what a thread hands over is not in the backlog before the other thread has taken it. Each counts for itself.
        self._handed = 0
        self._taken = 0

        async def dialer() -> Any:
            return await dial(url, f"/v1/sessions/{info.session_id}/link", token)

        self._driver = LinkDriver(
            dialer, Link(spool=Spool()), self._received, None, self._on_state, session=info.session_id, high_water=_HIGH
        )

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self._run(), self._io.loop)

    @property
    def versions(self) -> Versions | None:
        return self.hello.versions if self.hello is not None else self.info.versions

    # ------------------------------------------------------------ on the I/O thread

    async def _run(self) -> None:
        try:
            await self._driver.run()
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise
        else:
            self._fail(SessionLost(session=self.info.session_id, reason="it was closed"))

    def _on_state(self, state: str, detail: str) -> None:
        self.state = state

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            self._greeted.set()  # nobody need wait for it
            self._ring = None  # its memory is free when both ends have let go of it
            self._inbox.put(error)

    def _received(self, lane: Lane, payload: memoryview) -> None:
        message, buffers = decode(payload)
        if isinstance(message, Chunk) and message.size >= 0:
            self._piece(message, buffers)
            return
        if len(payload) >= _SHARED:
            message, buffers = decode(bytearray(payload))  # its memory is the connection's, which wants it back
        if isinstance(message, KernelHello):
            self.hello = message
            self._ring = join(message.ring)
            self._greeted.set()
        elif isinstance(message, KernelExited):
            self._fail(WorkerDied(exit=message.code, detail=message.detail))
        elif isinstance(message, InputOver):
            if self.on_input_over is not None:
                self.on_input_over(message.request)
        else:
            self._give(message, buffers)

    def _piece(self, message: Chunk, buffers: list[memoryview]) -> None:
        try:
            whole = take(self._assembler, self._ring, message, buffers)
        except SnapshotRefused as error:  # the snapshot that needs it will be refused for lack of it
            _log.error("%s", error)
            return
        if whole is not None:
            self._give(Chunk(digest=whole[0]), [whole[1]])

    def _give(self, message: AnyMessage, buffers: list[memoryview]) -> None:
        if isinstance(message, Want):  # whoever made the offer waits, before a cell as well
            self._inbox.put((message, buffers))
        elif self._attended:
            if isinstance(message, (CellDone, Fetched, Kept)):
                self._attended = False
            self._inbox.put((message, buffers))
        elif self.listener is not None:
            self.listener(message, buffers)

    def _send(self, parts: Sequence[Any], lane: Lane) -> None:
        self._taken += size_of(parts)
        try:
            self._driver.send(parts, lane)
        except JupyterGpuError as error:
            self._fail(error)

    # ------------------------------------------------------------ for the notebook's thread

    def send(self, message: Message, buffers: Sequence[Any] = (), control: bool = False) -> None:
        """Send a message; it arrives, whatever happens to the connection. Blocks while too much is on its way. Raises what ended the
        session."""
        if self._failure is not None:
            raise self._failure
        if isinstance(message, Applied) and (message.missing or message.refused or message.again):
            self._attended = True  # the kernel answers with ``Kept``
        elif isinstance(message, (RunCell, Fetch)):
            self._attended = True
            self._run_id = message.run_id if isinstance(message, RunCell) else ""
        if isinstance(message, Chunk) and memoryview(buffers[0]).nbytes > PIECE:
            self._send_chunk(message.digest, buffers[0])
            return
        parts = encode(message, buffers)
        self._handed += size_of(parts)
        self._io.loop.call_soon_threadsafe(self._send, parts, Lane.CONTROL if control else Lane.DATA)
        if buffers and not control and self._handed - self._taken + self._driver.link.backlog > _HIGH:
            try:
                self._io.call(self._driver.drain())
            except LinkBroken:
                raise self._failure or SessionLost(session=self.info.session_id, reason="it was closed") from None

    def _send_chunk(self, digest: bytes, data: Any) -> None:
        """Blocks until it is as good as sent. An interrupt leaves a part, which the kernel drops."""
        pieces = Upload(self._driver, self._ring, self._meter, digest, data)
        sending = asyncio.run_coroutine_threadsafe(pieces.send(), self._io.loop)
        try:
            while True:
                try:
                    sending.result(_EVERY)
                    break
                except concurrent.futures.TimeoutError:
                    if sending.done():
                        raise
                if self._failure is not None:
                    raise self._failure
                if self.on_progress is not None:
                    self.on_progress(pieces.arrived)
        except LinkBroken:
            raise self._failure or SessionLost(session=self.info.session_id, reason="it was closed") from None
        except JupyterGpuError as error:
            self._fail(error)
            raise
        finally:
            sending.cancel()

    def receive(self, timeout: float | None = None) -> tuple[AnyMessage, list[memoryview]] | None:
        """The next message; None if there is none within ``timeout`` seconds. Raises ``WorkerDied``, ``SessionLost`` and what else ended
        the session. An interrupt loses nothing."""
        try:
            got = self._inbox.get(timeout=timeout)
        except Empty:
            return None
        if isinstance(got, BaseException):
            self._inbox.put(got)  # whoever asks next hears it too
            raise got
        return got

    def shares(self) -> bool:
        """Whether the worker may have large chunks from another session. Waits for it to introduce itself."""
        self._greeted.wait(_GREETING)
        return self.hello is not None and self.hello.shared

    def interrupt(self) -> None:
        """SIGINT to the kernel, ahead of all data."""
        parts = encode(Interrupt(run_id=self._run_id))
        self._handed += size_of(parts)
        self._io.loop.call_soon_threadsafe(self._send, parts, Lane.CONTROL)

    def kill(self) -> None:
        """End the session at once; whoever waits in ``receive`` hears of it."""
        try:
            self._kill(self.info.session_id)
        except JupyterGpuError as error:
            self._fail(error)

    def close(self) -> None:
        """Give up the connection; the session goes on at the gateway until its time is over."""
        asyncio.run_coroutine_threadsafe(self._driver.close(), self._io.loop)
