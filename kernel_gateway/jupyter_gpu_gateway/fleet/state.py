"""Which sessions and workers should exist: pure, events in and instructions out. No clock, no I/O.

``TRANSITIONS`` is the life of a session; everything else here decides when to take which of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from jupyter_gpu.wire.errors import JupyterGpuError, SessionLost
from jupyter_gpu.wire.messages import Gpu, SessionState

from .events import (
    Activity,
    AssignWorker,
    Changed,
    Clients,
    Ended,
    Event,
    Instruction,
    Opened,
    ReleaseWorker,
    Restarted,
    StartWorker,
    Stopped,
    Tick,
    Warm,
    WorkerAssigned,
    WorkerBack,
    WorkerGone,
    WorkerReady,
)
from .hardware import choose, describe, impossible, kept_for, owned
from .records import Session, Worker

__all__ = [
    "TRANSITIONS",
    "USABLE",
    "Activity",
    "AssignWorker",
    "Changed",
    "Clients",
    "Ended",
    "Event",
    "Fleet",
    "Instruction",
    "Opened",
    "ReleaseWorker",
    "Restarted",
    "Session",
    "StartWorker",
    "Stopped",
    "Tick",
    "Warm",
    "Worker",
    "WorkerAssigned",
    "WorkerBack",
    "WorkerGone",
    "WorkerReady",
]

S = SessionState

#: (state, what happened) -> state. What is not listed changes nothing.
TRANSITIONS: dict[tuple[SessionState, str], SessionState] = {
    (S.QUEUED, "hardware free"): S.STARTING,
    (S.STARTING, "assigned"): S.READY,
    (S.STARTING, "worker gone"): S.QUEUED,
    (S.READY, "busy"): S.BUSY,
    (S.IDLE, "busy"): S.BUSY,
    (S.BUSY, "idle"): S.IDLE,
    (S.READY, "worker gone"): S.LOST,
    (S.IDLE, "worker gone"): S.LOST,
    (S.BUSY, "worker gone"): S.LOST,
    (S.READY, "restart"): S.STARTING,
    (S.IDLE, "restart"): S.STARTING,
    (S.BUSY, "restart"): S.STARTING,
    (S.QUEUED, "stop"): S.ENDED,
    (S.STARTING, "stop"): S.ENDED,
    (S.READY, "stop"): S.ENDED,
    (S.IDLE, "stop"): S.ENDED,
    (S.BUSY, "stop"): S.ENDED,
    (S.STARTING, "failed"): S.ENDED,
}
#: A client can be connected to it.
USABLE = frozenset({S.READY, S.BUSY, S.IDLE})

#: Workers of a session that died before it was ready, after which trying again is no use.
_MOST_FAILURES = 2


class Fleet:
    """``handle(event, now)`` -> instructions. ``standby``: workers kept warm per interpreter; ``alone``: seconds after which a session
    without a client ends (0: never); ``new_id`` names workers."""

    def __init__(self, gpus: Iterable[Gpu], *, standby: int, alone: float, new_id: Callable[[], str]) -> None:
        self.gpus = list(gpus)
        self.sessions: dict[str, Session] = {}  #: those that are alive; one that is over is gone from here
        self.workers: dict[str, Worker] = {}
        self.standby = standby
        self.alone = alone
        self._new_id = new_id
        self._warm: dict[str, None] = {}
        self._out: list[Instruction] = []
        self._now = 0.0

    def handle(self, event: Event, now: float) -> list[Instruction]:
        self._now = now
        self._out = []
        _HANDLERS[type(event)](self, event)
        return self._out

    def find(self, key: str) -> Session | None:
        """The session of this key that is alive."""
        return next((s for s in self.sessions.values() if s.key == key), None)

    def queue(self) -> list[Session]:
        """Sessions that wait for hardware, the longest first."""
        return [s for s in self.sessions.values() if s.state == S.QUEUED]

    def inventory(self) -> list[Gpu]:
        """All GPUs, with who has them."""
        owners = {g.uuid: s.session_id for s in self.sessions.values() for g in s.gpus}
        return [owned(g, owners.get(g.uuid, "")) for g in self.gpus]

    # ------------------------------------------------------------ events

    def _opened(self, event: Opened) -> None:
        wanted = [w for w in event.wanted if w.count > 0]
        missing = impossible(self.gpus, wanted)
        if missing is not None:
            self._out.append(Ended(event.session_id, missing))
            return
        self.sessions[event.session_id] = Session(
            event.session_id,
            event.key,
            wanted,
            self._now,
            event.interpreter,
            event.idle,
            event.alone,
            active=self._now,
            alone_since=self._now,
        )
        self._warm.setdefault(event.interpreter)
        self._place()

    def _restarted(self, event: Restarted) -> None:
        session = self.sessions.get(event.session_id)
        if session is None or (session.state, "restart") not in TRANSITIONS:
            return  # it has yet to get its first worker, on which nothing ran either
        before = self.workers.get(session.worker_id)
        if before is not None:
            before.session_id = "-"
            self._out.append(ReleaseWorker(before.worker_id, kill=False))
        session.failures = 0
        self._move(session, "restart")
        self._give_worker(session)
        self._place()

    def _stopped(self, event: Stopped) -> None:
        session = self.sessions.get(event.session_id)
        if session is not None:
            self._end(session, "stop", SessionLost(session=session.session_id, reason=event.reason), kill=event.kill)

    def _worker_ready(self, event: WorkerReady) -> None:
        worker = self.workers.get(event.worker_id)
        if worker is None or worker.session_id not in ("", *self.sessions):
            self._out.append(ReleaseWorker(event.worker_id, kill=True))  # of an earlier life, or its session is over
            return
        worker.ready, worker.versions, worker.pid = True, event.versions, event.pid
        if worker.session_id:
            self._assign(worker)
        else:
            self._place()

    def _worker_back(self, event: WorkerBack) -> None:
        worker, session = self.workers.get(event.worker_id), self._session_of(event.worker_id)
        if worker is None or session is None:
            return
        worker.ready, worker.versions, worker.pid = True, event.versions, event.pid
        session.versions, session.pid = event.versions, event.pid
        self._move(session, "assigned")  # if that was what got lost
        self._became(session, event.busy)

    def _worker_assigned(self, event: WorkerAssigned) -> None:
        session = self._session_of(event.worker_id)
        if session is not None:
            self._move(session, "assigned")
            session.active = self._now

    def _worker_gone(self, event: WorkerGone) -> None:
        worker = self.workers.pop(event.worker_id, None)
        if worker is None:
            return
        session = self.sessions.get(worker.session_id)
        error = event.error or SessionLost(session=worker.session_id, reason="its worker is gone")
        if session is None:
            if not worker.ready and not worker.session_id:
                self._warm.pop(worker.interpreter, None)  # it never came up: to keep on trying would go on for ever
        elif session.state == S.STARTING:
            session.failures += 1
            session.worker_id, session.gpus = "", []
            if session.failures >= _MOST_FAILURES:
                self._end(session, "failed", error)
            else:
                self._move(session, "worker gone")
        else:
            self._end(session, "worker gone", error)
        self._place()

    def _activity(self, event: Activity) -> None:
        session = self.sessions.get(event.session_id)
        if session is not None:
            self._became(session, event.busy)

    def _became(self, session: Session, busy: bool) -> None:
        if self._move(session, "busy" if busy else "idle"):
            session.active = self._now

    def _clients(self, event: Clients) -> None:
        session = self.sessions.get(event.session_id)
        if session is not None:
            session.clients, session.alone_since = event.count, self._now

    def _tick(self, event: Tick) -> None:
        for session in list(self.sessions.values()):
            reason = self._overdue(session)
            if reason:
                self._end(session, "stop", SessionLost(session=session.session_id, reason=reason))
        self._place()

    def _overdue(self, session: Session) -> str:
        at_rest = session.state in (S.READY, S.IDLE) and self.workers[session.worker_id].ready  # else nobody knows what it is at
        if session.idle and at_rest and self._now - session.active >= session.idle:
            return f"no cell ran for {session.idle:g} seconds (idle=)"
        alone = self.alone if session.alone < 0 else session.alone
        if alone and not session.clients and self._now - session.alone_since >= alone:
            return f"no notebook was connected for {alone:g} seconds"
        return ""

    def _on_warm(self, event: Warm) -> None:
        self._warm.setdefault(event.interpreter)
        self._place()

    # ------------------------------------------------------------ placement

    def describe(self) -> list[str]:
        """ "2 × H100 (simulated)", ..., "CPU": what can be asked for."""
        return describe(self.gpus)

    def _place(self) -> None:
        """Give hardware and workers to those that wait, first come first served, and keep the standby pool full. One that must go on
        waiting keeps what is free of it: who comes later gets only what it cannot use."""
        free = [g for g in self.inventory() if not g.session_id]
        for session in self.queue():
            gpus = choose(free, session.wanted)
            taken = kept_for(self.gpus, free, session.wanted) if gpus is None else {g.uuid for g in gpus}
            free = [g for g in free if g.uuid not in taken]
            if gpus is None:
                continue
            session.position = 0
            session.gpus = [owned(g, session.session_id) for g in gpus]
            session.state = TRANSITIONS[(session.state, "hardware free")]
            self._give_worker(session)
        for position, session in enumerate(self.queue(), 1):
            if session.position != position:
                session.position = position
                self._out.append(Changed(session.session_id))
        for interpreter in self._warm:
            for _ in range(self.standby - sum(1 for w in self.workers.values() if w.interpreter == interpreter and not w.session_id)):
                self._start(interpreter)

    def _give_worker(self, session: Session) -> None:
        worker = self._standby_of(session.interpreter)
        session.warm = worker is not None and worker.ready
        if worker is None:
            worker = self._start(session.interpreter)
        worker.session_id, session.worker_id = session.session_id, worker.worker_id
        self._out.append(Changed(session.session_id))
        if worker.ready:
            self._assign(worker)

    def _standby_of(self, interpreter: str) -> Worker | None:
        idle = [w for w in self.workers.values() if w.interpreter == interpreter and not w.session_id]
        return next((w for w in idle if w.ready), idle[0] if idle else None)

    def _start(self, interpreter: str) -> Worker:
        worker = Worker(self._new_id(), interpreter)
        self.workers[worker.worker_id] = worker
        self._out.append(StartWorker(worker.worker_id, interpreter))
        return worker

    def _assign(self, worker: Worker) -> None:
        session = self.sessions[worker.session_id]
        session.versions, session.pid = worker.versions, worker.pid
        self._out.append(AssignWorker(worker.worker_id, session.session_id))

    # ------------------------------------------------------------ ends

    def _session_of(self, worker_id: str) -> Session | None:
        worker = self.workers.get(worker_id)
        return None if worker is None else self.sessions.get(worker.session_id)

    def _move(self, session: Session, what: str) -> bool:
        """Whether that changed anything."""
        after = TRANSITIONS.get((session.state, what))
        if after is None:
            return False
        session.state = after
        self._out.append(Changed(session.session_id))
        return True

    def _end(self, session: Session, what: str, error: JupyterGpuError, *, kill: bool = False) -> None:
        worker_id, session.worker_id, session.gpus = session.worker_id, "", []
        session.reason = error.sentence
        session.state = TRANSITIONS[(session.state, what)]
        self._out.append(Ended(session.session_id, error))
        del self.sessions[session.session_id]
        worker = self.workers.get(worker_id)
        if worker is not None:
            worker.session_id = "-"  # serves one session, and dies
            self._out.append(ReleaseWorker(worker_id, kill))
        self._place()


_HANDLERS: dict[type, Callable[[Fleet, object], None]] = {
    Opened: Fleet._opened,  # type: ignore[dict-item]
    Restarted: Fleet._restarted,  # type: ignore[dict-item]
    Stopped: Fleet._stopped,  # type: ignore[dict-item]
    WorkerReady: Fleet._worker_ready,  # type: ignore[dict-item]
    WorkerBack: Fleet._worker_back,  # type: ignore[dict-item]
    WorkerAssigned: Fleet._worker_assigned,  # type: ignore[dict-item]
    WorkerGone: Fleet._worker_gone,  # type: ignore[dict-item]
    Activity: Fleet._activity,  # type: ignore[dict-item]
    Clients: Fleet._clients,  # type: ignore[dict-item]
    Tick: Fleet._tick,  # type: ignore[dict-item]
    Warm: Fleet._on_warm,  # type: ignore[dict-item]
}
