"""The messages that travel between client, gateway, agent and kernel.

Each message is a frozen :class:`msgspec.Struct`, tagged with its class name. Bytes that are large or many
travel beside the message as out-of-band buffers (see :mod:`jupyter_gpu.wire.codec`); a struct refers to
them by position, never by value.

Who speaks what::

    client  <-> gateway   RPC websocket          Hello ... Failed, SessionChanged
    client  <-> gateway   link websocket         notices (PeerAttached ...) beside opaque link frames
    agent   <-> gateway   worker websocket       WorkerHello, Assign, Release beside opaque link frames
    client  <-> agent     link, CONTROL lane     Interrupt, KernelExited
    client  <-> kernel    link, DATA lane        KernelHello, RunCell ... CellDone, Jupyter, Chunk ...
"""

# mypy takes the structs for dataclasses, and does not know that msgspec hands "frozen" down.
# mypy: disable-error-code="misc"
from __future__ import annotations

import msgspec

from .records import OVER as OVER
from .records import USABLE as USABLE
from .records import BufferRef as BufferRef
from .records import CannotTravel as CannotTravel
from .records import CellNames as CellNames
from .records import CellTerms as CellTerms
from .records import ErrorRecord as ErrorRecord
from .records import Gpu as Gpu
from .records import HandleInfo as HandleInfo
from .records import KernelTerms as KernelTerms
from .records import Record as Record
from .records import RemoteError as RemoteError
from .records import RingOffer as RingOffer
from .records import SessionInfo as SessionInfo
from .records import SessionState as SessionState
from .records import Snapshot as Snapshot
from .records import Versions as Versions
from .records import Wanted as Wanted

#: Spoken by this release. A peer of another number is refused with both numbers in the error.
PROTOCOL = 1


class Message(msgspec.Struct, frozen=True, tag=True, omit_defaults=True, kw_only=True):
    """Base of everything that is sent."""


# ---------------------------------------------------------------- RPC: client <-> gateway


class Hello(Message):
    """First message on the RPC websocket."""

    protocol: int
    versions: Versions


class Welcome(Message):
    protocol: int
    software: str
    gateway_id: str
    own: bool  #: a gateway of the user's own: paths and interpreters of this machine mean the same there
    simulated: bool = False


class OpenSession(Message):
    """Find the session of this key, or create it. Answered at once by ``Opened``; progress by ``SessionChanged``."""

    id: int
    key: str
    wanted: list[Wanted]
    idle: float = 0.0
    cwd: str = ""  #: honoured by a gateway of the user's own only
    interpreter: str = ""  #: likewise: the Python to run in; empty: the gateway's
    env: dict[str, str] = {}
    owner: str = ""  #: whom status shows: notebook name or path
    kernel: KernelTerms | None = None  #: a whole kernel instead of cells
    anew: bool = False  #: a session that exists keeps its hardware and gets a fresh kernel, with the terms of this message
    alone: float = -1.0  #: seconds without a client after which the session ends; -1: the gateway's own, 0: never


class Opened(Message):
    id: int
    session: SessionInfo
    created: bool


class SessionChanged(Message):
    """Pushed to the clients that opened the session, at each change of state. ``error``: why it is over."""

    session: SessionInfo
    error: ErrorRecord | None = None


class ListSessions(Message):
    id: int


class Sessions(Message):
    id: int
    sessions: list[SessionInfo]


class StopSession(Message):
    id: int
    session_id: str
    kill: bool = False  #: at once (SIGKILL) instead of after the kernel was asked


class GetInventory(Message):
    id: int


class Inventory(Message):
    id: int
    gpus: list[Gpu]
    warnings: list[str] = []


class Done(Message):
    id: int


class Failed(Message):
    """An answer that is an error. ``id`` 0: no request caused it, and the connection closes after it."""

    id: int
    error: ErrorRecord


# ---------------------------------------------------------------- notices beside a link, from the gateway


class PeerAttached(Message):
    """The other end's websocket is connected: begin to resume."""


class PeerDetached(Message):
    reason: str = ""


class SessionEnded(Message):
    error: ErrorRecord


# ---------------------------------------------------------------- agent <-> gateway


class WorkerHello(Message):
    protocol: int
    worker_id: str
    pid: int  #: of the agent
    kernel_pid: int
    versions: Versions
    session_id: str = ""  #: set when it comes back after a cut
    busy: bool = False  #: a cell runs; an ``Activity`` that was lost with the connection is made up for


class Assign(Message):
    """The worker belongs to this session from here on."""

    session_id: str
    env: dict[str, str] = {}  #: CUDA_VISIBLE_DEVICES and the like, set before anything can initialise CUDA
    cwd: str = ""
    label: str = ""
    kernel: KernelTerms | None = None


class Assigned(Message):
    session_id: str


class Release(Message):
    """End: the kernel is asked to shut down (``kill``: is killed), then the agent exits."""

    kill: bool = False


class Activity(Message):
    """Agent to gateway: the kernel became busy or idle. All that the gateway knows about cells."""

    busy: bool


class WorkerFailed(Message):
    error: ErrorRecord


# ---------------------------------------------------------------- client <-> agent, CONTROL lane


class Interrupt(Message):
    """SIGINT to the kernel's process group; with a ``run_id``, to that cell alone, even if it overtakes it or comes when it is over.
    ``number``: another signal, for a whole kernel."""

    run_id: str = ""
    number: int = 2


class KernelExited(Message):
    """The kernel process is gone. ``code`` as in ``os.waitstatus_to_exitcode``: negative is a signal."""

    code: int
    detail: str = ""


