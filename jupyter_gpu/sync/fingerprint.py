"""One pass of the pickler over one value: whether it changed, whether it can travel, and which names its functions read."""

from __future__ import annotations

import contextlib
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import xxhash

from ..wire.messages import CannotTravel
from . import pages
from .addresses import can_tell
from .diagnose import find_culprit
from .flat import FLAT, Flats, Known, is_long_and_flat, repeats
from .lists import Kept as KeptList
from .lists import Lists
from .pickler import Pickler, Reduced, pickler_for

T = TypeVar("T")
_NO_NAMES: set[str] = set()
#: How dicts, sets and deques say that they were changed while something went through them.
_DISTURBED = re.compile("(changed size|keys changed|mutated) during iteration")
_TRIES = 8


class Probe:
    """What a pass found. ``fingerprint`` is comparable within one process only (hash order, interned strings); two of them may
    differ for an object that did not change, which costs a needless send and nothing else.

    ``stuck``: why the value cannot be pickled. ``abridged``: buffers are missing, of which only the digests are there. ``size``: bytes
    of the value as it would travel. ``flat``: see ``flat.is_long_and_flat``. The pass keeps the value alive, so that the ids in
    ``memo`` stay true.
    """

    def __init__(self, value: Any, pickler: Pickler, stuck: CannotTravel | None = None, flat: bool = False) -> None:
        self.value = value
        self.stuck = stuck
        self.flat = flat
        self.abridged = False
        self.globals_seen = pickler.globals_seen
        self.modules = pickler.modules
        self.imports = pickler.imports
        self.notes = pickler.notes
        self.handles = pickler.handles
        self.bare_modules = pickler.bare_modules
        self.private = pickler.private
        self.stream = b""
        self.size = 0
        self.buffers: list[memoryview] = []
        self.digests: list[bytes] = []
        self.fingerprint = b""
        self.has_arrays = pickler.met_arrays
        self._pickler = pickler
        self._memo: dict[int, tuple[int, Any]] | None = None
        if stuck is None:
            self.stream = pickler.file.getvalue()
            self.size = len(self.stream)
            self.buffers = [b.raw() for b in pickler.buffers]
            known = [b.obj if type(b.obj) is Known else None for b in self.buffers]
            self.abridged = any(k is not None for k in known)
            self.digests = [digest_of(b) if k is None else k.digest for b, k in zip(self.buffers, known)]
            self.size += sum(b.nbytes if k is None else k.size for b, k in zip(self.buffers, known))
            self.fingerprint = fingerprint_of(self.stream, self.digests)

    @property
    def memo(self) -> dict[int, tuple[int, Any]]:
        """id -> (index, object) of what may have a token; copied when it is asked for, since what is unchanged never needs it."""
        if self._memo is None:
            if self.stuck:
                self._memo = {}
            elif self.flat:
                self._memo = {id(self.value): (0, self.value)}
            else:
                self._memo = self._pickler.memo.copy()
        return self._memo


class Atom(Probe):
    """Of a value without parts: nothing to remember, nothing that a function of the notebook's could read."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.stuck = None
        self.flat = self.abridged = self.has_arrays = False
        self.globals_seen = self.modules = self.bare_modules = self.imports = _NO_NAMES
        self.notes = []
        self.handles = []
        self.private = {}
        self.buffers = []
        self.digests = []
        self._memo = {}
        self.stream = pickle.dumps(value, 5)
        self.size = len(self.stream)
        self.fingerprint = xxhash.xxh3_128_digest(self.stream)


class Recalled(Atom):
    """Of a long list of plain values that is known without a look at them. It has no stream, which has to be made if it is sent."""

    def __init__(self, value: list[Any], known: KeptList) -> None:
        super().__init__(None)
        self.value, self.stream = value, b""
        self.flat = self.abridged = True
        self.size, self.fingerprint = known.size, known.fingerprint
        self._memo = None


def probe(
    value: Any,
    name: str,
    namespace: dict[str, Any],
    reduced: Reduced | None = None,
    flats: Flats | None = None,
    kept: Mapping[int, str] | None = None,
    lists: Lists | None = None,
) -> Probe:
    """Pickle ``value`` and look at what comes out. Never raises for a value that cannot be pickled: ``stuck`` tells. ``kept``: id -> key
    of values that stay here, and are passed over. ``flats`` and ``lists``: what is known, for which a stand-in will do; ``lists`` without
    ``flats`` only learns."""
    stays = bool(kept) and id(value) in (kept or ())
    if type(value) in FLAT and not stays:
        with contextlib.suppress(MemoryError):  # what has no room is told of below
            return Atom(value)
    reduced = {} if reduced is None else reduced
    picklers: list[Pickler] = []
    learns = lists is not None and type(value) is list and not kept and can_tell()
    if learns and lists is not None and flats is not None and (known := lists.find(name, value)) is not None:
        return Recalled(value, known)
    copies: list[list[Any]] = []

    def dump() -> bool:
        picklers.append(
            pickler := pickler_for(namespace, reduced, flats=flats, kept=kept)
        )  # a new one each time: half a memo is left in it
        flat = not stays and is_long_and_flat(value)
        pickler.fast = flat and not repeats(value)
        if flat and learns:
            copies[:] = [value[:]]
        pickler.dump(value)
        return flat

    try:
        flat = undisturbed(dump)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a value must not end the process by being looked at
        return Probe(value, picklers[-1], _culprit(value, name, namespace, error, reduced, kept))
    found = Probe(value, picklers[-1], flat=flat)
    if flat and copies and lists is not None:
        lists.keep(name, copies.pop(), found.fingerprint, found.size)
    return found


def undisturbed(work: Callable[[], T]) -> T:
    """Do ``work`` once more, a few times at most, if another thread changed what it was going through. What was pickled by then is
    thrown away; what ``__getstate__`` gave is kept in ``Pickler.reduced``, and it is not called again."""
    for _ in range(_TRIES - 1):
        try:
            return work()
        except RuntimeError as error:
            if not _DISTURBED.search(str(error)):
                raise
    return work()


def digest_of(buffer: memoryview) -> bytes:
    """As ``chunks.digest``; of large memory that was found unchanged a few times, by asking the system whether it was written."""
    return pages.pages.digest(buffer)


def fingerprint_of(stream: bytes, digests: Sequence[bytes]) -> bytes:
    """xxh3-128 over the stream and the digests of its buffers: 16 bytes."""
    if not digests:
        return xxhash.xxh3_128_digest(stream)
    return xxhash.xxh3_128_digest(xxhash.xxh3_128_digest(stream) + b"".join(digests))


def _culprit(
    value: Any, name: str, namespace: dict[str, Any], error: BaseException, reduced: Reduced, kept: Mapping[int, str] | None
) -> CannotTravel:
    def dumps(part: Any) -> None:
        pickler_for(namespace, reduced, kept=kept).dump(part)

    if isinstance(error, RuntimeError) and _DISTURBED.search(str(error)):
        return CannotTravel(
            name=name, path=name, type=type(value).__name__, reason="another thread changed it each time that it was pickled"
        )
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RecursionError):  # each part of it is fine: no use in looking at them, and costly
            return CannotTravel(name=name, path=name, type=type(value).__name__, reason="it is nested too deeply to be pickled")
        cause = cause.__cause__
    return find_culprit(value, name, dumps, error)
