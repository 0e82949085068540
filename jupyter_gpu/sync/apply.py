"""Taking over a snapshot, all of it or nothing: each change of what is in use has its undo in a journal, before it is made."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ..wire.errors import JupyterGpuError, SnapshotRefused
from ..wire.messages import Snapshot
from . import codecs, trust
from .delta import STALE
from .inplace import CannotUpdate, Undo, made_of, update
from .kept import KEPT
from .objects import KnownObjects, StaleToken, Token
from .plain.entry import Refused
from .plain.machine import Machine
from .segments import Segment, read

#: Words of the reason why bytes were refused that are not what their digest says: most likely a thread changed them on their way.
_TORN = ("arrived damaged", "is not here")
_NOTHING = object()


def may_go_again(reason: str) -> bool:
    """Whether a snapshot that was refused for this reason may be taken when everything is pickled and sent anew."""
    return reason.startswith(STALE) or any(words in reason for words in _TORN)


class Load:
    """A snapshot on its way in. ``trust``: what its bytes may become; ``knows``: whether the other end has a name of ours."""

    def __init__(
        self,
        namespace: dict[str, Any],
        objects: KnownObjects,
        remote: Callable[[str], Any],
        trusted: trust.Trust = "code",
        knows: Callable[[str], bool] = lambda name: True,
    ) -> None:
        self.namespace = namespace
        self.objects = objects
        self.remote = remote
        self.trusted = trusted
        self.knows = knows
        self.refused: dict[str, Refused] = {}
        self.journal: list[Undo] = []
        self.values: list[Any] = []
        self.handle_of: Callable[[str], Any] | None = None
        self.lazily = False  #: whether modules are imported when they are first used
        self.memos: list[tuple[int, Any]] = []
        self.skip: dict[int, Any] = {}  #: objects that existed for the pickle only, or have a token of their own
        self.replaced: list[tuple[Any, Any]] = []
        self._reader: Machine | None = None

    def resolve(self, pid: Any) -> Any:
        """The object for a token, with the content that came along taken over."""
        if self.trusted == "data":
            trust.check_pid(pid)
        if type(pid) is int:
            return self.objects.get(pid)
        if pid[0] == KEPT:
            return self._handle(pid[1])
        kind, token, content = pid
        if kind.endswith("!"):  # plain content, pickled apart
            kind, content = kind[:-1], trust.plain(content, self.trusted)
        live = self.objects.find(token)
        if kind == "same":
            if live is None and (not self.knows(content) or (live := self.namespace.get(content)) is None):
                raise StaleToken(content)
            self.skip[id(live)] = live
            return live
        if self.trusted == "data":
            trust.check_update(live, kind, content, self._reader is not None and self._reader.knows(content))
        self.skip[id(content)] = content
        if live is not None:
            self.skip[id(live)] = live  # held: what held it so far may be about to lose it to its twin
            try:
                update(live, kind, content, self.journal)
                return live
            except CannotUpdate:
                self.replaced.append((live, content))
        return self._put(token, made_of(kind, content), live)

    def check(self, snapshot: Snapshot) -> None:
        """Names that are not the other end's to bind."""
        if len(set(snapshot.names)) != len(snapshot.names) or (snapshot.stream is None and snapshot.names):
            raise SnapshotRefused(reason="its names are not those of its values")
        for name in snapshot.names:
            if not trust.may_bind(name, self.trusted):
                self.refused[name] = Refused(f"the name {name}", "it is the shell's, or Python's own")
        for name in snapshot.deleted:
            if not trust.may_bind(name, self.trusted):
                raise SnapshotRefused(reason=f"it deletes {name}")

    def _handle(self, key: str) -> Any:
        handle = self.handle_of(key) if self.handle_of is not None else None
        if handle is None:
            raise SnapshotRefused(reason="it holds a value that stayed remote, of which nothing is known here")
        return handle

    def _put(self, token: Token, obj: Any, before: Any) -> Any:
        if before is not None:
            self.journal.append(lambda: self.objects.put(token, before))
        self.objects.put(token, obj)
        self.skip[id(obj)] = obj
        return obj

    def read(self, names: Sequence[str], stream: bytes | memoryview, buffers: Sequence[memoryview]) -> None:
        codecs.begin_load()
        view = memoryview(stream)
        segments, start = _segments(view, len(names), len(buffers))
        first, told = 0, 0
        for count, buffered, base, length in segments:
            part = view[start : start + length]
            self._read_part(names[told : told + count], part, buffers[first : first + buffered], base)
            start, first, told = start + length, first + buffered, told + count
            if self.trusted == "code" and told < len(names):
                self._bind_early(names[told - count : told])

    def _read_part(self, names: Sequence[str], part: memoryview, buffers: Sequence[memoryview], base: int) -> None:
        reader = trust.unpickler(
            self.trusted, part, buffers, self.namespace, self.resolve, self.remote, self.journal, self.lazily
        )  # fmt: skip
        self._reader = reader if self.trusted == "data" else None
        try:
            value = reader.load()
        except Refused as why:  # the others are looked at all the same, so that all are told at once
            self.refused[names[min(reader.failing, len(names) - 1) if len(names) > 1 else 0]] = why
            return
        if len(names) != 1 and (type(value) is not list or len(value) != len(names)):
            raise SnapshotRefused(reason=f"it has not the values of {len(names)} names")
        self.values.extend([value] if len(names) == 1 else value)
        if len(names) == 1 and codecs.is_long_and_flat(value):
            self.memos.append((base, value))
        else:
            self.memos.extend((base + index, obj) for index, obj in reader.memo.copy().items())

    def _bind_early(self, names: Sequence[str]) -> None:
        """What follows may need them to be rebuilt: a ``__setstate__`` that reads one."""
        for name, value in zip(names, self.values[len(self.values) - len(names) :]):
            if name not in self.namespace:
                _bind(self.namespace, name, value, self.journal)

    def bind(self, snapshot: Snapshot) -> None:
        instead = {id(old): new for old, new in self.replaced}
        self.values = [instead.get(id(value), value) for value in self.values]
        for name, value in zip(snapshot.names, self.values):
            _bind(self.namespace, name, value, self.journal)
        for name in snapshot.deleted:
            _bind(self.namespace, name, _NOTHING, self.journal)

    def undo(self) -> None:
        while self.journal:
            self.journal.pop()()


