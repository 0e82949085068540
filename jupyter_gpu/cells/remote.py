"""One remote session of a notebook: its replica of the variables, and what its kernel asks for while nobody or a cell waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from ..sync.chunks import ChunkStore, Parcel, pack, unpack
from ..sync.delta import STALE
from ..sync.handles import Handle
from ..sync.lineage import Question
from ..sync.modules import missing
from ..sync.replica import Change, Export, Replica
from ..wire.codec import BytesLike
from ..wire.errors import JupyterGpuError, ModuleMissing, SessionLost, SnapshotRefused, ValueCannotTravel
from ..wire.messages import (
    AnyMessage,
    Applied,
    Chunk,
    Fetch,
    Fetched,
    HandleInfo,
    Jupyter,
    Kept,
    Message,
    Offer,
    SessionInfo,
    SessionState,
    Snapshot,
    Want,
    Wanted,
)
from . import stdin
from .comms import KINDS, Comms
from .envelope import Envelope
from .interrupts import Interrupts
from .outputs import Publisher
from .sources import Sources

log = logging.getLogger(__name__)
T = TypeVar("T")
Received = tuple[AnyMessage, list[memoryview]]
_OVER = (SessionState.LOST, SessionState.ENDED)


class Session(Protocol):
    """What of ``jupyter_gpu.client.Session`` is used here."""

    listener: Callable[[AnyMessage, list[memoryview]], None] | None

    @property
    def info(self) -> SessionInfo: ...
    def send(self, message: Message, buffers: Sequence[Any] = ()) -> None: ...
    def receive(self, timeout: float | None = None) -> Received | None: ...
    def interrupt(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


class Remote:
    """``session`` is None until the first cell needs it; a remote whose session has ended is never used again."""

    def __init__(self, shell: Any, key: str, wanted: tuple[Wanted, ...], name: str, publisher: Publisher) -> None:
        self.shell = shell
        self.key = key
        self.wanted = wanted
        self.name = name
        self.publisher = publisher
        self.session: Session | None = None
        self.replica = Replica(shell.user_ns, "client")
        self.chunks = ChunkStore(copies=self.replica.lineage.copies)
        self.sources = Sources()
        self.comms = Comms(shell, self._forward)
        self.lock = threading.RLock()
        self.known: set[str] = set()  #: names that the kernel has
        self.ended = False
        self.interrupts: Interrupts | None = None
        self.sent_on_demand = 0  #: bytes that the running cell fetched
        self._offers: dict[int, Export] = {}  #: serial -> what a Fetch was answered with
        self._fetches = 0
        self._asked = 0
        self._busy = threading.Lock()
        self._running = False  #: a cell pumps: what comes for the listener waits for what it has still to handle
        self._after: list[Received] = []

    # ------------------------------------------------------------ life

    def attach(self, session: Session) -> None:
        self.session = session
        session.listener = self._late

    @property
    def alive(self) -> bool:
        if self.session is not None and self.session.info.state in _OVER:
            self.end()
        return not self.ended

    @property
    def label(self) -> str:
        return self.session.info.label if self.session is not None else ",".join(w.type for w in self.wanted)

    def end(self) -> None:
        """Nothing more comes from it: widgets are told, handles say so from here on."""
        if not self.ended:
            self.ended = True
            self.comms.close()
            self.replica.reset()

    def lost(self) -> SessionLost:
        session = self.session.info if self.session is not None else None
        return SessionLost(session=self.label, reason=session.reason if session is not None else "it has ended")

    # ------------------------------------------------------------ messages

    def send(self, message: Message, buffers: Sequence[Any] = ()) -> None:
        if self.session is None or self.ended:
            raise self.lost()
        self.session.send(message, buffers)

    def wait(self, wanted: Callable[[AnyMessage, list[memoryview]], T | None], tick: Callable[[], float | None] = lambda: None) -> T:
        """Handle what comes until ``wanted`` gives something. ``tick`` is called between messages; it may raise, and returns the
        seconds after which it wants to be called again."""
        session = self.session
        if session is None:
            raise self.lost()
        while True:
            timeout = _sooner(tick(), self.publisher.due())
            received = session.receive(timeout)
            if received is not None:
                found = wanted(*received)
                if found is not None:
                    return found
                self.handle(*received)
            self.publisher.flush_if_due()

    def handle(self, message: AnyMessage, buffers: list[memoryview]) -> None:
        """Anything that the kernel says or asks while the main thread listens."""
        if isinstance(message, Jupyter):
            self._jupyter(message, buffers)
        elif isinstance(message, Chunk):
            self.chunks.put(message.digest, buffers[0])
        elif isinstance(message, Fetch):
            self._answer(message)
        elif isinstance(message, Offer):
            self.send(Want(id=message.id, positions=self._lacking(message)))
        elif isinstance(message, Applied) and (export := self._offers.pop(message.serial, None)) is not None:
            self._settle(export, message.ok)

    def begin(self) -> None:
        with self._busy:
            self._running = True

    def over(self) -> None:
        """The cell's last message was handled: now what came after it."""
        with self._busy:
            self._running = False
            after, self._after = self._after, []
            for message, buffers in after:
                self._between(message, buffers)

    def _late(self, message: AnyMessage, buffers: list[memoryview]) -> None:
        """On the link's thread, between cells: prints of threads, widgets."""
        with self._busy:
            if self._running:
                self._after.append((message, buffers))
            else:
                self._between(message, buffers)

    def _between(self, message: AnyMessage, buffers: list[memoryview]) -> None:
        try:
            if isinstance(message, Jupyter):
                if message.channel == "iopub":
                    self._iopub(Envelope.of(buffers))
            elif isinstance(message, Offer):  # the person's values may be in use: nothing is there
                self.send(Want(id=message.id, positions=list(range(len(message.digests)))))
            elif isinstance(message, Chunk):
                self.handle(message, buffers)
        except Exception:  # one message that cannot be shown must not end the thread that brings all others
            log.exception("a message of the remote kernel between cells")

    def _jupyter(self, message: Jupyter, buffers: list[memoryview]) -> None:
        envelope = Envelope.of(buffers)
        if message.channel == "iopub":
            self._iopub(envelope)
        elif message.channel == "stdin" and envelope.kind == "input_request":
            self.publisher.flush()
            self._ask(envelope)

    def _iopub(self, envelope: Envelope) -> None:
        if envelope.kind in KINDS and not self.comms.received(envelope):
            return
        self.publisher.publish(envelope)

    def _ask(self, request: Envelope) -> None:
        try:
            if self.interrupts is None:
                parts = stdin.answer(self.shell, request)
            else:
                with self.interrupts.raising():
                    parts = stdin.answer(self.shell, request)
        except KeyboardInterrupt:
            # The remote input() is waiting, and ends by the same interrupt.
            if self.interrupts is None:
                raise
            self.interrupts.press()
            return
        self.send(Jupyter(channel="stdin"), parts)

    def _forward(self, parts: list[BytesLike]) -> None:
        """A message of a front end's to the remote kernel; to a session that has ended, nobody misses it."""
        try:
            self.send(Jupyter(channel="shell"), parts)
        except JupyterGpuError as error:
            log.warning("a message for a remote widget was dropped: %s", error)

    # ------------------------------------------------------------ variables

    def ship(self, export: Export, first: int = 0, *, whole: bool = False) -> Parcel:
        """Send the big buffers of an export, or what changed in them; the parcel's inline ones go with the message that carries its
        snapshot."""
        parcel = pack(export, first, None if whole else self.replica.lineage, self._lacks)
        for name, data in parcel.chunks.items():
            self.send(Chunk(digest=name), [data])
        return parcel

    def _lacks(self, question: Question) -> set[int]:
        """Which pieces the kernel lacks."""
        self._asked += 1
        asked = self._asked
        self.send(Offer(id=asked, digests=question.pieces, base=question.base, step=question.step))
        return set(self.wait(lambda m, b: m.positions if isinstance(m, Want) and m.id == asked else None))

    def _lacking(self, offer: Offer) -> list[int]:
        return self.replica.lacking(offer) if offer.base else self.chunks.missing(offer.digests)

    def sent(self, export: Export) -> None:
        """The kernel has taken over what was exported."""
        self.replica.confirm(export)
        self.known.update(export.sent)
        self.known.difference_update(export.snapshot.deleted)

    def take_over(self, snapshot: Snapshot, buffers: Sequence[memoryview]) -> Change:
        """Apply what the kernel sent, all of it or nothing, and tell it which. What it left out and is not here any more, it sends
        again."""
        try:
            return self._take(snapshot, buffers)
        except SnapshotRefused as error:
            if not _is_stale(error):
                raise
            kept, buffers = self.wait(lambda m, b: (m, b) if isinstance(m, Kept) and m.serial == snapshot.serial else None)
            if kept.snapshot is None:
                raise
        return self._take(kept.snapshot, buffers)

    def _take(self, snapshot: Snapshot, buffers: Sequence[memoryview]) -> Change:
        try:
            self.replica.check(snapshot)
            change = self.replica.apply(snapshot, *unpack(snapshot, buffers, self.chunks, self.replica.live))
        except JupyterGpuError as error:
            lacking = missing(snapshot.modules) if isinstance(error, ModuleMissing) else []
            self.send(Applied(serial=snapshot.serial, ok=False, reason=str(error), missing=lacking, again=_is_stale(error)))
            raise
        self.send(Applied(serial=snapshot.serial))
        self.known.update(change.bound)
        self.known.difference_update(change.deleted)
        return change

    def take_what_can(self, snapshot: Snapshot, buffers: Sequence[memoryview]) -> list[HandleInfo]:
        """``take_over``; what needs modules that this end lacks stays remote, and there are handles for it."""
        try:
            self.take_over(snapshot, buffers)
        except ModuleMissing:
            kept, buffers = self.wait(lambda m, b: (m, b) if isinstance(m, Kept) and m.serial == snapshot.serial else None)
            if kept.snapshot is not None:
                self.take_over(kept.snapshot, buffers)
            return kept.handles
        return []

    def prune(self) -> None:
        """Free what is kept for this session alone; not now, if a thread of the person's uses it."""
        if self.lock.acquire(blocking=False):
            try:
                self.replica.prune()
            finally:
                self.lock.release()

    def _answer(self, message: Fetch) -> None:
        """The kernel's code named what nobody foresaw."""
        for export in list(self._offers.values()):
            self._settle(export, True)  # it asks for more: so it got that
        names = [n for n in message.names if n in self.shell.user_ns]
        self.replica.forget(names)  # it asks: so it has them not, whatever we thought
        export = self.replica.export(self.replica.needed(names))
        parcel = self.ship(export, whole=True)  # the cell that waits for it could not have it sent again
        self._offers[export.snapshot.serial] = export
        self.sent_on_demand += sum(export.sent.values())
        self.send(Fetched(id=message.id, snapshot=parcel.snapshot if export.sent else None, stuck=export.stuck), parcel.inline)

    def settle_all(self, ok: bool) -> None:
        """The cell is over: what it fetched, it has."""
        for export in list(self._offers.values()):
            self._settle(export, ok)

    def _settle(self, export: Export, ok: bool) -> None:
        self._offers.pop(export.snapshot.serial, None)
        if ok:
            self.sent(export)
        else:
            self.replica.abandon(export)

    # ------------------------------------------------------------ handles

    def bind(self, infos: Sequence[HandleInfo]) -> None:
        """Give the names of values that stayed remote their stand-ins."""
        for info in infos:
            self.shell.user_ns[info.name] = Handle(info, Fetcher(self, info.name))
        names = [info.name for info in infos]
        if names:
            self.replica.adopt(names)
            self.known.update(names)

    def fetch(self, name: str) -> Any:
        """The value behind a handle, copied here; the name stays bound to what it is. Raises what says why it cannot come."""
        with self.lock:
            if not self.alive:
                raise self.lost()
            self._fetches += 1
            wanted = self._fetches
            self.send(Fetch(id=wanted, names=[name]))
            reply, buffers = self.wait(lambda m, b: (m, b) if isinstance(m, Fetched) and m.id == wanted else None)
            if reply.snapshot is None:
                why = reply.stuck[0] if reply.stuck else None
                if why is not None:
                    raise ValueCannotTravel(name=name, path=why.path, type=why.type, reason=why.reason)
                raise SnapshotRefused(reason=f"the worker has no {name!r} any more")
            namespace, missing = self.shell.user_ns, object()
            before = namespace.get(name, missing)
            self.take_over(reply.snapshot, buffers)
            value = namespace[name]
            if before is missing:
                del namespace[name]
            else:
                namespace[name] = before
            self.replica.forget([name])
            return value


class Fetcher:
    """What a handle calls, and by which it is known whose it is."""

    def __init__(self, remote: Remote, name: str) -> None:
        self.remote = remote
        self.name = name

    def __call__(self) -> Any:
        return self.remote.fetch(self.name)


def home_of(handle: Handle) -> Remote | None:
    """The remote in whose kernel the value of a handle lives."""
    fetcher = handle._fetch
    return fetcher.remote if isinstance(fetcher, Fetcher) else None


def _is_stale(error: JupyterGpuError) -> bool:
    return isinstance(error, SnapshotRefused) and error.reason.startswith(STALE)


def _sooner(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
