"""Making a buffer by what another one holds, as a delta tells.

The stream is verified before anything is allocated, and the result against the digest of the whole.

    header      u8 version | u8 bases | bases x 16 bytes
    COPY        u8 base | u64 offset | u64 length
    BYTES       u64 length | the bytes
    PATCH       u8 base | u64 offset | u64 length | u8 word | u8 gap | u64 count | gaps | words
                a copy in which some words (1, 2, 4, 8 bytes) have other values; a gap is the number of words left as they are
                before the next that is not
    PIECES      u8 base | u8 step | u32 count | count x 16 bytes
                content-defined pieces of the base, cut by ``step``, by their digests
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..wire.codec import BytesLike
from ..wire.errors import SnapshotRefused
from .pieces import STEPS, WIDTH, cut, digest, flat, names_of

#: How ``SnapshotRefused.reason`` begins when the sender should start afresh: what it left out is not here any more.
STALE = "it refers to objects that are no longer here"
#: The same, where only the bytes of a buffer are missing: sending those whole is enough.
STALE_BYTES = f"{STALE} (the bytes that a change is told by)"
VERSION = 1
COPY, BYTES, PATCH, PIECES = range(4)
RANGE = struct.Struct("<BBQQ")
LENGTH = struct.Struct("<BQ")
SCATTER = struct.Struct("<BBQ")
LISTED = struct.Struct("<BBBI")

#: digest of a base -> its bytes, or None
Lookup = Callable[[bytes], "memoryview | None"]


@dataclass
class _Op:
    """``source`` is copied; then ``words`` of the width of ``word`` bytes are put at the positions ``index``."""

    source: memoryview
    word: int = 0
    index: Any = None
    words: Any = None


def apply(stream: BytesLike, lookup: Lookup, size: int, wanted: bytes) -> memoryview:
    """The new buffer: ``size`` bytes of writable memory, whose digest is ``wanted``. Raises ``SnapshotRefused``, with a reason that
    begins with ``STALE`` if sending the buffer whole helps; nothing is allocated before the stream is known to be sound."""
    try:
        plan = _Reader(flat(stream), lookup).plan(size)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise SnapshotRefused(reason=f"{STALE_BYTES}: the change arrived damaged ({error})") from None
    try:
        made = _empty(size)
    except MemoryError:
        raise SnapshotRefused(reason=f"there is no memory for a buffer of {size} bytes") from None
    at = 0
    for op in plan:
        end = at + op.source.nbytes
        made[at:end] = op.source
        if op.word:
            _as_words(made[at:end], op.word)[op.index] = op.words
        at = end
    if digest(made) != wanted:
        raise SnapshotRefused(reason=f"{STALE_BYTES}: the result is not what its digest says")
    return made


def _as_words(view: memoryview, word: int) -> Any:
    import numpy as np

    return np.frombuffer(view, f"<u{word}", view.nbytes // word)


def _empty(size: int) -> memoryview:
    try:
        import numpy as np
    except ImportError:
        return memoryview(bytearray(size))
    return np.empty(size, np.uint8).data  # a bytearray would be filled with zeros first


class _Reader:
    """Goes through a stream and trusts nothing in it: raises ``ValueError`` and the like, and ``SnapshotRefused`` for a base that is
    not here."""

    def __init__(self, stream: memoryview, lookup: Lookup) -> None:
        self.stream = stream
        self.lookup = lookup
        self.at = 0
        self._bases: dict[bytes, memoryview] = {}
        self._cuts: dict[tuple[bytes, int], dict[bytes, tuple[int, int]]] = {}

    def plan(self, size: int) -> list[_Op]:
        head = self._take(2)
        if head[0] != VERSION:
            raise ValueError(f"its version is {head[0]}")
        names = [bytes(self._take(WIDTH)) for _ in range(head[1])]
        ops: list[_Op] = []
        total = 0
        while self.at < self.stream.nbytes:
            for op in self._next(names):
                total += op.source.nbytes
                if total > size:
                    raise ValueError("it is longer than announced")
                ops.append(op)
        if total != size:
            raise ValueError("it is shorter than announced")
        return ops

    def _next(self, names: list[bytes]) -> list[_Op]:
        kind = self.stream[self.at]
        if kind == BYTES:
            _, length = self._unpack(LENGTH)
            return [_Op(self._take(length))]
        if kind == COPY:
            return [_Op(self._range(names))]
        if kind == PATCH:
            return [self._scattered(self._range(names))]
        if kind == PIECES:
            return self._listed(names)
        raise ValueError(f"there is no operation {kind}")

    def _range(self, names: list[bytes]) -> memoryview:
        _, base, offset, length = self._unpack(RANGE)
        source = self._base(names[base])
        if offset + length > source.nbytes:
            raise ValueError("it copies from beyond the end of a buffer")
        return source[offset : offset + length]

    def _scattered(self, source: memoryview) -> _Op:
        import numpy as np

        word, gap, count = self._unpack(SCATTER)
        if word not in STEPS or gap not in STEPS or count > source.nbytes // word:
            raise ValueError("edits that cannot be")
        gaps = np.frombuffer(self._take(count * gap), f"<u{gap}")
        words = np.frombuffer(self._take(count * word), f"<u{word}")
        if count and int(gaps.max()) > source.nbytes // word:
            raise ValueError("an edit beyond the end of its range")
        index = np.cumsum(gaps.astype(np.int64) + 1) - 1  # no overflow: each is at most the words of a buffer that is here, as is count
        if count and int(index[-1]) >= source.nbytes // word:
            raise ValueError("an edit beyond the end of its range")
        return _Op(source, word, index, words)

    def _listed(self, names: list[bytes]) -> list[_Op]:
        _, base, step, count = self._unpack(LISTED)
        if step not in STEPS:
            raise ValueError(f"pieces cannot be cut by {step}")
        listed = self._take(count * WIDTH)
        source, known = self._base(names[base]), self._cut(names[base], step)
        ops = []
        for i in range(count):
            found = known.get(bytes(listed[i * WIDTH : (i + 1) * WIDTH]))
            if found is None:
                raise ValueError("a piece that the buffer does not have")
            ops.append(_Op(source[found[0] : sum(found)]))
        return ops

    def _cut(self, name: bytes, step: int) -> dict[bytes, tuple[int, int]]:
        if (name, step) not in self._cuts:
            base = self._base(name)
            pieces = cut(base, step)
            self._cuts[name, step] = dict(zip(names_of(base, pieces), pieces))
        return self._cuts[name, step]

    def _base(self, name: bytes) -> memoryview:
        if name not in self._bases:
            found = self.lookup(name)
            if found is None:
                raise SnapshotRefused(reason=STALE_BYTES)
            self._bases[name] = flat(found)
        return self._bases[name]

    def _unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self._take(layout.size))

    def _take(self, length: int) -> memoryview:
        if length > self.stream.nbytes - self.at:
            raise ValueError("it ends too early")
        self.at += length
        return self.stream[self.at - length : self.at]
