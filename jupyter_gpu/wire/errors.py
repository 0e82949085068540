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
