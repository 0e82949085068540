"""One pass of the pickler over one value: whether it changed, whether it can travel, and which names its functions read."""

from __future__ import annotations

import contextlib
import pickle
import re
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from types import MappingProxyType
from typing import Any, TypeVar

import xxhash

from ..wire.messages import CannotTravel
from . import pages
from .addresses import can_tell
from .diagnose import find_culprit
from .flat import FLAT, Flats, Known, is_long_and_flat, repeats
from .lists import Kept as KeptList
from .lists import Lists
from .objects import identities
from .pickler import NOTED, Pickler, Reduced, pickler_for
from .simple import identity_of, marshalled, parts_of

T = TypeVar("T")
_NOTHING: Mapping[Any, Any] = MappingProxyType({})
#: Bytes of a pickle after which its pickler is not used again.
_LARGE = 64 << 10
#: How dicts, sets and deques say that they were changed while something went through them.
_DISTURBED = re.compile("(changed size|keys changed|mutated) during iteration")
_TRIES = 8


class Probe:
    """What a pass found. ``fingerprint`` is comparable within one process only (hash order, interned strings); two of them may
    differ for an object that did not change, which costs a needless send and nothing else.

    ``stuck``: why the value cannot be pickled. ``abridged``: buffers are missing, of which only the digests are there. ``size``: bytes
    of the value as it would travel. ``flat``: see ``flat.is_long_and_flat``. ``identity``: see ``objects.identities``.

    ``simple``: the lists, dicts and sets of a small plain value (``simple.py``), which is not pickled by the pass; None of all others.
    """

    simple: list[Any] | None = None
    stuck: CannotTravel | None = None
    flat = abridged = has_arrays = False
    globals_seen: Collection[str] = ()
    modules: Set[str] = frozenset()
    bare_modules: Set[str] = frozenset()
    imports: Set[str] = frozenset()
    notes: Sequence[tuple[Any, str]] = ()
    handles: Sequence[Any] = ()
    private: Mapping[int, Any] = _NOTHING
    storages: Mapping[int, Any] = _NOTHING
    stream = b""
    buffers: Sequence[memoryview] = ()
    digests: Sequence[bytes] = ()
    size = 0
    fingerprint = b""
    identity = 0
    _memo: Mapping[int, tuple[int, Any]] | None = _NOTHING
    _pickler: Pickler | None = None

    def __init__(self, value: Any) -> None:
        self.value = value

    @property
    def memo(self) -> Mapping[int, tuple[int, Any]] | None:
        """id -> (index, object) of what may have a token; None if nobody wanted it in time."""
        if self._memo is None and self._pickler is not None:
            self.hold(self._pickler)
        return self._memo

    def hold(self, pickler: Pickler) -> None:
        """Copy the memo while it is there. What is unchanged never needs it."""
        if self._memo is None:
            self._memo = {id(self.value): (0, self.value)} if self.flat else pickler.memo.copy()


class Simple(Probe):
    """Of a small plain value."""

    def __init__(self, value: Any, parts: list[Any], data: bytes) -> None:
        self.value = value
        self.simple = parts
        self.size = len(data)
        self.fingerprint = xxhash.xxh3_128_digest(data)
        self.identity = identity_of(parts)


