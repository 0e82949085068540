"""What names a buffer, and where it is cut.

*Fixed pieces* of 64 KiB (of more in a buffer from 128 MiB on, which has a thousand or two of them): a buffer's digest is the digest over
those of its pieces, which tells two buffers of one size apart piece by piece, at the price of plain xxh3.

*Content-defined pieces*: the bytes themselves say where to cut, so that what moved is found again. A position is a boundary where a
hash of the 32 bytes before it is below a limit, with a smallest and a largest length: A. Muthitacharoen, B. Chen, D. Mazières, "A
low-bandwidth network file system", SOSP 2001. The hash is multiplicative here instead of Rabin's, for it can be computed for all
positions at once.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import xxhash

from ..wire.codec import BytesLike

#: Bytes of a fixed piece: of a small buffer, and of any.
PIECE, _WIDEST = 64 << 10, 1 << 20
#: Bytes of one digest.
WIDTH = 16


class Sizes(NamedTuple):
    """Bytes of content-defined pieces: at least, at most; between them a boundary comes so often."""

    smallest: int
    largest: int
    between: int


#: Of a buffer: the mean is 64 KiB.
COARSE = Sizes(16 << 10, 256 << 10, 48 << 10)
#: Of a pickle, which has marks of its own every thousand elements, and larger ones every 64 KiB: between two of these there is room for
#: several.
FINE = Sizes(256, 4096, 512)
#: Words of 8 bytes that decide about one position, each with a factor of its own (odd, from the digits of the golden ratio and pi).
_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)
_WORD = 8
#: By how many bytes boundaries may be apart.
STEPS = (1, 2, 4, 8)
#: Buffers whose pieces are remembered after they were measured: whoever has the digest in hand need not read the bytes again.
_REMEMBERED = 256
#: Words that are looked at in one go: the temporaries stay in the processor's cache.
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Known:
    """A buffer by name: its digest (16 bytes), its size in bytes, and the digests of its fixed pieces, one after the other (empty for
    a buffer of one piece)."""

    digest: bytes
    size: int
    pieces: bytes = b""


def piece_size(size: int) -> int:
    """Bytes of the fixed pieces of a buffer of ``size`` bytes: at most a thousandth of it, where it has more than a thousand."""
    return min(_WIDEST, max(PIECE, 1 << max(0, (size >> 10).bit_length() - 1)))


def measure(buffer: BytesLike) -> Known:
    """Name a buffer of contiguous bytes."""
    view = flat(buffer)
    size = view.nbytes
    if size <= PIECE:
        return Known(xxhash.xxh3_128_digest(view), size)
    hashed, piece = xxhash.xxh3_128_digest, piece_size(size)
    return _named(b"".join([hashed(view[at : at + piece]) for at in range(0, size, piece)]), size)


def measure_again(old: Known, buffer: BytesLike, changed: Iterable[int]) -> Known:
    """Name a buffer that had the name ``old`` before these of its fixed pieces, by their numbers, may have changed."""
    view, piece, pieces = flat(buffer), piece_size(old.size), bytearray(old.pieces)
    for number in changed:
        pieces[WIDTH * number : WIDTH * (number + 1)] = xxhash.xxh3_128_digest(view[number * piece : (number + 1) * piece])
    return _named(bytes(pieces), old.size)


def _named(pieces: bytes, size: int) -> Known:
    # The seed keeps it apart from a buffer that holds these digests as its bytes, and tells sizes apart.
    made = Known(xxhash.xxh3_128_digest(pieces, size), size, pieces)
    with _lock:
        _recent.pop(made.digest, None)
        _recent[made.digest] = made
        if len(_recent) > _REMEMBERED:
            del _recent[next(iter(_recent))]
    return made


def recall(name: bytes) -> Known | None:
    """What ``measure`` gave a moment ago for a buffer of this digest."""
    with _lock:
        return _recent.get(name)


_recent: dict[bytes, Known] = {}
_lock = threading.Lock()


def known(name: bytes, buffer: BytesLike) -> Known:
    """What ``measure`` gives for a buffer whose digest was computed a moment ago: ``name``."""
    found = recall(name)
    return found if found is not None and found.size == memoryview(buffer).nbytes else measure(buffer)


def digest(buffer: BytesLike) -> bytes:
    """16 bytes that name the content of ``buffer``."""
    return measure(buffer).digest


def flat(buffer: BytesLike) -> memoryview:
    """The bytes of a contiguous buffer, one after the other."""
    view = memoryview(buffer)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def changed(old: Known, new: Known) -> list[tuple[int, int]]:
    """Ranges (offset, length) in which two buffers of one size differ, by whole fixed pieces."""
    if not old.pieces or len(old.pieces) != len(new.pieces):
        return [(0, new.size)]
    ranges: list[tuple[int, int]] = []
    piece = piece_size(new.size)
    for at in range(0, len(new.pieces), WIDTH):
        if old.pieces[at : at + WIDTH] == new.pieces[at : at + WIDTH]:
            continue
        offset = at // WIDTH * piece
        length = min(piece, new.size - offset)
        if ranges and sum(ranges[-1]) == offset:
            ranges[-1] = ranges[-1][0], ranges[-1][1] + length
        else:
            ranges.append((offset, length))
    return ranges


def step_of(old: int, new: int) -> int:
    """By how many bytes the content of a buffer may have moved, given its sizes before and after: whole elements do, so that what was
    put in or taken out is a multiple of one. 8, 4, 2 or 1."""
    return math.gcd(_WORD, old, new) if old != new else math.gcd(4, old)


def cut(buffer: BytesLike, step: int, sizes: Sizes = COARSE) -> list[tuple[int, int]]:
    """Content-defined pieces (offset, length). Boundaries are at multiples of ``step`` bytes (1, 2, 4, 8). Needs numpy."""
    view = flat(buffer)
    size = view.nbytes
    found: list[tuple[int, int]] = []
    candidates = _candidates(view, step, sizes.between)
    start, at = 0, 0
    while start < size:
        at = int(candidates.searchsorted(start + sizes.smallest))
        end = int(candidates[at]) if at < len(candidates) else size
        end = min(end, start + sizes.largest, size)
        found.append((start, end - start))
        start = end
    return found


def names_of(buffer: BytesLike, pieces: list[tuple[int, int]]) -> list[bytes]:
    """Digests of pieces of a buffer."""
    view = flat(buffer)
    return [xxhash.xxh3_128_digest(view[offset : offset + length]) for offset, length in pieces]


def _candidates(view: memoryview, step: int, between: int) -> Any:
    """Positions, in order, before which the content says that a piece may end."""
    import numpy as np

    # A word in `limit` is a boundary by chance.
    limit = np.uint64((1 << 64) // (between // step))
    width = len(_FACTORS)
    found = [np.empty(0, np.int64)]
    for shift in range(0, _WORD, step):
        count = (view.nbytes - shift) // _WORD
        if count < width:
            continue
        words = np.frombuffer(view, np.uint64, count, shift)
        for first in range(0, count - width + 1, _BLOCK):
            last = min(first + _BLOCK, count - width + 1)
            mixed = words[first:last] * np.uint64(_FACTORS[0])
            for i in range(1, width):
                mixed += words[first + i : last + i] * np.uint64(_FACTORS[i])
            mixed ^= mixed >> np.uint64(29)  # floats differ in their upper bits, which a product keeps among its upper ones
            mixed *= np.uint64(_FACTORS[1])
            found.append((np.flatnonzero(mixed < limit) + (first + width)) * _WORD + shift)
    together = np.concatenate(found)
    together.sort()
    return together
