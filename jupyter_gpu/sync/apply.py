"""Taking over a snapshot in two phases: decode all of it without touching anything that is in use, then commit with an undo for
each step."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..wire.errors import JupyterGpuError, SnapshotRefused
from ..wire.messages import Snapshot
from .inplace import CannotUpdate, Undo, update
from .objects import KnownObjects, StaleToken
from .pickler import Token, Unpickler, fill_class

#: How ``SnapshotRefused.reason`` begins when the sender should start afresh: the objects it refers to are not kept here.
STALE = "it refers to objects that are no longer here"
_NOTHING = object()


@dataclass
class Load:
    """A decoded snapshot that is not in use yet."""

    values: list[Any] = field(default_factory=list)
    updates: list[tuple[str, Token, Any]] = field(default_factory=list)
    classes: list[tuple[type, Any]] = field(default_factory=list)
    memo: list[tuple[int, Any]] = field(default_factory=list)
    without: set[int] = field(default_factory=set)  #: ids of objects that existed for the pickle only
    instead: dict[int, Any] = field(default_factory=dict)  #: id of a twin -> the object that took over its content
    olds: list[Any] = field(default_factory=list)  #: parallel to ``updates``
    alive: list[Any] = field(default_factory=list)


def decode(
    namespace: dict[str, Any],
    objects: KnownObjects,
    snapshot: Snapshot,
    stream: memoryview | bytes,
    buffers: Iterable[memoryview],
    remote: Callable[[str], Any],
) -> Load:
    """Phase one. Raises ``SnapshotRefused``; nothing has changed then."""
    load = Load()
    if snapshot.stream is None:
        return load
    unpickler = Unpickler(stream, buffers, namespace, objects.get, remote)
    try:
        for _ in snapshot.names:
            load.values.append(unpickler.load())
        load.updates = list(_updates(unpickler, load))
        load.olds = [objects.get(token) for _, token, _ in load.updates]
    except StaleToken as error:
        raise SnapshotRefused(reason=f"{STALE} ({error})") from None
    except JupyterGpuError:
        raise
    except Exception as error:  # __setstate__ and constructors are the person's, and may raise anything
        raise SnapshotRefused(reason=f"{type(error).__name__}: {error}") from error
    load.classes = unpickler.classes
    load.memo = list(unpickler.memo.copy().items())
    for (kind, _, content), old in zip(load.updates, load.olds):
        if kind == "twin":
            load.instead[id(content)] = old
        else:
            load.without.add(id(content))
    return load


def _updates(unpickler: Unpickler, load: Load) -> Iterable[tuple[str, Token, Any]]:
    """The records after the values; a snapshot of new objects alone has none, nor the None that ends them."""
    while True:
        try:
            record = unpickler.load()
        except EOFError:
            return
        if record is None:
            return
        load.alive.append(record)
        load.without.add(id(record))
        yield record


def commit(namespace: dict[str, Any], load: Load, snapshot: Snapshot) -> None:
    """Phase two: updates in place, classes, bindings, deletions. Raises ``SnapshotRefused`` after taking back what was done."""
    undos: list[Undo] = []
    try:
        for (kind, _, content), old in zip(load.updates, load.olds):
            try:
                undos.append(update(old, kind, content))
            except CannotUpdate:
                undos.extend(_replace(namespace, load, old, content))
        for cls, state in load.classes:
            undos.append(_update_class(cls, state))
        for name, value in zip(snapshot.names, load.values):
            undos.append(_bind(namespace, name, value))
        for name in snapshot.deleted:
            undos.append(_bind(namespace, name, _NOTHING))
    except BaseException as error:
        for undo in reversed(undos):
            undo()
        if isinstance(error, Exception):
            raise SnapshotRefused(reason=f"{type(error).__name__}: {error}") from error
        raise


def _bind(namespace: dict[str, Any], name: str, value: Any) -> Undo:
    before = namespace.get(name, _NOTHING)

    def put(what: Any) -> None:
        if what is _NOTHING:
            namespace.pop(name, None)
        else:
            namespace[name] = what

    put(value)
    return lambda: put(before)


def _update_class(cls: type, state: Any) -> Undo:
    before = {k: v for k, v in vars(cls).items() if not (k.startswith("__") and k.endswith("__")) and k != "_abc_impl"}
    fill_class(cls, state)
    return lambda: fill_class(cls, (before, None))


def _replace(namespace: dict[str, Any], load: Load, old: Any, new: Any) -> Iterable[Undo]:
    """``old`` cannot take over the content: put the new object in its place, in the namespace and in the plain containers that
    refer to it; the new object's token is the old one's from here on."""
    load.instead.pop(id(new), None)
    for i, value in enumerate(load.values):
        if value is old:
            load.values[i] = new
    for name in [n for n, v in namespace.items() if v is old]:
        yield _bind(namespace, name, new)
    for holder in gc.get_referrers(old):
        if type(holder) is dict and holder is not namespace:
            for key in [k for k, v in holder.items() if v is old]:
                holder[key] = new
                yield lambda holder=holder, key=key: holder.__setitem__(key, old)
        elif type(holder) is list and holder is not load.olds and holder is not load.values:
            for i in [i for i, v in enumerate(holder) if v is old]:
                holder[i] = new
                yield lambda holder=holder, i=i: holder.__setitem__(i, old)
