"""What both ends have agreed on: for each name, the buffers that it had when a snapshot with it was last taken over, in either
direction. The next snapshot tells its buffers by what changed in them."""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..wire.codec import BytesLike
from ..wire.messages import Offer, Snapshot
from . import delta
from .copies import Copies
from .pieces import PIECE, STEPS, Known, cut, flat, known, measure, names_of, step_of
from .segments import read

#: Buffers that are remembered, over all names; each takes 50 KB at most.
LIMIT = 4096
#: A buffer may be this many times as large as another one, and still be told by what changed in it.
_RATIO = 4


@dataclass(frozen=True)
class Span:
    """One pickle of a snapshot: its names, where it is in the stream, and which buffers are its."""

    names: tuple[str, ...]
    start: int
    length: int
    first: int
    count: int


@dataclass(frozen=True)
class Agreed:
    """What names that travelled in one pickle consist of: the pickle itself, if it is large, and the large buffers in their order."""

    stream: Known | None
    buffers: tuple[Known, ...]

    def __iter__(self) -> Iterator[Known]:
        if self.stream is not None:
            yield self.stream
        yield from self.buffers


@dataclass(frozen=True)
class Question:
    """Which of these pieces (by digest) does a buffer not have that the other end cuts by ``step`` bytes?"""

    base: bytes
    step: int
    pieces: list[bytes]


#: Gives the positions of what the other end lacks.
Ask = Callable[[Question], set[int]]


def spans_of(snapshot: Snapshot, stream: BytesLike) -> list[Span]:
    """The pickles that a snapshot is made of. Empty for what cannot be read: reading it in earnest says why."""
    view = flat(stream)
    try:
        segments, start = read(view)
    except ValueError:
        return []
    spans, first, name = [], 0, 0
    for names, count, _, length in segments:
        spans.append(Span(tuple(snapshot.names[name : name + names]), start, length, first, count))
        start, first, name = start + length, first + count, name + names
    return spans if start <= view.nbytes and first <= len(snapshot.buffers) else []


_NOTHING = Agreed(None, ())


