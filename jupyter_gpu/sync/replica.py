"""A namespace of which another process has a copy: what changed here since, and taking over what changed there.

The same class serves both ends, since either may change a value.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from ..wire.errors import SnapshotRefused
from ..wire.messages import CannotTravel, CellNames, Offer, Snapshot
from . import apply as applying
from . import codecs, modules
from .delta import STALE_BYTES
from .exceptions import dump_exception, load_exception
from .export import Export, Writer
from .fingerprint import Probe, Prober, fingerprint_of, probe
from .flat import Flats
from .handles import Handle
from .hidden import is_hidden, stays
from .kept import Kept
from .lineage import Lineage, lacking
from .lists import Lists
from .objects import KnownObjects
from .pickler import Reduced
from .trust import Trust


@dataclass
class Change:
    """What an ``apply`` did. ``warnings``: names that had been bound anew here meanwhile; what arrived was taken."""

    bound: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class Mark:
    """The bindings of a namespace at one moment: name -> id. No object is kept alive by it."""

    bindings: dict[str, int]


@dataclass
class _Unsettled:
    """A snapshot that was taken over: its names, and the memo of its pickles."""

    serial: int
    names: list[str]
    memos: list[tuple[int, Any]]
    skip: set[int]


class Replica:
    """One end of a pair. ``namespace`` is the user's own dict; ``side`` ("client" or "kernel") tells whose serial is whose.

    Sending::

        needed(names) -> list[str]                      those that are bound, and to a fixpoint what their functions read
        export(names, *, only_changed=True, deleted=()) -> Export
        confirm(export) / abandon(export)               the other end has applied it / has not

    What ``needed`` or ``touched`` pickled is used again by the very next ``export``, so that no ``__getstate__`` runs twice: call
    them one right after the other.

    Receiving::

        check(snapshot) -> list[str]                    raises ModuleMissing; sentences about other versions
        apply(snapshot, stream, buffers) -> Change      all of it or, with SnapshotRefused, nothing; buffers are writable memory
                                                        that nobody else uses

    Around a cell::

        mark() -> Mark                                  before it
        touched(mark, CellNames) -> list[str]           after it: what it may have changed
        deleted(mark) -> list[str]                      what it deleted

    And: ``forget(names)``, ``adopt(names)``, ``knows(name)``, ``changed(names)``, ``measure(name)``, ``reset()``, ``prune()``.
    ``remote_value(name)`` gives, at the kernel, the object that a handle of the client stands for, by its key (by default what is bound
    to its name). ``kept`` (at the kernel) is what goes to the client as handles; ``handle_of(key)`` (at the client) gives the handle of
    such a value. ``trust``: what ``apply`` rebuilds; "data" raises ``UntrustedValue`` for what is not plain data.
    """

    def __init__(
        self,
        namespace: dict[str, Any],
        side: str,
        remote_value: Callable[[str], Any] | None = None,
        kept: Kept | None = None,
        handle_of: Callable[[str], Any] | None = None,
        trust: Trust = "code",
    ) -> None:
        self.lineage = Lineage()  #: the buffers that both ends had last
        self.namespace = namespace
        self.kept = kept or Kept()
        self._handle_of = handle_of
        self.side = side
        self.trust = trust
        self._peer = "kernel" if side == "client" else "client"
        self._remote = remote_value or self._bound
        self._serial = 0
        self._baseline: dict[str, bytes] = {}  #: name -> fingerprint here of what the other end has
        self._roots: dict[str, int] = {}  #: name -> id of its value at the last export or apply
        self._parts: dict[str, int] = {}  #: name -> ``identities`` of its value at that time
        self._probes: dict[str, Probe] = {}
        self._probers: dict[bool, Prober] = {}
        self._unsettled: _Unsettled | None = None
        self._reduced: Reduced = {}
        self._flats = Flats()
        self._lists = Lists()
        self.objects = KnownObjects(namespace)

    # ------------------------------------------------------------ sending

    def needed(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that are bound, and to a fixpoint those that their functions read or rebind. Names that mean
        something of this process only (``__builtins__``, the shell's ``display``) are left out."""
        self._end_sync()
        found: dict[str, None] = {}
        todo = list(names)
        with _no_collection():
            while todo:
                name = todo.pop()
                if name in found or name not in self.namespace or stays(name, self.namespace[name]):
                    continue
                found[name] = None
                todo.extend(self._probe(name).globals_seen)
        return sorted(found)

    def export(self, names: Iterable[str], *, only_changed: bool = True, deleted: Iterable[str] = ()) -> Export:
        """Pickle what the other end does not have. Never raises for a value: ``Export.stuck`` lists those that cannot travel, and
        they are left out. A name that is not bound here any more, and that the other end has, is sent as deleted."""
        self.settle()
        self._serial += 1
        self._roots = {n: id(self.namespace.get(n)) for n in self._roots}  # what changed so far did so before the other end's turn
        names = list(dict.fromkeys(names))
        gone = {*deleted, *(n for n in names if n not in self.namespace and n in self._baseline)}
        export = Export(Snapshot(serial=self._serial, deleted=sorted(gone)))
        if not names:
            return export
        with _no_collection():
            changed: dict[str, Probe] = {}
            for name in names:
                if name not in self.namespace:
                    continue
                found = self._probe(name)
                if found.stuck is not None:
                    export.stuck.append(found.stuck)
                elif only_changed and self._baseline.get(name) == found.fingerprint and self._parts.get(name) == found.identity:
                    export.unchanged[name] = found.size
                else:
                    changed[name] = found if found.simple is not None else self._probe(name, whole=True)
            if changed:
                clean = {id(self.namespace[n]): n for n in export.unchanged}
                self._writer(changed, clean).fill(export)
        self._end_sync()
        return export

    def export_copies(self, names: list[str], *, named: bool = True) -> Export:
        """Values that the other end gets as copies, under names that mean nothing afterwards (``forget`` them there): all of them are
        sent, and what becomes of them here is nobody's business. Not ``named``: whoever calls this finds the digests of buffers that
        have none (``b""``), which takes as long as reading them."""
        self._end_sync()
        self._serial += 1
        export = Export(Snapshot(serial=self._serial))
        with _no_collection():
            done = self._writer({}, {}).copies(names, export, named)
        self._serial -= not done
        self._end_sync()
        return export if done else self.export(names, only_changed=False)

    def _writer(self, probes: dict[str, Probe], clean: dict[int, str]) -> Writer:
        bare = self.side == "client"  # the notebook's end imports a module when it is used
        return Writer(self.namespace, self.objects, probes, self._reduced, clean, bare, self.kept.keys)

    def confirm(self, export: Export) -> None:
        """The other end has it: from now on this is what is known to be there."""
        self._end_sync()
        self.lineage.agree(self.lineage.keep(export.snapshot, export.stream, export.buffers, verify=True))
        self._baseline.update(export.fingerprints)
        self._roots.update((name, id(self.namespace.get(name))) for name in export.fingerprints)
        self._parts.update(export.identities)
        self.forget(export.snapshot.deleted)
        if export.memo:
            with _no_collection():
                self.objects.learn(self.side, export.snapshot.serial, export.memo, export.skip)
            export.memo = []
            self.objects.prune()
            self._lists.prune(self.namespace)

    def abandon(self, export: Export) -> None:
        """The other end did not take it: its names count as changed."""
        self._end_sync()
        export.memo = []

    def reset(self) -> None:
        """The other end is a new one, and has nothing."""
        self._end_sync()
        self._baseline.clear()
        self._roots.clear()
        self._flats.clear()
        self._lists.clear()
        self.objects.clear()
        self.lineage.reset()

    def recover(self, reason: str) -> None:
        """The other end refused an export, and said that it has no longer what that referred to."""
        if STALE_BYTES in reason:
            self.lineage.reset()  # the objects are known all the same: only bytes have to travel whole
        else:
            self.reset()

    def lacking(self, offer: Offer) -> list[int]:
        """Positions of the pieces that the buffer does not have here which an ``Offer`` with a ``base`` asks about."""
        old = self.lineage.copies.find(offer.base)
        return lacking(old if old is not None else self.live(offer.base), offer)

    def live(self, name: bytes) -> memoryview | None:
        """The bytes of a buffer that both ends had, if a value here still has them. Nothing holds the value for this: whoever uses
        the bytes compares the outcome."""
        for each in self.lineage.names_of(name):
            if each in self.namespace:
                found = probe(self.namespace[each], each, self.namespace)
                if name in found.digests:
                    return found.buffers[found.digests.index(name)]
        return None

    def forget(self, names: Iterable[str]) -> None:
        """Count these names as unknown to the other end."""
        names = set(names)
        for name in names:
            self._baseline.pop(name, None)
            self._roots.pop(name, None)
        self.lineage.forget(names)
        if self._unsettled is not None:
            self._unsettled.names = [name for name in self._unsettled.names if name not in names]

    def adopt(self, names: Iterable[str]) -> None:
        """Count the present values of these names as what the other end has (handles, and what was kept)."""
        self._end_sync()
        self._set_baseline(names)

    def knows(self, name: str) -> bool:
        """Whether the other end has, or had, this name."""
        return name in self._baseline

    def changed(self, names: Iterable[str]) -> list[str]:
        """Those of the bound ``names`` whose values are not known to be what the other end has."""
        with _no_collection():
            return [n for n in names if self._baseline.get(n) != self._probe(n).fingerprint]

    def measure(self, name: str) -> tuple[int, CannotTravel | None]:
        """Bytes of a bound name's value as it would travel, and why it cannot."""
        found = self._probe(name)
        return found.size, found.stuck

    def prune(self) -> None:
        """Free what only this replica still holds. Every sync does it too; worth calling after a local cell."""
        self._end_sync()
        self.objects.prune()
        self._lists.prune(self.namespace)

    # ------------------------------------------------------------ receiving

    def check(self, snapshot: Snapshot) -> list[str]:
        """Modules that the snapshot needs. Raises ``ModuleMissing``; returns a sentence for each of another version."""
        return modules.check(snapshot.modules, "notebook" if self.side == "client" else "worker")

    def apply(self, snapshot: Snapshot, stream: memoryview | bytes, buffers: Iterable[memoryview], *, settle: bool = True) -> Change:
        """Take over a snapshot: all of it or, with ``SnapshotRefused``, nothing of it. ``settle``: at once; else whoever calls this
        does so before code of the person's may run, and answers the other end first."""
        self._end_sync()
        roots = self._roots
        gone = {n for n in snapshot.names if n in roots and id(self.namespace.get(n)) != roots[n]}
        change = Change(list(snapshot.names), list(snapshot.deleted))
        change.warnings = [f"{n} was bound anew here while the cell ran; the cell's value was taken" for n in sorted(gone)]
        buffers = list(buffers)
        agreed = self.lineage.keep(snapshot, stream, buffers)
        with _no_collection():
            load = applying.Load(self.namespace, self.objects, self._remote, self.trust, self.knows)
            load.lazily = self.side == "client"
            load.handle_of = self._handle_of
            applying.take_over(load, snapshot, stream, buffers)
            self.forget([*snapshot.names, *snapshot.deleted])
            replaced = load.replaced
            # What is kept has a handle at the client, and no copy that could be told apart by a token.
            self._unsettled = _Unsettled(snapshot.serial, list(snapshot.names), load.memos, {*load.skip, *self.kept.keys})
            del load  # what it holds counts as in use
            applying.replace_everywhere(replaced)
            del replaced
            self.lineage.agree(agreed)
            self._flats.learn(codecs.loaded_flats())
        if settle:
            self.settle()
        return change

    def settle(self) -> None:
        """Look at what was taken over last, so that a change of it will be seen, and know its objects again."""
        todo, self._unsettled = self._unsettled, None
        if todo is None:
            return
        with _no_collection():
            try:
                self.objects.learn(self._peer, todo.serial, todo.memos, todo.skip)
                todo.memos = []
                self._set_baseline(todo.names)
            except MemoryError:  # it was taken over all the same; what was not looked at counts as changed, and is sent whole
                self.objects.clear()
        self.objects.prune()
        self._lists.prune(self.namespace)

    # ------------------------------------------------------------ around a cell

    def mark(self) -> Mark:
        """Remember the present bindings."""
        self._end_sync()
        return Mark({name: id(value) for name, value in self.namespace.items()})

    def touched(self, mark: Mark, names: CellNames) -> list[str]:
        """Names that a cell may have changed since ``mark``: bound, rebound, or within reach of what it named. All of them are bound
        (``deleted`` tells the others), and none is hidden: the shells at both ends count their ``_`` and ``Out`` themselves."""
        before, now = mark.bindings, self.namespace
        rebound = {n for n, v in now.items() if before.get(n) != id(v)}
        within = {n for n in (*names.loads, *names.stores) if n in now and not is_hidden(n)}
        if names.star:
            within |= {n for n in self._baseline if n in now and not is_hidden(n)}
        reach = self.needed([n for n in within if not isinstance(now[n], ModuleType)])
        return sorted(n for n in rebound.union(reach) if not is_hidden(n))

    def deleted(self, mark: Mark) -> list[str]:
        """Names that were bound at ``mark`` and are not any more."""
        return sorted(n for n in mark.bindings if n not in self.namespace and not is_hidden(n))

    # ------------------------------------------------------------ inside

    def _bound(self, name: str) -> Any:
        return self.namespace[name]

    def _probe(self, name: str, whole: bool = False) -> Probe:
        """``whole``: to be sent, and not only to be compared."""
        value = self.namespace[name]
        found = self._probes.get(name)
        if found is None or found.value is not value or (whole and (found.abridged or found.memo is None)):
            known = None if whole else self._baseline.get(name)
            found = self._probes[name] = self._prober(whole).look(value, name, lambda found: found.fingerprint != known)
        return found

    def _prober(self, whole: bool = False) -> Prober:
        """Of this sync. ``whole``: nothing stands for what was seen before."""
        found = self._probers.get(whole)
        if found is None:
            flats = None if whole else self._flats
            found = self._probers[whole] = Prober(self.namespace, self._reduced, flats, self.kept.keys, self._lists)
        return found

    def _set_baseline(self, names: Iterable[str]) -> None:
        prober = Prober(self.namespace, flats=self._flats, kept=self.kept.keys, lists=self._lists)
        for name in names:
            found = prober.look(value := self.namespace[name], name, lambda found: False)
            self._baseline[name], self._parts[name], self._roots[name] = found.fingerprint, found.identity, id(value)

    def _end_sync(self) -> None:
        self.settle()
        self._probes.clear()
        self._probers.clear()
        self._reduced = {}


@contextmanager
def _no_collection() -> Iterator[None]:
    """The tables of a large memo are millions of fresh tuples and no garbage: the collector would go through all of them again and
    again, ten times the cost of the sync itself."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


__all__ = [
    "CannotTravel", "Change", "Export", "Handle", "Mark", "Replica",
    "SnapshotRefused", "dump_exception", "fingerprint_of", "is_hidden", "load_exception",
]  # fmt: skip
