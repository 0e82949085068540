"""Everything that can go wrong, as a tree.

::

    JupyterGpuError
    ├── UsageError                  the person can mend it by writing something else
    │   ├── UnknownOption           usage.option
    │   ├── BadOptionValue          usage.value
    │   ├── BadHardware             usage.hardware
    │   ├── NoSuchName              usage.name
    │   ├── ConnectionFileBad       usage.connection-file
    │   └── NoSuchHardware          usage.no-such-hardware
    ├── TravelError                 a value or a module cannot go along; nothing ran
    │   ├── ValueCannotTravel       travel.value
    │   ├── ModuleMissing           travel.module
    │   ├── PythonMismatch          travel.python
    │   ├── UntrustedValue          travel.untrusted
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
    │   ├── KernelLost              worker.kernel-lost
    │   ├── SessionNotFound         worker.no-session
    │   ├── CellTimeout             worker.timeout
    │   └── DiskFull                worker.disk
    ├── WireError                   bytes that are not what they should be
    │   ├── FrameTooLarge           wire.too-large
    │   ├── FrameGarbled            wire.garbled
    │   ├── LinkBroken              wire.link
    │   └── SpoolFull               wire.spool
    ├── MoveError                   a whole kernel stays where it is
    │   ├── CannotMove              move.not-here
    │   ├── StaysBehind             move.stays-behind
    │   └── MoveFailed              move.failed
    ├── HandleError                 handle.use: a value that stays remote was used as if it were here
    └── InternalError               internal: no code of its own; the id is in the log

Each class has a stable ``code``, typed fields, a sentence (``__str__``) and a ``hint`` that says what to do.
User code that fails is none of these.
"""

from __future__ import annotations

import dataclasses
from typing import get_type_hints

import msgspec

from ..messages import ErrorRecord
from .base import SENTENCE, Field, JupyterGpuError
from .gateway import GatewayError, GatewayStartFailed, GatewayUnreachable, ProtocolMismatch, TokenFileExposed, TokenRefused
from .moving import CannotMove, MoveError, MoveFailed, StaysBehind
from .rest import HandleError, InternalError
from .travel import ModuleMissing, PythonMismatch, SnapshotRefused, TravelError, UntrustedValue, ValueCannotTravel
from .usage import BadHardware, BadOptionValue, ConnectionFileBad, NoSuchHardware, NoSuchName, UnknownOption, UsageError
from .wire import FrameGarbled, FrameTooLarge, LinkBroken, SpoolFull, WireError
from .worker import CellTimeout, DiskFull, KernelLost, SessionLost, SessionNotFound, WorkerDied, WorkerError, WorkerStartFailed

__all__ = [
    "BY_CODE",
    "BadHardware",
    "BadOptionValue",
    "CannotMove",
    "CellTimeout",
    "ConnectionFileBad",
    "DiskFull",
    "Field",
    "FrameGarbled",
    "FrameTooLarge",
    "GatewayError",
    "GatewayStartFailed",
    "GatewayUnreachable",
    "HandleError",
    "InternalError",
    "JupyterGpuError",
    "KernelLost",
    "LinkBroken",
    "ModuleMissing",
    "MoveError",
    "MoveFailed",
    "NoSuchHardware",
    "NoSuchName",
    "ProtocolMismatch",
    "PythonMismatch",
    "SessionLost",
    "SessionNotFound",
    "SnapshotRefused",
    "SpoolFull",
    "StaysBehind",
    "TokenFileExposed",
    "TokenRefused",
    "TravelError",
    "UnknownOption",
    "UntrustedValue",
    "UsageError",
    "ValueCannotTravel",
    "WireError",
    "WorkerDied",
    "WorkerError",
    "WorkerStartFailed",
    "from_record",
]


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
    told = record.fields.get(SENTENCE) or ", ".join(f"{name}={value}" for name, value in record.fields.items())
    return InternalError(text=f"{str(told).rstrip('.')} [{record.code}]")
