"""What the fleet is told, and what it decides: see ``state.Fleet``."""

from __future__ import annotations

from dataclasses import dataclass

from jupyter_gpu.wire.errors import JupyterGpuError
from jupyter_gpu.wire.messages import Versions, Wanted

# ---------------------------------------------------------------- events


@dataclass(frozen=True)
class Opened:
    session_id: str
    key: str
    wanted: tuple[Wanted, ...]
    interpreter: str = ""
    idle: float = 0.0
    alone: float = -1.0  #: -1: what holds for all


@dataclass(frozen=True)
class Restarted:
    """The session keeps its hardware and gets a worker that nothing ran on."""

    session_id: str


@dataclass(frozen=True)
class Stopped:
    session_id: str
    kill: bool = False
    reason: str = "stopped"


@dataclass(frozen=True)
class WorkerReady:
    worker_id: str
    versions: Versions | None = None
    pid: int = 0


@dataclass(frozen=True)
class WorkerBack:
    """The worker of a session dialled in again: after a cut, or to a gateway that was restarted. What it said meanwhile is lost."""

    worker_id: str
    versions: Versions | None
    pid: int
    busy: bool


@dataclass(frozen=True)
class WorkerAssigned:
    worker_id: str


@dataclass(frozen=True)
class WorkerGone:
    worker_id: str
    error: JupyterGpuError | None = None


@dataclass(frozen=True)
class Activity:
    session_id: str
    busy: bool


@dataclass(frozen=True)
class Clients:
    """How many clients are connected to a session."""

    session_id: str
    count: int


@dataclass(frozen=True)
class Tick:
    """Time went by."""


@dataclass(frozen=True)
class Warm:
    """Keep standby workers of this interpreter from here on."""

    interpreter: str


Event = Opened | Restarted | Stopped | WorkerReady | WorkerBack | WorkerAssigned | WorkerGone | Activity | Clients | Tick | Warm


# ---------------------------------------------------------------- instructions


@dataclass(frozen=True)
class StartWorker:
    worker_id: str
    interpreter: str


@dataclass(frozen=True)
class AssignWorker:
    worker_id: str
    session_id: str


@dataclass(frozen=True)
class ReleaseWorker:
    worker_id: str
    kill: bool


@dataclass(frozen=True)
class Changed:
    """Tell the clients of a session, and the store."""

    session_id: str


@dataclass(frozen=True)
class Ended:
    """Tell the clients of a session that it is over, and why."""

    session_id: str
    error: JupyterGpuError


Instruction = StartWorker | AssignWorker | ReleaseWorker | Changed | Ended
