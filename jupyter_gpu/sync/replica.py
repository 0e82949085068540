"""A namespace of which another process has a copy: what changed here since, and taking over what changed there.

The same class serves both ends, since either may change a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..wire.errors import SnapshotRefused
from ..wire.messages import BufferRef, CannotTravel, CellNames, Snapshot
from . import apply as applying
from . import modules
from .chunks import digest
from .diagnose import meaningless
from .fingerprint import Probe, fingerprint_of, probe
from .handles import Handle
from .inplace import content_of
from .objects import KnownObjects
from .pickler import Pickler, TokenPickler

#: Names that IPython keeps for itself: they travel when a cell names them, and are never reported as changed.
_OWN = frozenset({"In", "Out", "_", "__", "___", "_i", "_ii", "_iii", "_ih", "_oh", "_dh", "exit", "quit", "get_ipython", "open", "display",
                  "__builtins__", "__builtin__", "__name__", "__doc__", "__package__", "__loader__", "__spec__", "__session__", "_sh"})


def is_hidden(name: str) -> bool:
    """Whether a name is IPython's own: ``In``, ``_i3``, ``_12`` and the like."""
    return name in _OWN or (name[:1] == "_" and (name[1:].isdigit() or (name[:2] == "_i" and name[2:].isdigit())))


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
    memo: list[tuple[int, Any]] = field(default_factory=list)
    without: set[int] = field(default_factory=set)
    alive: list[Any] = field(default_factory=list)  #: keeps the ids in ``memo`` and ``without`` true


@dataclass
class Change:
    """What an ``apply`` did."""

    bound: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)


@dataclass
class Mark:
    """The bindings of a namespace at one moment."""

    bindings: dict[str, Any]


