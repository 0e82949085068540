"""One pass of the pickler over one value: whether it changed, whether it can travel, and which names its functions read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xxhash

from ..wire.messages import CannotTravel
from .chunks import digest
from .codecs import is_long_and_flat
from .diagnose import find_culprit
from .pickler import Pickler, Reduced, pickler_for

_ATOMS = (int, float, str, bytes, bool, complex, type(None))


class Probe:
    """What a pass found. ``fingerprint`` is comparable within one process only (hash order, interned strings); two of them may
    differ for an object that did not change, which costs a needless send and nothing else.

    ``stuck``: why the value cannot be pickled. The pass keeps the value alive, so that the ids in ``memo`` stay true.
    """

    def __init__(self, value: Any, pickler: Pickler, stuck: CannotTravel | None = None) -> None:
        self.value = value
        self.stuck = stuck
        self.globals_seen = pickler.globals_seen
        self.modules = pickler.modules
        self.imports = pickler.imports
        self.notes = pickler.notes
        self.bare_modules = pickler.bare_modules
        self.private = pickler.private
        self.stream = b""
        self.buffers: list[memoryview] = []
        self.digests: list[bytes] = []
        self.fingerprint = b""
        self.has_arrays = pickler.met_arrays
        self._pickler = pickler
        self._memo: dict[int, tuple[int, Any]] | None = None
        if stuck is None:
            self.stream = pickler.file.getvalue()
            self.buffers = [b.raw() for b in pickler.buffers]
            self.digests = [digest(b) for b in self.buffers]
            self.fingerprint = fingerprint_of(self.stream, self.digests)

    @property
    def memo(self) -> dict[int, tuple[int, Any]]:
        """id -> (index, object) of what may have a token; copied when it is asked for, since what is unchanged never needs it."""
        if self._memo is None:
            if isinstance(self.value, _ATOMS) or self.stuck:  # no parts: nothing to remember
                self._memo = {}
            elif is_long_and_flat(self.value):
                self._memo = {id(self.value): (0, self.value)}
            else:
                self._memo = self._pickler.memo.copy()
        return self._memo

    @property
    def size(self) -> int:
        """Bytes of the value as it would travel."""
        return len(self.stream) + sum(b.nbytes for b in self.buffers)


def probe(value: Any, name: str, namespace: dict[str, Any], reduced: Reduced | None = None, kept: Mapping[int, str] | None = None) -> Probe:
    """Pickle ``value`` and look at what comes out. Never raises for a value that cannot be pickled: ``stuck`` tells. ``kept``: id -> key
    of values that stay here, and are passed over."""
    pickler = pickler_for(namespace, reduced, kept=kept)
    try:
        pickler.dump(value)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        return Probe(value, pickler, _culprit(value, name, namespace, error, kept))
    return Probe(value, pickler)


def fingerprint_of(stream: bytes, digests: Sequence[bytes]) -> bytes:
    """xxh3-128 over the stream and the digests of its buffers: 16 bytes."""
    if not digests:
        return xxhash.xxh3_128_digest(stream)
    return xxhash.xxh3_128_digest(xxhash.xxh3_128_digest(stream) + b"".join(digests))


def _culprit(value: Any, name: str, namespace: dict[str, Any], error: BaseException, kept: Mapping[int, str] | None) -> CannotTravel:
    def dumps(part: Any) -> None:
        pickler_for(namespace, kept=kept).dump(part)

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RecursionError):  # each part of it is fine: no use in looking at them, and costly
            return CannotTravel(name=name, path=name, type=type(value).__name__, reason="it is nested too deeply to be pickled")
        cause = cause.__cause__
    return find_culprit(value, name, dumps)
