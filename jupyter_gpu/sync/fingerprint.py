"""One pass of the pickler over one value: whether it changed, whether it can travel, and which names its functions read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import xxhash

from ..wire.messages import CannotTravel
from .diagnose import find_culprit
from .pickler import Pickler


@dataclass
class Probe:
    """What a pass found. ``fingerprint`` is comparable within one process only (hash order, interned strings); two of them may
    differ for an object that did not change, which costs a needless send and nothing else."""

    fingerprint: bytes = b""
    stream: bytes = b""
    buffers: list[memoryview] = field(default_factory=list)
    globals_seen: set[str] = field(default_factory=set)
    modules: set[str] = field(default_factory=set)
    memo: dict[int, tuple[int, Any]] = field(default_factory=dict)
    stuck: CannotTravel | None = None
    value: Any = None  #: kept, so that ids in the memo stay true

    @property
    def size(self) -> int:
        """Bytes of the value as it would travel."""
        return len(self.stream) + sum(b.nbytes for b in self.buffers)


_ATOMS = (int, float, str, bytes, bool, complex, type(None))


def probe(value: Any, name: str, namespace: dict[str, Any]) -> Probe:
    """Pickle ``value`` and look at what comes out. Never raises for a value that cannot be pickled: ``stuck`` tells."""
    pickler = Pickler(namespace)
    try:
        pickler.dump(value)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # __reduce__ and __getstate__ are the person's, and may raise anything
        return Probe(stuck=_culprit(value, name, namespace, error), globals_seen=pickler.globals_seen, value=value)
    stream = pickler.file.getvalue()
    buffers = [b.raw() for b in pickler.buffers]
    # Atoms have no parts: nothing to remember of them.
    memo = {} if type(value) in _ATOMS else pickler.memo.copy()
    return Probe(fingerprint_of(stream, buffers), stream, buffers, pickler.globals_seen, pickler.modules, memo, value=value)


def fingerprint_of(stream: bytes, buffers: Sequence[memoryview]) -> bytes:
    """xxh3-128 over stream and buffers: 16 bytes."""
    if not buffers:
        return xxhash.xxh3_128_digest(stream)
    digest = xxhash.xxh3_128(stream)
    for buffer in buffers:
        digest.update(buffer)
    return digest.digest()


def _culprit(value: Any, name: str, namespace: dict[str, Any], error: BaseException) -> CannotTravel:
    def dumps(part: Any) -> None:
        Pickler(namespace).dump(part)

    if isinstance(error, RecursionError):  # each part of it is fine: no use in looking at them, and costly
        return CannotTravel(name=name, path=name, type=type(value).__name__, reason="it is nested too deeply to be pickled")
    return find_culprit(value, name, dumps)
