"""Digests of large memory, of which only what was written since is read: see ``watcher``. Where the system does not tell, all is read
and hashed each time.

Memory is protected before it is hashed, and the pages that are found written are protected again before they are: so a write at any
time shows, if not in this digest, then in the next one. Of a buffer of which few pages were written, only the pieces that hold these
are hashed (``pieces``): 0.1 ms for 256 MiB of which one element changed, where all of it takes 10.

What it costs: the first write to each page of 4 KiB that is watched, 0.2 to 0.4 ms for a MiB; the first time that a watched array of
256 MiB is written from end to end takes 52 to 130 ms, where it takes 10 to 20 otherwise. So memory is watched from the first time on that
its digest is taken, when it goes to the other end or comes from there, which costs more than that; but what was then written
wholesale has to be found unchanged a few times before it is watched again, and twice as often each time.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .pieces import Known, measure, measure_again, piece_size, recall
from .watcher import PAGE, Regions, Watcher

#: Bytes from which it is worth the while; and from the first time on, where it takes a millisecond to find out what the memory is.
LEAST, _LEAST_UNASKED = 1 << 20, 16 << 20
#: Times that memory that was written wholesale has to be found unchanged before it is watched.
PATIENCE = 2
_MOST_PATIENCE = 1 << 10
_MOST = 1024
#: Of so many pages one may have been written: of more, all is read.
_FEW = 16
#: Bytes of a large page.
_HUGE = 2 << 20
#: Regions that others were told of in the place of a range.
_MOST_LOOSE = 1000


@dataclass(eq=False)
class _Range:
    address: int
    size: int
    known: Known
    same: int = 0  #: times in a row that it was hashed and had not changed
    patience: int = 0
    watched: bool = False
    near: list[_Range] = field(default_factory=list)  #: which have a page in common with it, if they are watched
    loose: Regions = field(default_factory=list)  #: written, and already told of to one of those

    def __post_init__(self) -> None:
        self.start = self.address // PAGE * PAGE  #: of its first page
        self.end = -(-(self.address + self.size) // PAGE) * PAGE  #: of its last page

    def pieces_of(self, regions: Regions) -> set[int]:
        """Which of its fixed pieces have a part in these regions."""
        piece = piece_size(self.size)
        found: set[int] = set()
        for first, last in regions:
            first, last = max(first - self.address, 0), min(last - self.address, self.size)
            if first < last:
                found.update(range(first // piece, (last - 1) // piece + 1))
        return found


class Pages:
    """Digests of memory by its place. One for a process; a fork starts afresh."""

    def __init__(self) -> None:
        self.skipped = 0  #: bytes that were not read
        self.watcher = Watcher()
        self._ranges: OrderedDict[tuple[int, int], _Range] = OrderedDict()
        self._lock = threading.Lock()

    def digest(self, buffer: memoryview) -> bytes:
        """As ``chunks.digest``, of contiguous memory."""
        key = self._key_of(buffer)
        if key is None:
            return measure(buffer).digest
        with self._lock:
            return self._digest(key, buffer)

    def arrived(self, buffer: memoryview, digest: bytes) -> None:
        """Memory that nobody has yet but the caller, whose digest was just compared: it need not be read to know it again."""
        key = self._key_of(buffer)
        if key is None:
            return
        with self._lock:
            self._drop(key)
            made = _Range(*key, recall(digest) or Known(digest, buffer.nbytes))
            if self._is_worth(made, buffer) and self._watch(made):
                made.watched = True
                self._keep(key, made)

    def close(self) -> None:
        """Stop watching; of no use afterwards."""
        self.watcher.close()
        self._ranges.clear()

    # ------------------------------------------------------------ ranges

    def _key_of(self, buffer: memoryview) -> tuple[int, int] | None:
        """None: not to be watched."""
        numpy = sys.modules.get("numpy")
        if buffer.nbytes < LEAST or self.watcher.refused or numpy is None:
            return None
        return int(numpy.frombuffer(buffer, numpy.uint8).__array_interface__["data"][0]), buffer.nbytes

    def _digest(self, key: tuple[int, int], buffer: memoryview) -> bytes:
        found = self._ranges.get(key)
        if found is not None and found.watched:
            self._ranges.move_to_end(key)
            if (known := self._again(found, buffer)) is not None:
                return known.digest
            found = self._ranges.get(key)
        if found is None:
            made = _Range(*key, Known(b"", 0))
            protected = self._is_worth(made, buffer) and self._watch(made)  # before the digest: a write in between shows
            made.known, made.watched, made.patience = measure(buffer), protected, 0 if protected else PATIENCE
            self._keep(key, made)
            return made.known.digest
        self._ranges.move_to_end(key)
        found.watched = False
        protected = found.same >= found.patience and self._watch(found)
        now = measure(buffer)
        found.same = found.same + 1 if now.digest == found.known.digest else 0
        found.known, found.watched = now, protected  # together, at the very end: an interrupt leaves it as not watched
        return now.digest

    def _again(self, found: _Range, buffer: memoryview) -> Known | None:
        """Its digest by what was written; None: all of it has to be read."""
        found.watched = False  # until all is done: an interrupt leaves it so
        if not self.watcher.is_open():
            self._leave(found)
            return None
        try:
            with self._telling(found.near, found.loose) as regions:
                told, all_of_them = self.watcher.written(found.start, found.end, (found.end - found.start) // PAGE // _FEW)
                regions += told
        except OSError:  # it is other memory, at the same place
            del self._ranges[found.address, found.size]
            return None
        changed = found.pieces_of(regions)
        if not all_of_them or (changed and not found.known.pieces):
            self._leave(found)
            found.patience, found.same = min(max(PATIENCE, 2 * found.patience), _MOST_PATIENCE), 0
            return None
        if changed:
            found.known = measure_again(found.known, buffer, changed)
        found.loose = []
        self.skipped += max(0, found.size - len(changed) * piece_size(found.size))
        found.watched = True
        return found.known

    @contextmanager
    def _telling(self, near: list[_Range], loose: Regions) -> Iterator[Regions]:
        """What the system tells within, with what it told others before, is told to others with the same pages: it will not tell them. They
        are not watched while nobody knows."""
        others = [each for each in near if each.watched]
        regions: Regions = []
        for other in others:
            other.watched = False
        yield regions
        for other in others:
            other.loose += [r for r in regions if r[0] < other.end and other.start < r[1]]
            other.watched = len(other.loose) <= _MOST_LOOSE
        regions += loose

    def _is_worth(self, new: _Range, buffer: memoryview) -> bool:
        """Whether to watch what was never seen before. Not what may be memory that nobody ever wrote to, which is zeros: the system would
        have to give it page by page, at ten times the usual price, and it most likely is there to be filled."""
        if not self.watcher.is_open() or not (self.watcher.asks or new.size >= _LEAST_UNASKED):
            return False
        words = sys.modules["numpy"].frombuffer(buffer, "u8", new.size // 8)
        return bool(words[:: max(1, min(_HUGE, new.size // 8) // 8)].any())

    def _keep(self, key: tuple[int, int], made: _Range) -> None:
        self._ranges[key] = made
        if len(self._ranges) > _MOST:
            self._drop(next(iter(self._ranges)))

    def _drop(self, key: tuple[int, int]) -> None:
        if (found := self._ranges.pop(key, None)) is not None and found.watched:
            self._leave(found)

    def _watch(self, wanted: _Range) -> bool:
        """Whether from now on each write to it is known; ``watched`` is for the caller to set, when he has its digest."""
        start, end = wanted.start, wanted.end
        near = [r for r in self._ranges.values() if r.watched and r is not wanted and r.start < end and start < r.end]
        try:
            with self._telling(near, []) as regions:
                regions += self.watcher.protect(start, end)
        except OSError:
            return False
        wanted.near, wanted.loose = near, []
        for other in near:
            other.near = [r for r in other.near if r.watched and r is not wanted] + [wanted]
        return True

    def _leave(self, watched: _Range) -> None:
        watched.watched = False
        if not any(r.watched for r in watched.near):  # what it shares with them must go on being watched
            self.watcher.release(watched.start, watched.end)


pages = Pages()


def _after_fork() -> None:
    global pages
    pages.close()
    pages = Pages()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
