"""What a whole kernel, its shim and the kernel that takes its place say to each other while a session moves.

Jupyter messages like any others, signed with the kernel's key, on the stdin channel, which a kernel can wait at in the middle of a cell:
``msg_type`` is that of the step, ``content`` the step itself. The shim has an identity of its own there, and passes what the two kernels
say to each other from one link to the other as it came.

    leaving       old kernel -> shim        iopub: "I am to be moved"; the shim answers with ``Go`` (or ``Failed``)
    Offered       old kernel -> shim        what would go and what stays; the shim opens the new session meanwhile
    Manifest      old kernel -> new kernel  table of contents; small chunks lie beside it as buffers
    Want          new kernel -> old kernel  which chunks it lacks
    Piece, Took   old <-> new kernel        bytes of these, so many at a time
    Arrived       new kernel -> shim        everything is in place
    Moved         shim -> old kernel        it is given up
    Failed        anyone -> the others      the notebook stays where it is, and why
"""

# mypy takes the structs for dataclasses, and does not know that msgspec hands "frozen" down.
# mypy: disable-error-code="misc"
from __future__ import annotations

import msgspec

from .records import BufferRef, ErrorRecord, Snapshot

#: The shim's identity at both kernels.
IDENTITY = b"jupyter-gpu-shim"
#: Requests on the shell channel, which are handled between cells: a kernel is to leave, a new one to be filled.
LEAVE, ARRIVE = "jupyter_gpu_leave_request", "jupyter_gpu_arrive_request"
#: On iopub.
LEAVING = "jupyter_gpu_leaving"
#: Of a front end, on the control channel, and its answer.
REQUEST, REPLY = "jupyter_gpu_move_request", "jupyter_gpu_move_reply"

_PREFIX = "jupyter_gpu_move_"


class Step(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of what is said."""


class Leaving(Step):
    """Content of ``LEAVE`` and ``LEAVING``, and of a front end's ``REQUEST``. ``anyway``: whatever cannot go stays behind."""

    to: str
    without: list[str] = []
    anyway: bool = False


class Go(Step):
    """``folder``: where both kernels may find chunks, if ``nonce`` is what is written there. ``session``: the id that the old kernel's
    messages carry, which the new one's will."""

    folder: str = ""
    nonce: str = ""
    session: str = ""


class Offered(Step):
    """``count`` variables of ``size`` bytes; ``execution_count``: the cell's. ``behind``: sentences about what stays; ``notes``: about
    what will mean something else."""

    count: int
    size: int
    execution_count: int
    behind: list[str] = []
    notes: list[str] = []


class Manifest(Step):
    """``chunks``: digest (hexadecimal) and bytes of each; the first has the table of contents (``Bundle``). ``inline``: place of a chunk
    in ``chunks`` -> its place among the buffers of this message. ``written``: bytes that were put into the folder for this move."""

    chunks: list[tuple[str, int]]
    inline: dict[int, int] = {}
    written: int = 0


class Want(Step):
    places: list[int]


class Piece(Step):
    place: int
    offset: int


class Took(Step):
    """So many bytes arrived altogether."""

    size: int


class Arrived(Step):
    names: list[str]
    notes: list[str] = []


class Moved(Step):
    pass


class Failed(Step):
    error: ErrorRecord


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """``snapshot``: of variables, without places in a message. Those of its buffers (the stream first) that have no more than ``apart``
    bytes lie one behind the other in the chunk ``small``; all others are chunks. ``names``: what must be bound afterwards; ``belongings``:
    a pickle of plain data, what a session has beside variables; ``number``: of the next cell; ``python``: its version at the old kernel."""

    snapshot: Snapshot
    names: list[str]
    belongings: bytes
    number: int
    python: str
    apart: int
    small: BufferRef | None = None


_KINDS: tuple[type[Step], ...] = (Go, Offered, Manifest, Want, Piece, Took, Arrived, Moved, Failed)
_BY_KIND = {_PREFIX + kind.__name__.lower(): kind for kind in _KINDS}


def kind_of(step: Step | type[Step]) -> str:
    """The ``msg_type`` that carries a step."""
    return _PREFIX + (step if isinstance(step, type) else type(step)).__name__.lower()


def read(kind: str, content: object) -> Step | None:
    """The step of a message whose content was decoded; None: it is about something else. Raises ``msgspec.ValidationError``."""
    found = _BY_KIND.get(kind)
    return None if found is None else msgspec.convert(content, found, str_keys=True)
