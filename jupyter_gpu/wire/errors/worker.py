"""A worker that is gone or never came."""

from __future__ import annotations

from dataclasses import dataclass

from .base import JupyterGpuError, because


class WorkerError(JupyterGpuError):
    """The worker is gone or never came."""


@dataclass(kw_only=True, eq=False)
class WorkerStartFailed(WorkerError):
    code = "worker.start"
    phase: str
    reason: str
    log: str = ""

    @property
    def sentence(self) -> str:
        return f"The worker did not start ({self.phase}){because(self.reason)}"

    @property
    def hint(self) -> str:
        return f"Its log: {self.log}" if self.log else "Run the cell again to try once more."


@dataclass(kw_only=True, eq=False)
class WorkerDied(WorkerError):
    """``exit`` as in ``os.waitstatus_to_exitcode``: negative is a signal."""

    code = "worker.died"
    exit: int
    detail: str = ""

    @property
    def sentence(self) -> str:
        how = f"was killed by signal {-self.exit}" if self.exit < 0 else f"exited with status {self.exit}"
        return f"The remote kernel {how} in mid-cell{because(self.detail)}"

    @property
    def hint(self) -> str:
        if self.exit == -9:
            return "Signal 9 often means out of memory. Your local variables are as they were; the next cell gets a new worker."
        return "Your local variables are as they were; the next remote cell gets a new worker."


@dataclass(kw_only=True, eq=False)
class SessionLost(WorkerError):
    code = "worker.lost"
    session: str
    reason: str = ""

    @property
    def sentence(self) -> str:
        return f"The session {self.session} is lost{because(self.reason)}"

    @property
    def hint(self) -> str:
        return "Your local variables are as they were; the next remote cell starts a new session."


@dataclass(kw_only=True, eq=False)
class KernelLost(WorkerError):
    """A whole kernel is gone, and all that was in it."""

    code = "worker.kernel-lost"
    reason: str = ""

    @property
    def sentence(self) -> str:
        return f"The remote kernel is gone{because(self.reason)}"

    @property
    def hint(self) -> str:
        return "Its variables went with it; a kernel that is started in its place begins with an empty namespace."


@dataclass(kw_only=True, eq=False)
class SessionNotFound(WorkerError):
    code = "worker.no-session"
    session: str

    @property
    def sentence(self) -> str:
        return f"The gateway knows no session {self.session}."

    @property
    def hint(self) -> str:
        return "It has ended; the next remote cell starts a new one. `%remote status` lists those there are."


@dataclass(kw_only=True, eq=False)
class CellTimeout(WorkerError):
    code = "worker.timeout"
    seconds: float

    @property
    def sentence(self) -> str:
        return f"The cell was stopped: it ran longer than timeout={self.seconds:g} seconds."

    @property
    def hint(self) -> str:
        return "Give it more time with timeout=, or none at all by leaving that out."


@dataclass(kw_only=True, eq=False)
class DiskFull(WorkerError):
    """``needed`` in bytes; 0: unknown."""

    code = "worker.disk"
    path: str
    needed: int
    reason: str = ""

    @property
    def sentence(self) -> str:
        what = f"{self.needed:,} bytes" if self.needed else "What is needed"
        return f"{what} could not be written to {self.path}{because(self.reason)}"

    @property
    def hint(self) -> str:
        return "Free some space there, or point TMPDIR at a disk that has it."
