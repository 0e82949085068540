"""Which handles of a session are in use here: one for each value, and what the kernel may let go of."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from ..sync.handles import Handle
from ..wire.messages import HandleInfo

if TYPE_CHECKING:
    from .remote import Remote


class Held:
    """``fetcher(key)`` gives what a new handle calls when it is fetched; ``namespace`` is the notebook's."""

    def __init__(self, namespace: dict[str, Any], fetcher: Callable[[str], Callable[[], Any]]) -> None:
        self._namespace = namespace
        self._fetcher = fetcher
        self._handles: weakref.WeakValueDictionary[str, Handle] = weakref.WeakValueDictionary()
        self._keys: set[str] = set()  #: of all that the kernel keeps for them
        self._running: list[Handle] = []  #: while a cell runs: what it returns may hold any of them

    def of(self, key: str) -> Handle | None:
        """The handle of this key, if one is in use."""
        return self._handles.get(key)

    def meet(self, infos: Sequence[HandleInfo]) -> list[Handle]:
        """The stand-ins of values that stayed remote, in the order of ``infos``. One that is known shows from now on what is told of its
        value now, under its first name."""
        found: list[Handle] = []
        for info in infos:
            handle = self.of(info.key)
            if handle is None:
                found.append(self._new(info))
                continue
            # A name that it had before may be another's by now; one that it got from this very list is about to be bound.
            named = self._namespace.get(handle.info.name) is handle or any(handle is each for each in found)
            handle._info = replace(info, why=info.why or handle.info.why, name=handle.info.name if named else info.name)
            found.append(handle)
        return found

    def _new(self, info: HandleInfo) -> Handle:
        handle = Handle(info, self._fetcher(info.key or info.name))
        if info.key:
            self._handles[info.key] = handle
            self._keys.add(info.key)
        return handle

    def begin(self) -> list[str]:
        """Before a cell: keys of values that no handle stands for any more, which the kernel may let go of."""
        self._running = list(self._handles.values())
        return sorted(self._keys - {handle.key for handle in self._running})

    def keep(self, handles: Iterable[Handle]) -> None:
        """Until the cell is over."""
        self._running += handles

    def over(self, released: Sequence[str]) -> None:
        """The cell is over, and the kernel has let go of ``released``."""
        self._running = []
        self._keys.difference_update(released)


class Fetcher:
    """What a handle calls, and by which it is known whose it is. ``name``: the key of its value."""

    def __init__(self, remote: Remote, name: str) -> None:
        self.remote = remote
        self.name = name

    @property
    def ended(self) -> bool:
        return not self.remote.alive

    def __call__(self) -> Any:
        return self.remote.fetch(self.name)


def home_of(handle: Handle) -> Remote | None:
    """The remote in whose kernel the value of a handle lives."""
    fetcher = handle._fetch
    return fetcher.remote if isinstance(fetcher, Fetcher) else None


def is_result(name: str) -> bool:
    """``_12``: what a cell displayed, where it stayed remote."""
    return name[:1] == "_" and name[1:].isdigit()
