"""The parts of messages: records that are never sent alone."""

# mypy takes the structs for dataclasses, and does not know that msgspec hands "frozen" down.
# mypy: disable-error-code="misc"

from __future__ import annotations

from enum import Enum

import msgspec


class Record(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of the parts of messages that are never sent alone."""


class Versions(Record):
    """What must agree at both ends before a pickle may travel."""

    software: str
    python: str  #: "3.11.7"
    cloudpickle: str
    ipykernel: str = ""
    platform: str = ""


class Wanted(Record):
    """One entry of ``gpu=H100:2,A100``: a type (upper case; "ANY" and "CPU" are types) and how many."""

    type: str
    count: int = 1


class Gpu(Record):
    """One GPU as the gateway's inventory knows it. ``memory`` is in bytes."""

    uuid: str
    type: str  #: short and upper case: "H100"
    name: str  #: as NVML says it: "NVIDIA H100 80GB HBM3"
    memory: int
    index: int = 0
    simulated: bool = False
    session_id: str = ""  #: who has it; empty: free


class SessionState(str, Enum):
    QUEUED = "queued"
    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    IDLE = "idle"
    HIBERNATED = "hibernated"
    LOST = "lost"
    ENDED = "ended"


#: States in which a session can be talked to, and those that it does not come back from.
USABLE = (SessionState.READY, SessionState.BUSY, SessionState.IDLE)
OVER = (SessionState.LOST, SessionState.ENDED)


class SessionInfo(Record):
    """A session as people see it. Times are seconds since the epoch."""

    session_id: str
    key: str
    state: SessionState
    label: str  #: "H100", "2 × H100 (simulated)", "CPU": what the summary line begins with
    created: float
    gpus: list[Gpu] = []
    worker_id: str = ""
    pid: int = 0
    queue_position: int = 0  #: 1 is next; 0 when not queued
    idle: float = 0.0  #: seconds without a cell after which the session ends; 0: never
    versions: Versions | None = None
    reason: str = ""  #: why it is lost or ended
    warm: bool = False  #: a standby worker was taken, none was started


class RingOffer(Record):
    """Where a kernel's shared memory is, for a client on the same host; ``nonce`` is in it too."""

    pid: int
    fd: int
    nonce: bytes


class ErrorRecord(Record):
    """A :class:`jupyter_gpu.wire.errors.JupyterGpuError` on its way."""

    code: str
    fields: dict[str, str | int | float | bool | list[str] | None] = {}


class BufferRef(msgspec.Struct, frozen=True, array_like=True):
    """A buffer of a snapshot. ``inline`` is its position among the buffers of the message that carries the
    snapshot; -1: it is a chunk, known by its digest, that was sent before or that the peer has. ``delta``: the
    buffer itself does not travel; that one tells how it is made (``jupyter_gpu.sync.delta``)."""

    digest: bytes
    size: int
    inline: int = -1
    delta: BufferRef | None = None


class Snapshot(Record):
    """A set of variables, pickled together (one memo), big buffers apart."""

    serial: int
    names: list[str] = []
    deleted: list[str] = []
    stream: BufferRef | None = None  #: the pickle stream; None: no value travels
    buffers: list[BufferRef] = []  #: pickle-5 out-of-band buffers in the order of the stream
    modules: dict[str, str] = {}  #: module -> version ("" unknown) that the stream refers to
    forget: list[int] = []  #: serials of which the sender no longer keeps objects


class CannotTravel(Record):
    """A value that could not be pickled: where, what, why."""

    name: str
    path: str  #: "model.layers[3].lock"
    type: str
    reason: str


class HandleInfo(Record):
    """What the local stand-in shows of a value that stays remote."""

    name: str
    type: str
    text: str
    html: str = ""
    shape: list[int] | None = None
    dtype: str = ""
    device: str = ""
    size: int = -1  #: bytes; -1: unknown
    why: str = ""  #: "keep=", or why it could not come back
    key: str = ""  #: of the value at its kernel, whatever its names; the same for two handles: they are one


class KernelTerms(Record):
    """A session that is a whole kernel: Jupyter's own messages, signed, and no cells of ours."""

    key: str = ""  #: of the signatures; empty: there are none
    scheme: str = "hmac-sha256"
    argv: list[str] = []  #: what to run, with ``{connection_file}`` in it; empty: the worker's own ipykernel
    arguments: list[str] = []  #: for that ipykernel, beside the connection file


class CellNames(Record):
    """Names as compilation shows them (``jupyter_gpu.sync.names``)."""

    loads: list[str] = []
    stores: list[str] = []
    deletes: list[str] = []
    star: bool = False  #: import *, exec, eval, magics: more names may be touched than these


class CellTerms(Record):
    """What a cell's run keeps to, beside its names."""

    keep_above: int = -1  #: bytes beyond which a value that is new to the client stays; -1: none stays for its size
    held: list[str] = []  #: names that the client has, beside those of the snapshot and the stubs
    released: list[str] = []  #: keys of values of which the client has no handle any more
    imports: dict[str, str] = {}  #: top-level module that the code imports -> its version at the client ("": unknown, or none)
    needs: list[str] = []  #: those of ``imports`` without which the code would fail at once
    unsourced: list[str] = []  #: relative paths of local .py files that are gone at the client


class RemoteError(Record):
    """User code failed. ``traceback`` is what IPython would have printed, line by line, with ANSI colours."""

    ename: str
    evalue: str
    traceback: list[str]
    pickled: BufferRef | None = None  #: the exception itself, if it can travel
