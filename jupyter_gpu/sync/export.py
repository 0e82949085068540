"""Pickling what the other end lacks: the cheapest way that keeps every alias."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

from msgspec.structs import replace

from ..wire.messages import BufferRef, CannotTravel, Snapshot
from . import codecs, modules
from .chunks import digest
from .diagnose import meaningless
from .fingerprint import Probe, digest_of, undisturbed
from .inplace import is_found_by_name, is_identity_kind
from .objects import KnownObjects
from .pickler import Pickler, Reduced, pickler_for
from .segments import Segment, written
from .tokens import TokenPickler


@dataclass
class Export:
    """What goes to the other end. ``snapshot`` lacks only the ``inline`` positions, which ``chunks.pack`` fills in."""

    snapshot: Snapshot
    stream: bytes = b""
    buffers: list[memoryview] = field(default_factory=list)  #: parallel to ``snapshot.buffers``
    sent: dict[str, int] = field(default_factory=dict)  #: name -> bytes as it stands alone
    unchanged: dict[str, int] = field(default_factory=dict)  #: likewise, of what the other end has
    stuck: list[CannotTravel] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    fingerprints: dict[str, bytes] = field(default_factory=dict)
    identities: dict[str, int] = field(default_factory=dict)
    modules: dict[str, set[str]] = field(default_factory=dict)  #: name -> top-level modules without which it cannot be rebuilt
    handles: list[tuple[str, Any]] = field(default_factory=list)  #: (name, handle that is its value, or inside of it)
    places: list[str] = field(default_factory=list)  #: paths of this machine, as sentences: no news where files are shared
    imports: set[str] = field(default_factory=set)  #: modules that functions import when they run
    memo: list[tuple[int, Any]] = field(default_factory=list)
    skip: set[int] = field(default_factory=set)  #: ids in ``memo`` that have a token already, or are nobody's


@dataclass
class _Part:
    """One pickle of a snapshot."""

    names: list[str]
    stream: bytes
    buffers: Sequence[memoryview]
    digests: Sequence[bytes]
    memo: Mapping[int, tuple[int, Any]]
    skip: Iterable[int]


class Writer:
    """Makes the stream of one export from the probes of the names that changed."""

    def __init__(
        self,
        namespace: dict[str, Any],
        known: KnownObjects,
        probes: dict[str, Probe],
        reduced: Reduced,
        clean: dict[int, str],
        bare: bool,
        kept: Mapping[int, str],
    ) -> None:
        self.namespace = namespace
        self.known = known
        self.probes = probes
        self.reduced = reduced
        self.clean = clean
        self.kept = kept  #: id -> key of what stays here
        self.bare = bare  #: whether the other end imports at once the modules that are values

    def fill(self, export: Export) -> None:
        """A value that shares nothing goes as the probe pickled it, and all the simple ones in one pickle; all others go in one memo."""
        probes, tied = self.probes, self._tied()
        together = self._together(sorted(tied), export) if tied else None
        simple = [n for n, p in probes.items() if p.simple is not None and (together is None or n not in tied)]
        others = [n for n, p in probes.items() if p.simple is None and (together is None or n not in tied)]
        parts = [self._simple(simple)] if simple else []
        for name in sorted(others, key=lambda n: _turn_of(probes[n].value)):
            found = probes[name]
            parts.append(_Part([name], found.stream, found.buffers, found.digests, found.memo or {}, found.private))
        parts += [together] if together is not None else []
        self._fill(export, parts)
        export.fingerprints = {name: p.fingerprint for name, p in probes.items()}
        export.identities = {name: p.identity for name, p in probes.items()}
        export.sent = {name: p.size for name, p in probes.items()}
        export.modules = {name: set() for name, p in probes.items() if p.simple is not None}
        for name, found in probes.items():
            if found.simple is None:
                self._tell(name, found, export)
        export.snapshot = replace(export.snapshot, modules=modules.versions_of(set().union(*export.modules.values())))

    @staticmethod
    def _fill(export: Export, parts: list[_Part]) -> None:
        base, segments, digests = 0, list[Segment](), list[bytes]()
        for part in parts:
            segments.append(Segment(len(part.names), len(part.buffers), base, len(part.stream)))
            export.memo += [(base + index, obj) for index, obj in part.memo.values()]
            export.skip.update(part.skip)
            export.buffers += part.buffers
            digests += part.digests
            base += len(part.stream)  # more than it has memo entries: each takes a byte at least
        export.stream = b"".join([written(segments), *(part.stream for part in parts)])
        export.snapshot = Snapshot(
            serial=export.snapshot.serial,
            names=[name for part in parts for name in part.names],
            deleted=export.snapshot.deleted,
            stream=BufferRef(digest(export.stream), len(export.stream)),
            buffers=[BufferRef(name, b.nbytes) for name, b in zip(digests, export.buffers)],
        )

    def _tell(self, name: str, found: Probe, export: Export) -> None:
        """What is to be said of a value that is not simple."""
        needed = {*found.modules, *found.bare_modules} if self.bare else found.modules
        export.modules[name] = {m.partition(".")[0] for m in needed}
        export.imports |= found.imports
        export.handles += [(name, handle) for handle in found.handles]
        if found.notes:
            warnings, places = meaningless(found.notes, self.namespace[name], name, "here" if self.bare else "worker")
            export.warnings += warnings
            export.places += places

    def _simple(self, names: list[str]) -> _Part:
        values = [self.probes[name].value for name in names]
        pickler = pickler_for(self.namespace, self.reduced)
        pickler.dump(values[0] if len(values) == 1 else values)
        return _Part(names, pickler.file.getvalue(), [], [], pickler.memo.copy(), {id(values)})

    def _tied(self) -> set[str]:
        """Names that share objects with each other, with what the other end has, or memory within themselves."""
        tied: set[str] = set()
        owner: dict[int, str] = {}
        tokens = self.known.tokens
        for name, found in self.probes.items():
            if found.simple is not None:
                for part in found.simple:
                    key = id(part)
                    if (token := tokens.get(key)) is not None and self.known.find(token) is part:
                        tied.add(name)
                    if (other := owner.setdefault(key, name)) != name:
                        tied |= {name, other}
                continue
            memo = found.memo or {}
            if any(self.known.find(tokens[key]) is memo[key][1] for key in tokens.keys() & memo.keys()):
                tied.add(name)
            for key in owner.keys() & memo.keys():
                if is_identity_kind(type(obj := memo[key][1])) and not (type(obj) is FunctionType and is_found_by_name(obj)):
                    tied |= {name, owner[key]}
            if len(self.probes) > 1:
                owner.update(dict.fromkeys(memo, name))
        stored: dict[int, str] = {}
        others = {name: found for name, found in self.probes.items() if found.simple is None}
        for name, found in others.items():
            for storage in found.storages:  # of tensors: their views, and tied weights
                if (other := stored.setdefault(storage, name)) != name:
                    tied |= {name, other}
        for group in self._groups_of_views({name: _arrays_of(found) for name, found in others.items() if found.has_arrays}):
            tied |= group
        return tied

    @staticmethod
    def _groups_of_views(arrays: dict[str, list[Any]]) -> list[set[str]]:
        """Names within which, or among which, arrays show the same memory."""
        views = codecs.views_among(a for group in arrays.values() for a in group)
        if not views:
            return []
        whole = {id(a) for a in views.values()}
        return [{name} for name, group in arrays.items() if any(id(a) in views or id(a) in whole for a in group)]

    def _together(self, names: list[str], export: Export) -> _Part | None:
        """None if it cannot be done, though each of them could be pickled: they go one by one then, and what they share is lost."""
        views = codecs.views_among(a for name in names for a in _arrays_of(self.probes[name]))
        values = [self.namespace[name] for name in names]
        try:
            return _part_of(names, values, self._dumped(values, views))
        except Exception as error:
            told_of = ", ".join(names)
            export.warnings.append(f"{told_of} went one by one, and share nothing there: {type(error).__name__}: {error}")
            return None

    def _dumped(self, values: list[Any], views: dict[int, Any]) -> Pickler:
        def dump() -> Pickler:
            pickler: Pickler
            if self.known.tokens:
                pickler = TokenPickler(self.namespace, self.reduced, views, self.known, self.clean, self.kept)
            else:
                pickler = pickler_for(self.namespace, self.reduced, views, kept=self.kept)
            pickler.dump(values[0] if len(values) == 1 else values)
            return pickler

        return undisturbed(dump)

    def copies(self, names: list[str], export: Export, named: bool = True) -> bool:
        """Fill in ``export`` with values that the other end gets as copies: pickled once, and nothing noted by which a change would be
        seen. False: it cannot be done so, and ``export`` is as it was. ``named``: see ``Replica.export_copies``."""
        values = [self.namespace[name] for name in names]
        try:
            pickler = self._dumped(values, {})
            views = codecs.views_among(_arrays_in(pickler.memo.copy(), pickler.private)) if pickler.met_arrays else {}
            if views:
                pickler = self._dumped(values, views)
        except KeyboardInterrupt:
            raise
        except BaseException:  # SystemExit too: a value must not end the process by being looked at
            return False
        if pickler.notes or pickler.storages:
            return False
        part = _part_of(names, values, pickler, named)
        self._fill(export, [part])
        export.imports |= pickler.imports
        export.handles += [(names[0], handle) for handle in pickler.handles]
        needed = pickler.modules | pickler.bare_modules if self.bare else pickler.modules
        size = len(part.stream) + sum(b.nbytes for b in part.buffers)
        for name in names:
            export.sent[name] = size
            export.modules[name] = {m.partition(".")[0] for m in needed}
        export.snapshot = replace(export.snapshot, modules=modules.versions_of(needed))
        return True


def _part_of(names: list[str], values: list[Any], pickler: Pickler, named: bool = True) -> _Part:
    told = pickler.told if isinstance(pickler, TokenPickler) else {}
    buffers = [b.raw() for b in pickler.buffers]
    skip = {*told, *pickler.private, id(values)}
    digests = [digest_of(b) if named else b"" for b in buffers]
    return _Part(names, pickler.file.getvalue(), buffers, digests, pickler.memo.copy(), skip)


def _turn_of(value: Any) -> int:
    """Modules first, then functions and classes: what comes later may run code of the notebook when it is rebuilt."""
    return 0 if isinstance(value, ModuleType) else 1 if isinstance(value, (FunctionType, type)) else 2


def _arrays_of(found: Probe) -> list[Any]:
    return _arrays_in(found.memo or {}, found.private) if found.has_arrays else []


def _arrays_in(memo: Mapping[int, tuple[int, Any]], private: Container[int]) -> list[Any]:
    from numpy import ndarray

    return [obj for key, (_, obj) in memo.items() if type(obj) is ndarray and key not in private]
