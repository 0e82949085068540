"""Taking over a snapshot, all of it or nothing: each change of what is in use has its undo in a journal, before it is made."""

from __future__ import annotations

import gc
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ..wire.errors import JupyterGpuError, SnapshotRefused
from ..wire.messages import Snapshot
from . import codecs
from .inplace import CannotUpdate, Undo, made_of, update
from .loading import Unpickler
from .objects import KnownObjects, StaleToken, Token

#: How ``SnapshotRefused.reason`` begins when the sender should start afresh (``Replica.reset``): a value that it left out, being the
#: same at both ends, is no longer here.
STALE = "it refers to objects that are no longer here"
_NOTHING = object()

#: Of one pickle in the stream of a snapshot: how many names and buffers are its, and where it ends. Memo indices of different
#: pickles are told apart by ``base``.
Segment = tuple[int, int, int, int]


class Load:
    """A snapshot on its way in."""

    def __init__(self, namespace: dict[str, Any], objects: KnownObjects, remote: Callable[[str], Any]) -> None:
        self.namespace = namespace
        self.objects = objects
        self.remote = remote
        self.journal: list[Undo] = []
        self.values: list[Any] = []
        self.lazily = False  #: whether modules are imported when they are first used
        self.memos: list[tuple[int, Any]] = []
        self.skip: dict[int, Any] = {}  #: objects that existed for the pickle only, or have a token of their own
        self.replaced: list[tuple[Any, Any]] = []

    def resolve(self, pid: Any) -> Any:
        """The object for a token, with the content that came along taken over."""
        if type(pid) is int:
            return self.objects.get(pid)
        kind, token, content = pid
        if kind.endswith("!"):  # plain content, pickled apart
            kind, content = kind[:-1], pickle.loads(content)
        live = self.objects.find(token)
        if kind == "same":
            if live is None and (live := self.namespace.get(content)) is None:
                raise StaleToken(content)
            self.skip[id(live)] = live
            return live
        self.skip[id(content)] = content
        if live is not None:
            self.skip[id(live)] = live  # held: what held it so far may be about to lose it to its twin
            try:
                update(live, kind, content, self.journal)
                return live
            except CannotUpdate:
                self.replaced.append((live, content))
        return self._put(token, made_of(kind, content), live)

    def _put(self, token: Token, obj: Any, before: Any) -> Any:
        if before is not None:
            self.journal.append(lambda: self.objects.put(token, before))
        self.objects.put(token, obj)
        self.skip[id(obj)] = obj
        return obj

    def read(self, names_told: Sequence[str], stream: bytes | memoryview, buffers: Sequence[memoryview]) -> None:
        codecs.begin_load()
        told = list(names_told)
        view = memoryview(stream)
        size = int.from_bytes(view[:4], "little")
        segments: list[Segment] = pickle.loads(view[4 : 4 + size])
        start, first = 4 + size, 0
        for names, count, base, length in segments:
            unpickler = Unpickler(
                view[start : start + length],
                buffers[first : first + count],
                self.namespace,
                self.resolve,
                self.remote,
                self.journal,
                self.lazily,
            )
            value = unpickler.load()
            self.values.extend([value] if names == 1 else value)
            if names == 1 and told[0] not in self.namespace:  # what follows may need it to be rebuilt: a ``__setstate__`` that reads it
                _bind(self.namespace, told[0], value, self.journal)
            del told[:names]
            if names == 1 and codecs.is_long_and_flat(value):
                self.memos.append((base, value))
            else:
                self.memos.extend((base + index, obj) for index, obj in unpickler.memo.copy().items())
            start, first = start + length, first + count

    def bind(self, snapshot: Snapshot) -> None:
        instead = {id(old): new for old, new in self.replaced}
        self.values = [instead.get(id(value), value) for value in self.values]
        for name, value in zip(snapshot.names, self.values):
            _bind(self.namespace, name, value, self.journal)
        for name in snapshot.deleted:
            _bind(self.namespace, name, _NOTHING, self.journal)
        if instead:
            self._replace(instead)

    def _replace(self, instead: dict[int, Any]) -> None:
        """Some could not take over their content (``instead``: id -> new object): put the new ones in their place wherever plain
        containers refer to them. One search for all: it goes through every object of the process."""
        mine = {id(self.skip), id(self.values), id(self.replaced), id(self.memos), id(self.journal)}
        for holder in gc.get_referrers(*(old for old, _ in self.replaced)):
            if id(holder) in mine:
                continue
            if type(holder) is dict:
                self._put_into(holder, [key for key, value in holder.items() if id(value) in instead], instead)
            elif type(holder) is list:
                self._put_into(holder, [i for i, value in enumerate(holder) if id(value) in instead], instead)
            elif isinstance(attributes := getattr(holder, "__dict__", None), dict) and not isinstance(holder, type):
                self._put_into(attributes, [key for key, value in attributes.items() if id(value) in instead], instead)

    def _put_into(self, holder: Any, keys: list[Any], instead: dict[int, Any]) -> None:
        for key in keys:
            old = holder[key]
            self.journal.append(lambda key=key, old=old: holder.__setitem__(key, old))  # type: ignore[misc]
            holder[key] = instead[id(old)]

    def undo(self) -> None:
        while self.journal:
            self.journal.pop()()


def take_over(load: Load, snapshot: Snapshot, stream: bytes | memoryview, buffers: Sequence[memoryview]) -> None:
    """Raises ``SnapshotRefused`` (or what interrupted it) after everything is as it was before."""
    try:
        if snapshot.stream is not None:
            load.read(snapshot.names, stream, buffers)
        with uninterrupted():
            load.bind(snapshot)
        load.journal.clear()
    except BaseException as error:
        with uninterrupted():
            load.undo()
        if isinstance(error, StaleToken):
            raise SnapshotRefused(reason=f"{STALE} ({error})") from None
        if isinstance(error, JupyterGpuError) or not isinstance(error, Exception):
            raise
        # __setstate__ and constructors are the person's, and may raise anything
        raise SnapshotRefused(reason=f"{type(error).__name__}: {error}") from error


def _bind(namespace: dict[str, Any], name: str, value: Any, journal: list[Undo]) -> None:
    before = namespace.get(name, _NOTHING)

    def put(what: Any) -> None:
        if what is _NOTHING:
            namespace.pop(name, None)
        else:
            namespace[name] = what

    journal.append(lambda: put(before))
    put(value)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[FrameType | None] = []
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # ignored, the system's, or not Python's to change
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: came.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(signal.SIGINT, came[0])