# ---------------------------------------------------------------- client <-> kernel, DATA lane


class KernelHello(Message):
    """The kernel's first message on a link."""

    pid: int
    versions: Versions
    cwd: str
    ring: RingOffer | None = None
    shared: bool = False  #: sessions of that machine share large chunks: an ``Offer`` by BLAKE3 may save sending them
    whole: bool = False  #: from the agent: a whole kernel can be talked to


class RunCell(Message):
    """Apply ``snapshot``, run ``code`` as a real cell, send back what changed.

    Outputs come as ``Jupyter`` messages (iopub and stdin), whose parent msg_id is ``run_id``; the last message is
    ``CellDone``. status, execute_input and execute_reply are not sent: ``CellDone`` says all of it.
    """

    run_id: str
    code: str
    execution_count: int
    silent: bool = False
    store_history: bool = True
    allow_stdin: bool = True
    metadata: bytes = b"{}"  #: JSON, of the local execute_request (cellId, ...)
    snapshot: Snapshot | None = None
    names: CellNames = CellNames()
    stubs: list[str] = []  #: names that exist at the client, were not sent and may be fetched
    out: list[str] | None = None  #: None: all that changed
    keep: list[str] = []
    terms: CellTerms = CellTerms()
    sources: dict[str, int] = {}  #: relative path of a local .py file -> position of its source among the buffers


class CellDone(Message):
    """``status``: "ok", "error" (``error`` set), "refused" (``refused`` set: nothing ran, nothing changed)."""

    run_id: str
    status: str
    execution_count: int
    seconds: float = 0.0  #: of the user's code alone
    apply_seconds: float = 0.0
    collect_seconds: float = 0.0
    error: RemoteError | None = None
    refused: ErrorRecord | None = None
    snapshot: Snapshot | None = None
    handles: list[HandleInfo] = []
    stuck: list[CannotTravel] = []  #: changed remotely, could not come back, and is a handle now
    warnings: list[str] = []
    payload: bytes = b"[]"  #: JSON: the payloads of the execute_reply (set_next_input, page, ...)
    diverged: list[str] = []  #: changed remotely and not sent back (``out=``): the notebook's own value holds
    has_result: bool = False  #: the snapshot carries the displayed value under the name "_"


class Applied(Message):
    """The client took over (or could not) the snapshot of this serial; until then the kernel keeps it as not sent."""

    serial: int
    ok: bool = True
    reason: str = ""
    missing: list[str] = []  #: top-level modules that the client lacks: the kernel answers with ``Kept``
    refused: dict[str, str] = {}  #: variables that the client does not rebuild, and why: likewise
    again: bool = False  #: it referred to what the client has no longer: the kernel answers with ``Kept``, which has all of it


class Kept(Message):
    """What comes back without the values that need modules which the client lacks: for these there are handles."""

    serial: int  #: of the snapshot that was refused
    snapshot: Snapshot | None = None
    handles: list[HandleInfo] = []


class Jupyter(Message):
    """A message of Jupyter's own protocol. Its four JSON parts (header, parent_header, metadata, content) and then its
    binary buffers are the out-of-band buffers of this message, untouched. To and from a whole kernel: all of its ZMQ frames,
    identities and signature included."""

    channel: str  #: "iopub", "stdin", "shell", "control"
    seen: int = 0  #: of a whole kernel's client: how many failures it had been told when it sent this


class InputOver(Message):
    """Nobody waits any more for the answer to the ``input_request`` of this msg_id: an interrupt came."""

    request: str


class Offer(Message):
    """ "Which of these chunks do you lack?" Answered by ``Want``, which says so by position. Without a ``base`` they are named by
    BLAKE3, since another session may have had them sent (``KernelHello.shared``). With one: which of these pieces does the buffer of
    that digest not have, if it is cut where its content says so, at multiples of ``step`` bytes?"""

    id: int
    digests: list[bytes]
    sizes: list[int] = []  #: without a ``base``: bytes of each
    base: bytes = b""
    step: int = 8


class Want(Message):
    id: int
    positions: list[int]


class Chunk(Message):
    """A piece of a chunk; its bytes are the only out-of-band buffer. ``size`` -1: all of the chunk."""

    digest: bytes
    offset: int = 0
    size: int = -1  #: bytes of the whole chunk
    slot: int = -1  #: where in the shared memory the ``length`` bytes of the piece are; there is no buffer then
    length: int = 0
    packed: bool = False  #: the buffer is compressed (zstd); ``length`` bytes come out of it


class Fetch(Message):
    """Kernel to client: values of these names, now (the backstop). Client to kernel: the value of a handle."""

    id: int
    names: list[str]


class Fetched(Message):
    """``snapshot`` lacks those names that could not be found or sent; ``stuck`` says why."""

    id: int
    snapshot: Snapshot | None = None
    stuck: list[CannotTravel] = []


AnyMessage = (
    Hello
    | Welcome
    | OpenSession
    | Opened
    | SessionChanged
    | ListSessions
    | Sessions
    | StopSession
    | GetInventory
    | Inventory
    | Done
    | Failed
    | PeerAttached
    | PeerDetached
    | SessionEnded
    | WorkerHello
    | Assign
    | Assigned
    | Release
    | Activity
    | WorkerFailed
    | Interrupt
    | KernelExited
    | KernelHello
    | RunCell
    | CellDone
    | Applied
    | Kept
    | Jupyter
    | InputOver
    | Offer
    | Want
    | Chunk
    | Fetch
    | Fetched
)