class Atom(Probe):
    """Of a value without parts that is not small."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.stream = pickle.dumps(value, 5)
        self.size = len(self.stream)
        self.fingerprint = xxhash.xxh3_128_digest(self.stream)
        self.identity = identities(value)


class Pickled(Probe):
    """What a pickler found. The pass keeps the value alive, so that the ids in ``memo`` stay true."""

    def __init__(self, value: Any, pickler: Pickler, stuck: CannotTravel | None = None, flat: bool = False) -> None:
        self.value = value
        self.stuck = stuck
        self.flat = flat
        for name in NOTED:
            if noted := getattr(pickler, name):  # what is empty is the pickler's own to fill
                setattr(self, name, noted)
        self.has_arrays = pickler.met_arrays
        if stuck is None:
            self._memo = None
            self.stream = pickler.file.getvalue()
            self.size = len(self.stream)
            if pickler.buffers:
                self._take_buffers([b.raw() for b in pickler.buffers])
            self.fingerprint = fingerprint_of(self.stream, self.digests)
            self.identity = identities(value)

    def _take_buffers(self, buffers: list[memoryview]) -> None:
        self.buffers = buffers
        known = [b.obj if type(b.obj) is Known else None for b in buffers]
        self.abridged = any(k is not None for k in known)
        self.digests = [digest_of(b) if k is None else k.digest for b, k in zip(buffers, known)]
        self.size += sum(b.nbytes if k is None else k.size for b, k in zip(buffers, known))


class Prober:
    """Looks at the values of one sync, one after the other, with one pickler. ``kept``: id -> key of values that stay here, and are
    passed over. ``flats`` and ``lists``: what is known, for which a stand-in will do; ``lists`` without ``flats`` only learns."""

    def __init__(
        self,
        namespace: dict[str, Any],
        reduced: Reduced | None = None,
        flats: Flats | None = None,
        kept: Mapping[int, str] | None = None,
        lists: Lists | None = None,
    ) -> None:
        self._namespace = namespace
        self._reduced: Reduced = {} if reduced is None else reduced
        self._flats = flats
        self._kept = kept
        self._lists = lists
        self._pickler: Pickler | None = None

    def look(self, value: Any, name: str, keep: Callable[[Probe], bool] = lambda found: True) -> Probe:
        """Pickle ``value``, if need be, and look at what comes out. Never raises for a value that cannot be pickled: ``stuck`` tells.
        ``keep``: whether the memo is needed of what was found."""
        parts = parts_of(value, self._kept)
        if parts is not None and (data := marshalled(value)) is not None:
            return Simple(value, parts, data)
        if type(value) in FLAT and not (self._kept and id(value) in self._kept):
            with contextlib.suppress(MemoryError):  # what has no room is told of below
                return Atom(value)
        return self._pickled(value, name, keep)

    def _pickled(self, value: Any, name: str, keep: Callable[[Probe], bool]) -> Probe:
        stays = bool(self._kept) and id(value) in (self._kept or ())
        lists = self._lists if type(value) is list and not self._kept and can_tell() else None
        if lists is not None and self._flats is not None and (known := lists.find(name, value)) is not None:
            return Recalled(value, known)
        copies: list[list[Any]] = []
        flat = not stays and is_long_and_flat(value)

        def dump() -> Pickler:
            pickler, self._pickler = self._pickler, None  # after a failure, half a memo is left in it
            if pickler is None or pickler.kept_any != bool(self._kept):
                pickler = pickler_for(self._namespace, self._reduced, flats=self._flats, kept=self._kept)
            used.append(pickler)
            pickler.fast = flat and not repeats(value)
            if flat and lists is not None:
                copies[:] = [value[:]]
            pickler.dump(value)
            return pickler

        used: list[Pickler] = []
        try:
            pickler = undisturbed(dump)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: a value must not end the process by being looked at
            return Pickled(value, used[-1], _culprit(value, name, self._namespace, error, self._reduced, self._kept))
        found = Pickled(value, pickler, flat=flat)
        if copies and lists is not None:
            lists.keep(name, copies.pop(), found.fingerprint, found.size)
        if len(found.stream) > _LARGE:  # clearing a table costs as much as it once had entries
            found._pickler = pickler
            return found
        if keep(found):
            found.hold(pickler)
        pickler.renew()
        self._pickler = pickler
        return found


class Recalled(Probe):
    """Of a long list of plain values that is known without a look at them. It has no stream, which has to be made if it is sent."""

    flat = abridged = True

    def __init__(self, value: list[Any], known: KeptList) -> None:
        self.value = value
        self.size, self.fingerprint = known.size, known.fingerprint
        self.identity = identities(value)
        self._memo = {id(value): (0, value)}


def probe(
    value: Any,
    name: str,
    namespace: dict[str, Any],
    reduced: Reduced | None = None,
    flats: Flats | None = None,
    kept: Mapping[int, str] | None = None,
    lists: Lists | None = None,
) -> Probe:
    """As ``Prober.look``, of one value alone."""
    return Prober(namespace, reduced, flats, kept, lists).look(value, name)


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
