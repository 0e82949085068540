"""What the fleet remembers of each session and each worker."""

from __future__ import annotations

from dataclasses import dataclass, field

from jupyter_gpu.wire.messages import Gpu, SessionState, Versions, Wanted


@dataclass
class Session:
    """Times in seconds of the caller's clock."""

    session_id: str
    key: str
    wanted: list[Wanted]
    created: float
    interpreter: str = ""
    idle: float = 0.0
    alone: float = -1.0  #: seconds without a client; -1: what holds for all
    state: SessionState = SessionState.QUEUED
    gpus: list[Gpu] = field(default_factory=list)
    worker_id: str = ""
    active: float = 0.0
    clients: int = 0
    alone_since: float = 0.0
    failures: int = 0
    position: int = 0  #: in the queue, from 1; 0: not in it
    warm: bool = False
    reason: str = ""
    versions: Versions | None = None
    pid: int = 0


@dataclass
class Worker:
    """``ready``: it has dialled in. ``session_id``: whose it is; empty: it stands by."""

    worker_id: str
    interpreter: str
    ready: bool = False
    session_id: str = ""
    versions: Versions | None = None
    pid: int = 0
