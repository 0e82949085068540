"""A buffer told by what another one holds.

A delta is a byte string: the buffers that it copies from, then operations, which fill the new buffer from its beginning to its end;
``rebuild`` lists them, and carries them out.

Insertions are found as in rsync and its kin (A. Tridgell, "Efficient algorithms for sorting and synchronization", 1999), with pieces
that the content defines, each match made longer at both its ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ..wire.codec import BytesLike
from .pieces import COARSE, FINE, Known, Sizes, changed, cut, flat, names_of, step_of
from .rebuild import BYTES, COPY, LENGTH, LISTED, PATCH, PIECES, RANGE, SCATTER, STALE, STALE_BYTES, VERSION, Lookup, apply

__all__ = ["STALE", "STALE_BYTES", "Lookup", "apply", "encode", "encode_from_pieces", "encode_parts", "encode_same_size"]

#: Bytes over which scattered edits are counted, to tell where to send the bytes themselves.
_AREA = 4096
#: Bases that one delta can name.
_MOST = 255
#: Bytes at both ends of two buffers that are compared before all of them are: what has nothing in common costs little.
_SAMPLE = 4 << 20
#: Bytes of a pickle up to which its pieces are small ones: they cost a second for 40 MB.
_FINELY = 32 << 20
#: A delta must save this share of the bytes.
_WORTH = 0.1


class _Out(list["BytesLike"]):
    """The operations of a delta. ``base``: the position among the bases of the one that is copied from; ``pickled``: see
    ``encode_parts``."""

    base = 0
    pickled = False


def encode(old: BytesLike, new: BytesLike, base: bytes) -> bytes | None:
    """A delta from ``old``, whose digest is ``base``, to ``new``. None if it would save little. Needs numpy."""
    return encode_parts([(flat(new), flat(old), base)])


def encode_parts(parts: Sequence[tuple[memoryview, memoryview | None, bytes]], *, pickled: bool = False) -> bytes | None:
    """A delta to a buffer that is made of parts: of each the new bytes, the old ones (None: there are none) and the digest of the
    old ones. ``pickled``: they are pickles, which have marks among their content. None if it would save little. Needs numpy."""
    out = _Out()
    out.pickled = pickled
    bases: list[bytes] = []
    for new, old, base in parts:
        if old is None or len(bases) == _MOST:
            _bytes(out, new)
            continue
        out.base = len(bases)
        bases.append(base)
        before = len(out)
        if old.nbytes != new.nbytes:
            _moves(out, old, new)
        elif not _edits(out, old, new):
            del out[before:]
            _moves(out, old, new)
    return _worth([_header(*bases), *out], sum(new.nbytes for new, _, _ in parts))


def encode_same_size(old: Known, new: Known, data: BytesLike) -> bytes | None:
    """A delta between two buffers of one size of which only the digests of their fixed pieces are known, and the new bytes. None if it
    would save little."""
    view, out, at = flat(data), _Out([_header(old.digest)]), 0
    for offset, length in changed(old, new):
        _copy(out, at, offset - at)
        _bytes(out, view[offset : offset + length])
        at = offset + length
    _copy(out, at, new.size - at)
    return _worth(out, new.size)


def encode_from_pieces(base: bytes, step: int, data: BytesLike, pieces: Sequence[tuple[int, int]], lacking: set[int]) -> bytes | None:
    """A delta from a buffer that the receiver cut by ``step``: it has all ``pieces`` (offset, length) of ``data`` but those at the
    positions ``lacking``. None if it would save little."""
    view, out, run = flat(data), _Out([_header(base)]), 0
    names = names_of(view, list(pieces))
    while run < len(pieces):
        end = run
        while end < len(pieces) and (end in lacking) == (run in lacking):
            end += 1
        if run in lacking:
            _bytes(out, view[pieces[run][0] : sum(pieces[end - 1])])
        else:
            out += [LISTED.pack(PIECES, 0, step, end - run), *names[run:end]]
        run = end
    return _worth(out, view.nbytes)


# ---------------------------------------------------------------- finding what changed


def _edits(out: _Out, before: memoryview, after: memoryview) -> bool:
    """Two buffers of one size, element by element. Whether that is a good way: less than half of them differ."""
    import numpy as np

    size = after.nbytes
    wide = size // 8
    a, b = np.frombuffer(before, np.uint64, wide), np.frombuffer(after, np.uint64, wide)
    where = np.flatnonzero(a != b)
    if len(where) > wide // 2:
        return False
    word, index = _narrowest(before, after, where)
    dense = np.bincount(index * word // _AREA, minlength=-(-wide * 8 // _AREA)) * (word + 2) >= _AREA
    bounds = np.flatnonzero(np.diff(dense.astype(np.int8))) + 1
    edges = [0, *(bounds * _AREA).tolist(), wide * 8]
    for start, end in pairwise(edges):
        if end == start:
            continue
        if dense[start // _AREA]:
            _bytes(out, after[start:end])
        else:
            first, last = np.searchsorted(index, [start // word, end // word])
            _patch(out, start, end - start, word, index[first:last] - start // word, after)
    if wide * 8 < size:
        _bytes(out, after[wide * 8 :])
    return True


def _narrowest(before: memoryview, after: memoryview, where: Any) -> tuple[int, Any]:
    """The width of word by which the edits cost least, and the positions of those that differ. ``where``: words of 8 bytes."""
    import numpy as np

    wide = np.dtype(np.uint64).itemsize
    a = np.frombuffer(before, np.uint64, before.nbytes // wide)[where]
    b = np.frombuffer(after, np.uint64, after.nbytes // wide)[where]
    best, cost = (8, where), len(where) * (8 + 2)
    for word, kind in ((4, np.uint32), (2, np.uint16), (1, np.uint8)):
        differs = a.view(kind) != b.view(kind)
        count = int(differs.sum())
        if count * (word + 2) < cost:
            inner = np.flatnonzero(differs)
            per = wide // word
            best, cost = (word, where[inner // per] * per + inner % per), count * (word + 2)
    return best


def _patch(out: _Out, start: int, length: int, word: int, index: Any, after: memoryview) -> None:
    import numpy as np

    if not len(index):
        _copy(out, start, length)
        return
    gaps = np.diff(index, prepend=-1) - 1
    gap = next(n for n in (1, 2, 4, 8) if int(gaps.max()) < 1 << (8 * n))
    values = np.frombuffer(after, f"<u{word}", length // word, start)[index]
    out += [
        RANGE.pack(PATCH, out.base, start, length),
        SCATTER.pack(word, gap, len(index)),
        gaps.astype(f"<u{gap}").tobytes(),
        values.tobytes(),
    ]


def _moves(out: _Out, before: memoryview, after: memoryview) -> None:
    """What was put in, taken out, or moved."""
    head = _common(before, after)
    tail = _common(before[head:], after[head:], backwards=True)
    _copy(out, 0, head)
    middle = after[head : after.nbytes - tail]
    rest = before[head : before.nbytes - tail]
    fine = out.pickled and middle.nbytes <= _FINELY
    step, sizes = (1, FINE) if fine else (step_of(before.nbytes, after.nbytes), COARSE)
    if middle.nbytes and rest.nbytes and _have_something_in_common(middle, rest, step, sizes):
        _matches(out, middle, rest, head, step, sizes)
    else:
        _bytes(out, middle)
    _copy(out, before.nbytes - tail, tail)


def _have_something_in_common(a: memoryview, b: memoryview, step: int, sizes: Sizes) -> bool:
    """Whether cutting all of them is worth its cost: weights after a step of an optimizer are other bytes altogether."""
    if min(a.nbytes, b.nbytes) < 4 * _SAMPLE:
        return True
    for one, other in ((a[:_SAMPLE], b[:_SAMPLE]), (a[-_SAMPLE:], b[-_SAMPLE:])):
        if not set(names_of(one, cut(one, step, sizes))).isdisjoint(names_of(other, cut(other, step, sizes))):
            return True
    return False


def _matches(out: _Out, middle: memoryview, rest: memoryview, first: int, step: int, sizes: Sizes) -> None:
    """Content-defined pieces of ``middle`` that ``rest`` has (it begins at ``first`` in the base)."""
    theirs = cut(rest, step, sizes)
    at_of = dict(zip(reversed(names_of(rest, theirs)), (offset for offset, _ in reversed(theirs))))
    ours = cut(middle, step, sizes)
    done = 0
    for name, (offset, length) in zip(names_of(middle, ours), ours):
        source = at_of.get(name)
        if source is None or offset + length <= done:
            continue
        skip = max(0, done - offset)
        offset, source, length = offset + skip, source + skip, length - skip
        back = _common(rest[:source], middle[done:offset], backwards=True)
        offset, source, length = offset - back, source - back, length + back
        length += _common(rest[source + length :], middle[offset + length :])
        _bytes(out, middle[done:offset])
        _copy(out, first + source, length)
        done = offset + length
    _bytes(out, middle[done:])


def _common(a: memoryview, b: memoryview, backwards: bool = False) -> int:
    """Bytes that are the same at the beginning (``backwards``: at the end)."""
    import numpy as np

    size = min(a.nbytes, b.nbytes)
    x, y = np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8)
    if backwards:
        x, y = x[::-1], y[::-1]
    done, block = 0, 1 << 12
    while done < size:
        end = min(done + block, size)
        differs = x[done:end] != y[done:end]
        if differs.any():
            return done + int(differs.argmax())
        done, block = end, min(block * 4, 1 << 20)
    return size


# ---------------------------------------------------------------- writing


def _header(*bases: bytes) -> bytes:
    return bytes([VERSION, len(bases)]) + b"".join(bases)


def _copy(out: _Out, offset: int, length: int) -> None:
    if length:
        out.append(RANGE.pack(COPY, out.base, offset, length))


def _bytes(out: _Out, data: memoryview) -> None:
    if data.nbytes:
        out += [LENGTH.pack(BYTES, data.nbytes), data]


def _worth(out: list[BytesLike], size: int) -> bytes | None:
    total = sum(memoryview(part).nbytes for part in out)
    return b"".join(out) if total < size * (1 - _WORTH) else None
