"""One remote session of a notebook: its replica of the variables, and what its kernel asks for while nobody or a cell waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from msgspec.structs import replace

from ..sync.chunks import ChunkStore, Parcel, pack, unpack
from ..sync.delta import STALE
from ..sync.handles import Handle
from ..sync.modules import missing
from ..sync.replica import Change, Export, Replica
from ..sync.trust import may_bind
from ..wire.codec import BytesLike
from ..wire.errors import JupyterGpuError, ModuleMissing, SessionLost, SnapshotRefused, UntrustedValue
from ..wire.messages import (
    OVER,
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
    Snapshot,
    Want,
    Wanted,
)
from . import stdin
from .comms import KINDS, Comms
from .envelope import Envelope
from .fetching import fetch
from .held import Fetcher as Fetcher
from .held import Held, is_result
from .held import home_of as home_of
from .interrupts import Interrupts
from .offers import Offers
from .outputs import Publisher
from .session import Received, Session
from .sources import Sources

log = logging.getLogger(__name__)
T = TypeVar("T")
#: Seconds. A press of the stop button in the moment in which a wait begins may not end it, and is seen when the wait is over.
_LOOK = 0.25


class Remote:
    """``session`` is None until the first cell needs it; a remote whose session has ended is never used again."""

    def __init__(self, shell: Any, key: str, wanted: tuple[Wanted, ...], name: str, publisher: Publisher) -> None:
        self.shell = shell
        self.key = key
        self.wanted = wanted
        self.name = name
        self.publisher = publisher
        self.session: Session | None = None
        self.held = Held(shell.user_ns, partial(Fetcher, self))
        self.replica = Replica(shell.user_ns, "client", handle_of=self.held.of)
        self.chunks = ChunkStore(copies=self.replica.lineage.copies)
        self.offers = Offers(self)
        self.sources = Sources()
        self.comms = Comms(shell, self._forward)
        self.lock = threading.RLock()
        self.known: set[str] = set()  #: names that the kernel has
        self.ended = False
        self.interrupts: Interrupts | None = None
        self._asking = ""  #: msg_id of the input_request that the person is being asked
        self._unasked: set[str] = set()  #: msg_ids of those that nobody waits for any more
        self.on_progress: Callable[[int, int], None] | None = None  #: while much is sent: bytes that have arrived, and of how many
        self.may_fetch = True  #: whether the running cell may have what it did not name
        self.sent_on_demand = 0  #: bytes that the running cell fetched
        self.on_demand: dict[str, int] = {}  #: name -> bytes, of the same
        self.said: set[str] = set()  #: warnings that a person has had
        self.notes: list[str] = []  #: warnings of what was taken over, not said yet
        self._offers: dict[int, Export] = {}  #: serial -> what a Fetch was answered with
        self.fetches = 0
        self._busy = threading.Lock()
        self._running = False  #: a cell pumps: what comes for the listener waits for what it has still to handle
        self._after: list[Received] = []

    # ------------------------------------------------------------ life

    def attach(self, session: Session) -> None:
        self.session = session
        session.listener = self._late
        session.on_input_over = self._input_over

    @property
    def alive(self) -> bool:
        if self.session is not None and self.session.info.state in OVER:
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
            timeout = min(t for t in (tick(), self.publisher.due(), _LOOK) if t is not None)
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

    def _input_over(self, request: str) -> None:
        """On the link's thread, ahead of the messages that wait for the main thread, which may be the one that asks."""
        self._unasked.add(request)
        interrupts = self.interrupts
        if self._asking == request and interrupts is not None:
            interrupts.give_up()

    def _ask(self, request: Envelope) -> None:
        self._asking = str(request.header.get("msg_id", ""))
        try:
            if self._asking not in self._unasked:
                self._ask_person(request)
        except KeyboardInterrupt:
            if self._asking not in self._unasked:
                raise
        finally:
            self._unasked.discard(self._asking)
            self._asking = ""

    def _ask_person(self, request: Envelope) -> None:
        try:
            if self.interrupts is None:
                parts = stdin.answer(self.shell, request)
            else:
                with self.interrupts.raising():
                    parts = stdin.answer(self.shell, request)
        except KeyboardInterrupt:
            # The remote input() is waiting, and ends by the same interrupt, if it has not ended already.
            if self.interrupts is None or self._asking in self._unasked:
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
        parcel = pack(export, first, None if whole else self.replica.lineage, self.offers.pieces)
        if not whole:
            self.offers.leave_out_shared(parcel)
        done, total = 0, sum(map(len, parcel.chunks.values()))
        for name, data in parcel.chunks.items():
            if self.session is not None:
                self.session.on_progress = partial(self._sending, done, total)
            self.send(Chunk(digest=name), [data])
            done += len(data)
        return parcel

    def _sending(self, before: int, total: int, arrived: int) -> None:
        if self.on_progress is not None:
            self.on_progress(before + arrived, total)

    def _lacking(self, offer: Offer) -> list[int]:
        return self.replica.lacking(offer) if offer.base else list(range(len(offer.digests)))

    def sent(self, export: Export) -> None:
        """The kernel has taken over what was exported."""
        self.replica.confirm(export)
        self.known.update(export.sent)
        self.known.difference_update(export.snapshot.deleted)

    def take_over(self, snapshot: Snapshot, buffers: Sequence[memoryview]) -> Change:
        """Apply the copies of values that the kernel sent, all of them or nothing, and tell it which. What it left out and is not here
        any more, it sends again."""
        try:
            return self._take(snapshot, buffers)
        except SnapshotRefused as error:
            if not _is_stale(error):
                raise
            kept, buffers = self._kept(snapshot.serial)
            if kept.snapshot is None:
                raise
        return self._take(kept.snapshot, buffers)

    def _take(self, snapshot: Snapshot, buffers: Sequence[memoryview], *, or_less: bool = False) -> Change:
        """``or_less``: the kernel is told what cannot be taken, and answers with the rest. Otherwise these are copies, of which the
        kernel knows nothing from here on."""
        try:
            self.notes += [text for text in self.replica.check(snapshot) if text not in self.said]
            self.said.update(self.notes)
            change = self.replica.apply(snapshot, *unpack(snapshot, buffers, self.chunks, self.replica.live), settle=False)
        except JupyterGpuError as error:
            lacking = missing(snapshot.modules) if or_less and isinstance(error, ModuleMissing) else []
            refused = error.refused if or_less and isinstance(error, UntrustedValue) else {}
            again = _is_stale(error)
            self.send(Applied(serial=snapshot.serial, ok=False, reason=str(error), missing=lacking, refused=refused, again=again))
            raise
        self.send(Applied(serial=snapshot.serial))
        self.notes += change.warnings
        if not or_less:
            self.replica.forget(change.bound)
            return change
        self.replica.settle()
        self.known.update(change.bound)
        self.known.difference_update(change.deleted)
        return change

    def take_what_can(self, snapshot: Snapshot, buffers: Sequence[memoryview]) -> list[HandleInfo]:
        """``take_over``; what needs modules that this end lacks, or is no plain data where nothing else is trusted, stays remote, and
        there are handles for it."""
        handles: list[HandleInfo] = []
        may_be_stale = True
        while True:
            serial, names = snapshot.serial, set(snapshot.names)
            try:
                self._take(snapshot, buffers, or_less=True)
                return handles
            except (ModuleMissing, UntrustedValue):
                fewer = True
            except SnapshotRefused as error:
                if not _is_stale(error) or not may_be_stale:
                    raise
                fewer = may_be_stale = False
            kept, buffers = self._kept(serial)
            shown = self.shown(kept.handles)
            self.held.keep(self.held.meet(shown))
            handles += shown
            if kept.snapshot is None:
                return handles
            snapshot = kept.snapshot
            if fewer and not set(snapshot.names) < names:
                raise SnapshotRefused(reason="the worker sent again what was refused")

    def _kept(self, serial: int) -> tuple[Kept, list[memoryview]]:
        return self.wait(lambda m, b: (m, b) if isinstance(m, Kept) and m.serial == serial else None)

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
        names = [n for n in message.names if self.may_fetch and n in self.shell.user_ns]
        self.replica.forget(names)  # it asks: so it has them not, whatever we thought
        export = self.replica.export(self.replica.needed(names))
        parcel = self.ship(export, whole=True)  # the cell that waits for it could not have it sent again
        self._offers[export.snapshot.serial] = export
        self.sent_on_demand += sum(export.sent.values())
        self.on_demand.update(export.sent)
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

    def shown(self, infos: Sequence[HandleInfo]) -> list[HandleInfo]:
        """What is told of values that stayed remote, as far as this end wants to hear it: no names that are not the worker's to bind, and
        no HTML that the notebook would render, where nothing but plain data is trusted."""
        trust = self.replica.trust
        allowed = [info for info in infos if may_bind(info.name, trust) or is_result(info.name)]
        return allowed if trust == "code" else [replace(info, html="") for info in allowed]

    def bind(self, infos: Sequence[HandleInfo], handles: Sequence[Handle]) -> None:
        """Give the names of values that stayed remote their stand-ins."""
        for info, handle in zip(infos, handles):
            self.shell.user_ns[info.name] = handle
        names = [info.name for info in infos]
        if names:
            self.replica.adopt(names)
            self.known.update(names)

    def fetch(self, name: str) -> Any:
        """The value behind a handle, by its key, copied here. Raises what says why it cannot come."""
        with self.lock:
            if not self.alive:
                raise self.lost()
            return fetch(self, name)


def _is_stale(error: JupyterGpuError) -> bool:
    return isinstance(error, SnapshotRefused) and error.reason.startswith(STALE)
