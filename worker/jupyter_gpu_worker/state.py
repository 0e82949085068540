"""All that a session holds, as one snapshot: for another kernel, in which the client's handles go on meaning the same.

What hibernation rests on. The client takes the new kernel for an empty one (``Replica.reset``) and sends what a cell needs; only what
it has as handles is nowhere else, and lives on by its keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jupyter_gpu.sync.kept import Kept
from jupyter_gpu.sync.replica import Replica, is_hidden
from jupyter_gpu.wire.messages import CannotTravel, Snapshot


@dataclass
class State:
    """``keys``: keys of values for which the client has handles, which stand in the snapshot as if they were names. ``names``: name -> key.
    ``stuck``: what could not be kept. Bytes only: it can be written to a file."""

    snapshot: Snapshot
    stream: bytes
    buffers: list[bytes]
    keys: list[str]
    names: dict[str, str]
    stuck: list[CannotTravel]


def save(namespace: dict[str, Any], kept: Kept) -> State:
    """Every variable and every kept value, in one memo: what they share, they share afterwards. Changes nothing."""
    keys = {key: value for key, value in kept.values.items() if key not in namespace}
    names = [name for name in namespace if not is_hidden(name)]
    namespace.update(keys)
    try:
        export = Replica(namespace, "kernel").export([*names, *keys])
    finally:
        for key in keys:
            del namespace[key]
    stored = [key for key in keys if key in export.sent]
    held = {name: key for name, key in kept.names.items() if key in stored}
    return State(export.snapshot, export.stream, [bytes(b) for b in export.buffers], stored, held, export.stuck)


def restore(state: State, namespace: dict[str, Any], kept: Kept) -> None:
    """Take over another kernel's. Raises ``SnapshotRefused``, and has changed nothing then."""
    Replica(namespace, "kernel").apply(state.snapshot, state.stream, [memoryview(bytearray(b)) for b in state.buffers])
    kept.take({key: namespace.pop(key) for key in state.keys}, state.names)