class Lineage:
    """The agreed buffers of one session, and copies of their bytes where there is room for them."""

    def __init__(self, copies: Copies | None = None) -> None:
        self.copies = Copies() if copies is None else copies
        self._agreed: OrderedDict[str, Agreed] = OrderedDict()
        self._members: Counter[int] = Counter()  #: id of an ``Agreed`` -> how many names it is of
        self._uses: Counter[bytes] = Counter()  #: digest -> in how many of those it is

    def __len__(self) -> int:
        return len(self._uses)

    # ------------------------------------------------------------ what is agreed

    def keep(self, snapshot: Snapshot, stream: BytesLike, buffers: Sequence[BytesLike], *, verify: bool = False) -> dict[str, Agreed]:
        """Copy the large buffers of a snapshot, and say whose they are: for ``agree``."""
        found: dict[str, Agreed] = {}
        if snapshot.stream is None:
            return found
        view = flat(stream)
        for span in spans_of(snapshot, view):
            own = view[span.start : span.start + span.length]
            whole: Known | None = None
            parts: list[Known] = []
            if own.nbytes > PIECE:
                whole = measure(own)
                self.copies.keep(whole.digest, own)
            for ref, data in zip(snapshot.buffers[span.first : span.first + span.count], buffers[span.first :]):
                if ref.size > PIECE:
                    parts.append(known(ref.digest, data))
                    self.copies.keep(ref.digest, data, verify=verify)
            if whole is not None or parts:
                found.update(dict.fromkeys(span.names, Agreed(whole, tuple(parts))))
            else:
                found.update(dict.fromkeys(span.names, _NOTHING))
        return found

    def agree(self, found: dict[str, Agreed]) -> None:
        """Both ends have these buffers from here on."""
        before = [self._agreed.pop(name) for name in found if name in self._agreed]
        for name, group in found.items():
            if group is not _NOTHING:
                self._agreed[name] = group
                self._members[id(group)] += 1
                if self._members[id(group)] == 1:
                    self._uses.update(each.digest for each in group)
        for group in before:
            self._release(group)
        while len(self._uses) > LIMIT and len(self._agreed) > 1:
            self.forget([next(iter(self._agreed))])

    def forget(self, names: Iterable[str]) -> None:
        for name in names:
            if (group := self._agreed.pop(name, None)) is not None:
                self._release(group)

    def reset(self) -> None:
        """The other end has nothing."""
        self._agreed.clear()
        self._members.clear()
        self._uses.clear()
        self.copies.clear()

    def names_of(self, name: bytes) -> list[str]:
        """Names of which a buffer with this digest is a part."""
        return [n for n, group in self._agreed.items() if any(each.digest == name for each in group)] if self._uses[name] else []

    def _release(self, group: Agreed) -> None:
        """One name less has it."""
        self._members[id(group)] -= 1
        if self._members[id(group)]:
            return
        del self._members[id(group)]
        for each in group:
            self._uses[each.digest] -= 1
            if not self._uses[each.digest]:
                del self._uses[each.digest]
                self.copies.discard(each.digest)

    # ------------------------------------------------------------ telling what changed

    def deltas(self, snapshot: Snapshot, stream: BytesLike, buffers: Sequence[BytesLike], ask: Ask | None = None) -> dict[bytes, bytes]:
        """digest of a buffer (or of the stream) -> the delta by which it can be told. ``ask`` puts a question to the other end."""
        if not self._agreed or snapshot.stream is None or "numpy" not in sys.modules:
            return {}
        found: dict[bytes, bytes] = {}
        view = flat(stream)
        parts: list[tuple[memoryview, memoryview | None, bytes]] = []
        end = 0
        for span in spans_of(snapshot, view):
            agreed = [self._agreed[name] for name in span.names if name in self._agreed]
            parts += [(view[end : span.start], None, b""), self._of_stream(view[span.start : span.start + span.length], agreed)]
            same = {ref.digest for ref in snapshot.buffers[span.first : span.first + span.count]}
            candidates = list(dict.fromkeys(each for group in agreed for each in group.buffers if each.digest not in same))
            end = span.start + span.length
            for i in range(span.first, span.first + span.count):
                ref = snapshot.buffers[i]
                if ref.size <= PIECE or ref.digest in found:
                    continue
                made = self._delta(known(ref.digest, buffers[i]), buffers[i], candidates, ask)
                if made is not None:
                    found[ref.digest] = made
        if any(old is not None for _, old, _ in parts):
            made = delta.encode_parts([*parts, (view[end:], None, b"")], pickled=True)
            if made is not None:
                found[snapshot.stream.digest] = made
        return found

    def _of_stream(self, own: memoryview, agreed: list[Agreed]) -> tuple[memoryview, memoryview | None, bytes]:
        """A pickle that is large for its own sake: a list of numbers, say."""
        nothing = own, None, b""
        if own.nbytes <= PIECE:
            return nothing
        base = _nearest(own.nbytes, [each.stream for each in agreed if each.stream is not None])
        old = None if base is None else self.copies.find(base.digest)
        return nothing if base is None or old is None else (own, old, base.digest)

    def _delta(self, new: Known, data: BytesLike, candidates: list[Known], ask: Ask | None) -> bytes | None:
        if self._uses[new.digest]:  # of another name, or of this one when an alias of it changed
            return delta.encode_same_size(new, new, data)
        base = _nearest(new.size, candidates)
        if base is None:
            return None
        old = self.copies.find(base.digest)
        if old is not None:
            return delta.encode(old, data, base.digest)
        if base.size == new.size:
            return delta.encode_same_size(base, new, data)
        if ask is None:
            return None
        step = step_of(base.size, new.size)
        pieces = cut(data, step)
        missing = ask(Question(base.digest, step, names_of(data, pieces)))
        return delta.encode_from_pieces(base.digest, step, data, pieces, missing)


def lacking(old: memoryview | None, offer: Offer) -> list[int]:
    """Which of the pieces on offer a buffer does not have, if it is cut in the same way; all of them where there is no such buffer."""
    have: set[bytes] = set()
    if old is not None and offer.step in STEPS and "numpy" in sys.modules:
        have.update(names_of(old, cut(old, offer.step)))
    return [i for i, name in enumerate(offer.digests) if name not in have]


def _nearest(size: int, candidates: list[Known]) -> Known | None:
    """The first of the same size, or the one whose size is most like it. It is taken out: the buffers of a frame find each their
    own."""
    best = min(candidates, key=lambda each: abs(each.size - size), default=None)
    if best is None or not best.size / _RATIO <= size <= best.size * _RATIO:
        return None
    candidates.remove(best)
    return best