class Replica:
    """One end of a pair. ``namespace`` is the user's own dict; ``side`` ("client" or "kernel") tells whose serial is whose.

    Sending: ``needed(names)``, then ``export(...)``, then ``confirm`` once the other end has applied it, or ``abandon``.
    Receiving: ``check``, then ``apply``. After a cell: ``touched(mark, names)``, then ``export``.
    ``remote_value(name)`` gives, at the kernel, the object that a handle of the client stands for.
    """

    def __init__(self, namespace: dict[str, Any], side: str, remote_value: Callable[[str], Any] | None = None) -> None:
        self.namespace = namespace
        self.side = side
        self._peer = "kernel" if side == "client" else "client"
        self._remote = remote_value or self._bound
        self._serial = 0
        self._baseline: dict[str, bytes] = {}  #: name -> fingerprint here of what the other end has
        self._sizes: dict[str, int] = {}
        self._probes: dict[str, Probe] = {}
        self.objects = KnownObjects()

    # ------------------------------------------------------------ sending

    def needed(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that are bound, and to a fixpoint those that their functions read."""
        found: dict[str, None] = {}
        todo = list(names)
        while todo:
            name = todo.pop()
            if name in found or name not in self.namespace:
                continue
            found[name] = None
            todo.extend(self._probe(name).globals_seen)
        return sorted(found)

    def export(self, names: Iterable[str], *, only_changed: bool = True, deleted: Iterable[str] = ()) -> Export:
        """Pickle what the other end does not have, in one memo. Never raises for a value: ``Export.stuck`` lists those that
        cannot travel, and they are left out."""
        self._serial += 1
        export = Export(Snapshot(serial=self._serial, deleted=sorted(deleted)))
        changed = []
        for name in names:
            found = self._probe(name)
            if found.stuck is not None:
                export.stuck.append(found.stuck)
            elif only_changed and self._baseline.get(name) == found.fingerprint:
                export.unchanged[name] = found.size
            else:
                changed.append(name)
        if changed:
            self._pickle(export, changed)
        self._probes.clear()
        return export

    def confirm(self, export: Export) -> None:
        """The other end has it: from now on this is what is known to be there."""
        self._baseline.update(export.fingerprints)
        for name in export.snapshot.deleted:
            self._baseline.pop(name, None)
        self.objects.add_memo(self.side, export.snapshot.serial, export.memo, export.without)
        export.memo, export.alive = [], []
        self.objects.prune()

    def abandon(self, export: Export) -> None:
        """The other end did not take it: its names count as changed."""
        export.memo, export.alive = [], []

    def reset(self) -> None:
        """The other end is a new one, and has nothing."""
        self._baseline.clear()
        self._probes.clear()
        self.objects.clear()

    def forget(self, names: Iterable[str]) -> None:
        """Count these names as unknown to the other end."""
        for name in names:
            self._baseline.pop(name, None)

    def adopt(self, names: Iterable[str]) -> None:
        """Count the present values of these names as what the other end has (handles, and what was kept)."""
        for name in names:
            self._baseline[name] = self._probe(name).fingerprint
            self._probes.pop(name, None)

    def knows(self, name: str) -> bool:
        """Whether the other end has, or had, this name."""
        return name in self._baseline

    # ------------------------------------------------------------ receiving

    def check(self, snapshot: Snapshot) -> list[str]:
        """Modules that the snapshot needs. Raises ``ModuleMissing``; returns a sentence for each of another version."""
        return modules.check(snapshot.modules)

    def apply(self, snapshot: Snapshot, stream: memoryview | bytes, buffers: Iterable[memoryview]) -> Change:
        """Take over a snapshot: all of it or, with ``SnapshotRefused``, nothing of it."""
        load = applying.decode(self.namespace, self.objects, snapshot, stream, buffers, self._remote)
        applying.commit(self.namespace, load, snapshot)
        self.objects.add_memo(self._peer, snapshot.serial, load.memo, load.without, load.instead)
        for serial in snapshot.forget:
            self.objects.forget(self._peer, serial)
        for name in snapshot.names:
            self._probes.pop(name, None)
            found = probe(self.namespace[name], name, self.namespace)
            self._baseline[name] = found.fingerprint
        for name in snapshot.deleted:
            self._baseline.pop(name, None)
        del load  # what it holds counts as in use
        self.objects.prune()
        return Change(list(snapshot.names), list(snapshot.deleted))

    # ------------------------------------------------------------ around a cell

    def mark(self) -> Mark:
        """Remember the present bindings."""
        return Mark(dict(self.namespace))

    def touched(self, mark: Mark, names: CellNames) -> list[str]:
        """Names that a cell may have changed since ``mark``: bound, rebound, or within reach of what it named."""
        before = mark.bindings
        missing = object()
        rebound = [n for n, v in self.namespace.items() if v is not before.get(n, missing) and not is_hidden(n)]
        within = [n for n in (*names.loads, *names.stores) if n in self.namespace and not is_hidden(n)]
        if names.star:
            within += [n for n in self._baseline if n in self.namespace and not is_hidden(n)]
        reach = self.needed([n for n in within if not isinstance(self.namespace[n], _MODULE)])
        return sorted({*rebound, *(n for n in reach if not is_hidden(n))})

    def deleted(self, mark: Mark) -> list[str]:
        """Names that were bound at ``mark`` and are not any more."""
        return sorted(n for n in mark.bindings if n not in self.namespace and not is_hidden(n))

    # ------------------------------------------------------------ inside

    def _bound(self, name: str) -> Any:
        return self.namespace[name]

    def _probe(self, name: str) -> Probe:
        value = self.namespace[name]
        found = self._probes.get(name)
        if found is None or found.value is not value:
            found = self._probes[name] = probe(value, name, self.namespace)
        return found

    def _pickle(self, export: Export, names: list[str]) -> None:
        """One memo for all names. A single value of which the other end has no part is what the probe pickled already."""
        known = self.objects.tokens
        probes = {name: self._probes[name] for name in names}
        export.fingerprints = {name: p.fingerprint for name, p in probes.items()}
        export.sent = {name: p.size for name, p in probes.items()}
        seen: set[str] = set().union(*(p.modules for p in probes.values()))
        first = next(iter(probes.values()))
        # Ids in a probe's memo stay true as long as the probe lives.
        is_new = not known or not any(key in known for p in probes.values() for key in p.memo)
        if len(probes) == 1 and is_new:
            stream, buffers, memo = first.stream, first.buffers, list(first.memo.values())
            export.alive.append(first)
        else:
            pickler = Pickler(self.namespace) if is_new else TokenPickler(self.namespace, known)
            self._dump(pickler, names, export)
            stream, buffers = pickler.file.getvalue(), [b.raw() for b in pickler.buffers]
            memo = list(pickler.memo.copy().values())
        export.memo, export.stream, export.buffers = memo, stream, buffers
        for name in names:
            export.warnings += meaningless(self.namespace[name], name)
        export.snapshot = Snapshot(
            serial=export.snapshot.serial,
            names=names,
            deleted=export.snapshot.deleted,
            stream=BufferRef(digest(stream) if len(stream) > 4096 else b"", len(stream)),
            buffers=[BufferRef(digest(b) if b.nbytes > 4096 else b"", b.nbytes) for b in buffers],
            modules=modules.versions_of(seen),
        )

    def _dump(self, pickler: Pickler, names: list[str], export: Export) -> None:
        """Each name's value, then the content of each known object on the way, then None."""
        for name in names:
            pickler.dump(self.namespace[name])
        if not isinstance(pickler, TokenPickler):
            return
        clean = {id(self.namespace[n]) for n in export.unchanged}
        done: set[int] = set()
        while todo := [obj for key, obj in pickler.met.items() if key not in done]:
            for obj in todo:
                done.add(id(obj))
                if id(obj) in clean:
                    continue
                kind, content = content_of(obj)
                token = self.objects.tokens[id(obj)]
                if kind == "twin":
                    pickler.dump_whole(obj, lambda twin, token=token: ("twin", token, twin))
                else:
                    record = (kind, token, content)
                    export.without |= {id(record), id(content)}
                    export.alive.append(record)
                    pickler.dump(record)
        pickler.dump(None)


_MODULE = type(modules)

__all__ = ["CannotTravel", "Change", "Export", "Handle", "Mark", "Replica", "SnapshotRefused", "fingerprint_of", "is_hidden"]