def _segments(stream: memoryview, names: int, buffers: int) -> tuple[list[Segment], int]:
    """Raises ``SnapshotRefused`` unless they add up to what there is."""
    try:
        found, start = read(stream)
    except ValueError as error:
        raise SnapshotRefused(reason=str(error)) from None
    if any(each.names == 0 for each in found):
        raise SnapshotRefused(reason="its table of contents is damaged")
    told = [sum(each[i] for each in found) for i in (0, 1, 3)]
    size = stream.nbytes - start
    if told != [names, buffers, size]:
        raise SnapshotRefused(reason=f"{told[0]} values in {told[2]} bytes are announced, and there are {names} names and {size} bytes")
    return found, start


def take_over(load: Load, snapshot: Snapshot, stream: bytes | memoryview, buffers: Sequence[memoryview]) -> None:
    """Raises ``SnapshotRefused`` (or what interrupted it) after everything is as it was before."""
    try:
        load.check(snapshot)
        if snapshot.stream is not None:
            load.read(snapshot.names, stream, buffers)
        if load.refused:
            raise trust.untrusted(load.refused)
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
        if isinstance(error, Refused):
            raise SnapshotRefused(reason=f"{error.what} {error.reason}".rstrip()) from None
        if isinstance(error, MemoryError):
            raise SnapshotRefused(reason="there is not enough memory here for it") from None
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


# ---------------------------------------------------------------- objects that could not take over the content


def replace_everywhere(pairs: list[tuple[Any, Any]]) -> None:
    """(old, new): put the new object in the place of the old one wherever a plain container still refers to it that did not travel
    itself. To be called when nothing of the load is left: what only the load held is known by its reference count, and costs no
    search through the heap."""
    for pair in pairs:
        if _references(pair) > _UNHELD:
            _replace(*pair)


def _references(pair: tuple[Any, Any]) -> int:
    return sys.getrefcount(pair[0])


#: Of an object that nothing but its pair refers to; it differs among versions of Python.
_UNHELD = _references((object(), None))


def _replace(old: Any, new: Any) -> None:
    for holder in gc.get_referrers(old):
        if type(holder) is dict:
            _put_into(holder, [key for key, value in holder.items() if value is old], new)
        elif type(holder) is list:
            _put_into(holder, [i for i, value in enumerate(holder) if value is old], new)
        elif isinstance(attributes := getattr(holder, "__dict__", None), dict) and not isinstance(holder, type):
            _put_into(attributes, [key for key, value in attributes.items() if value is old], new)


def _put_into(holder: Any, keys: list[Any], new: Any) -> None:
    for key in keys:
        holder[key] = new
