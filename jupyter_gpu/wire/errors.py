"""Everything that can go wrong, as a tree.

::

    JupyterGpuError
    ├── UsageError                  the person can mend it by writing something else
    │   ├── UnknownOption           usage.option
    │   ├── BadOptionValue          usage.value
    │   ├── BadHardware             usage.hardware
    │   ├── NoSuchName              usage.name
    │   └── NoSuchHardware          usage.no-such-hardware
    ├── TravelError                 a value or a module cannot go along; nothing ran
    │   ├── ValueCannotTravel       travel.value
    │   ├── ModuleMissing           travel.module
    │   ├── PythonMismatch          travel.python
    │   └── SnapshotRefused         travel.snapshot
    ├── GatewayError                the gateway cannot be used
    │   ├── GatewayUnreachable      gateway.unreachable
    │   ├── GatewayStartFailed      gateway.start
    │   ├── TokenRefused            gateway.token
    │   ├── TokenFileExposed        gateway.token-file
    │   └── ProtocolMismatch        gateway.protocol
    ├── WorkerError                 the worker is gone or never came
    │   ├── WorkerStartFailed       worker.start
    │   ├── WorkerDied              worker.died
    │   ├── SessionLost             worker.lost
    │   ├── SessionNotFound         worker.no-session
    │   ├── CellTimeout             worker.timeout
    │   └── DiskFull                worker.disk
    ├── WireError                   bytes that are not what they should be
    │   ├── FrameTooLarge           wire.too-large
    │   ├── FrameGarbled            wire.garbled
    │   ├── LinkBroken              wire.link
    │   └── SpoolFull               wire.spool
    ├── HandleError                 handle.use: a value that stays remote was used as if it were here
    └── InternalError               internal: no code of its own; the id is in the log

Each class has a stable ``code``, typed fields, a sentence (``__str__``) and a ``hint`` that says what to do.
User code that fails is none of these.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, get_type_hints

import msgspec

from .messages import ErrorRecord

#: What a field of an error may hold.
Field = str | int | float | bool | None | list[str]

#: Travels beside the fields, so that a peer that does not know the code can still show the sentence.
_SENTENCE = "_sentence"


@dataclass(kw_only=True, eq=False)
class JupyterGpuError(Exception):
    """Root of the tree. ``code`` is stable; the text is not."""

    code: ClassVar[str] = ""

    @property
    def sentence(self) -> str:
        """What is wrong, in one sentence (more where there is more to list)."""
        return "Something went wrong."

    @property
    def hint(self) -> str:
        """What to do about it; may be empty."""
        return ""

    def __str__(self) -> str:
        return f"{self.sentence} {self.hint}".rstrip()

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own would call the class with positional arguments.
        return _rebuild, (type(self), self.fields())

    def fields(self) -> dict[str, Field]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def to_record(self) -> ErrorRecord:
        return ErrorRecord(code=self.code, fields={**self.fields(), _SENTENCE: str(self)})

    def _render_traceback_(self) -> list[str]:
        """IPython shows this instead of a traceback: the frames would be ours, and tell a person nothing."""
        lines = [f"\x1b[0;31m{type(self).__name__}\x1b[0m: {self.sentence}"]
        if self.hint:
            lines.append(self.hint)
        return lines


def _rebuild(kind: type[JupyterGpuError], fields: dict[str, Field]) -> JupyterGpuError:
    return kind(**fields)


def _listed(items: list[str]) -> str:
    return ", ".join(items)


def _because(reason: str) -> str:
    """``reason`` as the end of a sentence."""
    return f": {reason.rstrip('.')}." if reason else "."


# ---------------------------------------------------------------- usage


class UsageError(JupyterGpuError):
    """The person can mend it by writing something else."""


@dataclass(kw_only=True, eq=False)
class UnknownOption(UsageError):
    code = "usage.option"
    option: str
    nearest: str = ""
    known: list[str] = dataclasses.field(default_factory=list)

    @property
    def sentence(self) -> str:
        return f"There is no option {self.option!r}."

    @property
    def hint(self) -> str:
        if self.nearest:
            return f"Did you mean {self.nearest!r}?"
        return f"The options are: {_listed(self.known)}." if self.known else "`%remote?` lists the options."


@dataclass(kw_only=True, eq=False)
class BadOptionValue(UsageError):
    code = "usage.value"
    option: str
    value: str
    expected: str

    @property
    def sentence(self) -> str:
        return f"{self.option}={self.value} cannot be used."

    @property
    def hint(self) -> str:
        return f"Expected {self.expected.rstrip('.')}."


@dataclass(kw_only=True, eq=False)
class BadHardware(UsageError):
    code = "usage.hardware"
    text: str
    reason: str

    @property
    def sentence(self) -> str:
        return f"gpu={self.text} cannot be read{_because(self.reason)}"

    @property
    def hint(self) -> str:
        return "Write a type, or several in order of preference: gpu=H100, gpu=H100:2, gpu=H100,A100, gpu=any or gpu=cpu."


@dataclass(kw_only=True, eq=False)
class NoSuchName(UsageError):
    code = "usage.name"
    name: str
    option: str = ""
    nearest: str = ""

    @property
    def sentence(self) -> str:
        where = f", which {self.option}= asks for" if self.option else ""
        return f"There is no variable {self.name!r}{where}."

    @property
    def hint(self) -> str:
        return f"Did you mean {self.nearest!r}?" if self.nearest else "Define it first, or leave the name out."


@dataclass(kw_only=True, eq=False)
class NoSuchHardware(UsageError):
    """``wanted`` and ``available`` are short texts such as "H100:2" and "2 × A100"."""

    code = "usage.no-such-hardware"
    wanted: list[str]
    available: list[str] = dataclasses.field(default_factory=list)

    @property
    def sentence(self) -> str:
        there = _listed(self.available) if self.available else "no GPU at all"
        return f"The gateway has no {' or '.join(self.wanted)}. It has: {there}."

    @property
    def hint(self) -> str:
        if self.available:
            return "Ask for one of these, or for gpu=any."
        return "Use gpu=cpu, or point JUPYTER_GPU_GATEWAY at a gateway that has GPUs."


# ---------------------------------------------------------------- travel


class TravelError(JupyterGpuError):
    """A value or a module cannot go along; nothing ran."""


@dataclass(kw_only=True, eq=False)
class ValueCannotTravel(TravelError):
    """``path`` leads to the culprit inside the variable ("model.layers[3].lock"); ``others`` are further paths."""

    code = "travel.value"
    name: str
    path: str
    type: str
    reason: str = ""
    others: list[str] = dataclasses.field(default_factory=list)

    @property
    def sentence(self) -> str:
        inside = "" if self.path in ("", self.name) else f" because of {self.path}"
        text = f"The variable {self.name!r} cannot be sent{inside} (a {self.type}){_because(self.reason)}"
        if self.others:
            text += f" Nor can: {_listed(self.others)}."
        return text

    @property
    def hint(self) -> str:
        return "Nothing ran. Create it inside the remote cell, or name in in= only what the cell needs."


@dataclass(kw_only=True, eq=False)
class ModuleMissing(TravelError):
    """``here`` and ``there`` are versions; ``there`` is empty where the module is missing altogether."""

    code = "travel.module"
    module: str
    here: str = ""
    there: str = ""

    @property
    def sentence(self) -> str:
        here = f" {self.here}" if self.here else ""
        if self.there:
            return f"The worker has {self.module} {self.there}, but a variable was made with {self.module}{here}."
        return f"The worker has no module {self.module!r}, which a variable needs (here it is {self.module}{here})."

    @property
    def hint(self) -> str:
        version = f"=={self.here}" if self.here else ""
        return f"Nothing ran. Install it there: `%pip install {self.module.split('.')[0]}{version}` in a remote cell."


@dataclass(kw_only=True, eq=False)
class PythonMismatch(TravelError):
    """``what`` is "Python", "cloudpickle", ..."""

    code = "travel.python"
    what: str
    here: str
    there: str

    @property
    def sentence(self) -> str:
        return f"The worker runs {self.what} {self.there}, this notebook {self.what} {self.here}: variables cannot go between them."

    @property
    def hint(self) -> str:
        return f"Nothing ran. Start the notebook with {self.what} {self.there}, or the worker with {self.what} {self.here}."


@dataclass(kw_only=True, eq=False)
class SnapshotRefused(TravelError):
    code = "travel.snapshot"
    reason: str

    @property
    def sentence(self) -> str:
        return f"The variables could not be taken over{_because(self.reason)}"

    @property
    def hint(self) -> str:
        return "No variable was changed. Run the cell again; `%remote stop` first gives you a fresh session."


# ---------------------------------------------------------------- gateway


class GatewayError(JupyterGpuError):
    """The gateway cannot be used."""


@dataclass(kw_only=True, eq=False)
class GatewayUnreachable(GatewayError):
    code = "gateway.unreachable"
    url: str
    reason: str = ""

    @property
    def sentence(self) -> str:
        return f"The gateway at {self.url} cannot be reached{_because(self.reason)}"

    @property
    def hint(self) -> str:
        return "Is it running, and is JUPYTER_GPU_GATEWAY right? Without that variable a gateway of your own is started."


@dataclass(kw_only=True, eq=False)
class GatewayStartFailed(GatewayError):
    code = "gateway.start"
    reason: str
    log: str = ""

    @property
    def sentence(self) -> str:
        return f"No gateway could be started{_because(self.reason)}"

    @property
    def hint(self) -> str:
        return f"Its log: {self.log}" if self.log else "`jupyter gpu gateway` starts one in a terminal and shows what it says."


@dataclass(kw_only=True, eq=False)
class TokenRefused(GatewayError):
    code = "gateway.token"
    url: str

    @property
    def sentence(self) -> str:
        return f"The gateway at {self.url} did not accept the token."

    @property
    def hint(self) -> str:
        return "Set JUPYTER_GPU_TOKEN to the token that the gateway was started with."


@dataclass(kw_only=True, eq=False)
class TokenFileExposed(GatewayError):
    """``mode`` as in ``ls``: octal, "0644"."""

    code = "gateway.token-file"
    path: str
    mode: str

    @property
    def sentence(self) -> str:
        return f"Others can read {self.path} (mode {self.mode}), and with the token in it run code as you."

    @property
    def hint(self) -> str:
        return f"Delete it, or `chmod go-rwx {self.path}` if you trust everybody who could have read it."


@dataclass(kw_only=True, eq=False)
class ProtocolMismatch(GatewayError):
    """``here`` and ``there`` are the protocols spoken."""

    code = "gateway.protocol"
    here: str
    there: str

    @property
    def sentence(self) -> str:
        return f"The gateway speaks {self.there or 'another protocol'}, this side {self.here}."

    @property
    def hint(self) -> str:
        return "Install the same release of jupyter-gpu at both ends."


# ---------------------------------------------------------------- worker


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
        return f"The worker did not start ({self.phase}){_because(self.reason)}"

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
        return f"The remote kernel {how} in mid-cell{_because(self.detail)}"

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
        return f"The session {self.session} is lost{_because(self.reason)}"

    @property
    def hint(self) -> str:
        return "Your local variables are as they were; the next remote cell starts a new session."


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
    """``needed`` in bytes."""

    code = "worker.disk"
    path: str
    needed: int
    reason: str = ""

    @property
    def sentence(self) -> str:
        return f"{self.needed:,} bytes could not be written to {self.path}{_because(self.reason)}"

    @property
    def hint(self) -> str:
        return "Free some space there, or point TMPDIR at a disk that has it."


# ---------------------------------------------------------------- wire


class WireError(JupyterGpuError):
    """Bytes that are not what they should be."""


@dataclass(kw_only=True, eq=False)
class FrameTooLarge(WireError):
    """Both in bytes."""

    code = "wire.too-large"
    size: int
    limit: int

    @property
    def sentence(self) -> str:
        return f"A message of {self.size:,} bytes is larger than the limit of {self.limit:,}."

    @property
    def hint(self) -> str:
        return "Keep the value remote with keep=, or send it in parts."


@dataclass(kw_only=True, eq=False)
class FrameGarbled(WireError):
    code = "wire.garbled"
    reason: str

    @property
    def sentence(self) -> str:
        return f"What came over the connection cannot be read{_because(self.reason)}"

    @property
    def hint(self) -> str:
        return "Is it a jupyter-gpu of the same release at the other end, and no proxy in between that changes bytes?"


@dataclass(kw_only=True, eq=False)
class LinkBroken(WireError):
    code = "wire.link"
    reason: str

    @property
    def sentence(self) -> str:
        return f"The link to the worker cannot be resumed{_because(self.reason)}"

    @property
    def hint(self) -> str:
        return "Run the cell again: it gets a new session."


@dataclass(kw_only=True, eq=False)
class SpoolFull(WireError):
    """``limit`` in bytes."""

    code = "wire.spool"
    limit: int

    @property
    def sentence(self) -> str:
        return f"More than {self.limit:,} bytes wait for the other end, which does not take them."

    @property
    def hint(self) -> str:
        return "Check the connection; print or send less at once."


# ---------------------------------------------------------------- the rest


@dataclass(kw_only=True, eq=False)
class HandleError(JupyterGpuError):
    """``action`` completes "cannot be ...": "added to", "iterated over"."""

    code = "handle.use"
    name: str
    action: str

    @property
    def sentence(self) -> str:
        return f"{self.name!r} stayed on the worker and cannot be {self.action} here."

    @property
    def hint(self) -> str:
        return f"Use it in a %%remote cell, or bring it here with {self.name}.fetch()."


@dataclass(kw_only=True, eq=False)
class InternalError(JupyterGpuError):
    code = "internal"
    id: str = ""
    text: str = ""

    @property
    def sentence(self) -> str:
        return f"Internal error{_because(self.text)}"

    @property
    def hint(self) -> str:
        return f"This is a fault of jupyter-gpu. Please report it with the lines of the log that carry the id {self.id}." if self.id else ""


def _leaves(kind: type[JupyterGpuError]) -> list[type[JupyterGpuError]]:
    below = [leaf for child in kind.__subclasses__() for leaf in _leaves(child)]
    return [kind, *below] if kind.code else below


#: code -> class, for every class that has a code.
BY_CODE: dict[str, type[JupyterGpuError]] = {kind.code: kind for kind in _leaves(JupyterGpuError)}


def from_record(record: ErrorRecord) -> JupyterGpuError:
    """The error that ``record`` was made of. An unknown code, or fields that do not fit, give ``InternalError``
    with the peer's sentence: a newer peer must not turn its error into one of ours."""
    kind = BY_CODE.get(record.code)
    if kind is not None:
        hints = get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind) if field.name in record.fields]
        try:
            return kind(**{name: msgspec.convert(record.fields[name], hints[name]) for name in names})
        except (TypeError, msgspec.ValidationError):  # a field is missing, or of another type
            pass
    told = record.fields.get(_SENTENCE) or ", ".join(f"{name}={value}" for name, value in record.fields.items())
    return InternalError(text=f"{str(told).rstrip('.')} [{record.code}]")
