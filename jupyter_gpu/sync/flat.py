"""Strings and numbers by the million, in lists and in arrays of objects: pickled without a memo, and known again by their pointers.

What is flat holds immutable values only. So an array of objects that still holds the very same objects as when its digest was
taken has not changed, whatever they are: pointers are compared, and nothing is pickled.
"""

from __future__ import annotations

import io
import pickle
import sys
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import xxhash

from .addresses import WORD, can_tell, pointers_of
from .chunks import digest

#: Kinds without parts, and without an identity that matters.
FLAT = frozenset({int, float, bool, str, bytes, complex, type(None)})
#: Length from which a container is long: its memo would cost more than it tells.
LONG = 1000
#: Bytes up to which a writable buffer stays in the stream: a reference to it would cost more.
IN_BAND = 4096
#: Elements of an array of objects that are pickled together.
PIECE = 1 << 16
_SAMPLE = 500


class Known(bytearray):
    """Stands in a probe's pickle for the bytes of a buffer of which the digest is known already."""

    digest: bytes
    size: int


@dataclass
class _Kept:
    """``values`` are held, so that no other object can come to have the id of one of them."""

    values: list[Any]
    pointers: bytes
    known: Known
    owner: weakref.ref[Any]


class Flats:
    """The flat arrays of objects that one replica has seen: at most 8 bytes for each element, as long as the array's memory lives."""

    def __init__(self) -> None:
        self._kept: dict[Any, _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, array: Any) -> Known | None:
        """What stands for the array's bytes, if it holds the same objects as before."""
        kept = self._kept.get(_place_of(array))
        return kept.known if kept is not None and kept.pointers == _pointers_of(array) else None

    def keep(self, array: Any, values: list[Any], data: Any) -> None:
        """``values``: the array's, in order; ``data``: the bytes that stand for them."""
        if len(data) <= IN_BAND:
            return  # nothing can stand for what is a part of the stream
        known = Known()
        known.digest, known.size = digest(data), len(data)
        place, kept = _place_of(array), self._kept
        owner = weakref.ref(_owner_of(array), lambda _: kept.pop(place, None))
        kept[place] = _Kept(values, _digest_of_ids(values), known, owner)

    def learn(self, loaded: Iterable[tuple[Any, list[Any], Any]]) -> None:
        """What a load made of bytes, which need not be made again of what came out: (array, values, data) as for ``keep``."""
        for array, values, data in loaded:
            if len(values) > 0 and array.size == len(values) and is_flat(values):
                self.keep(array, values, memoryview(data).cast("B"))

    def clear(self) -> None:
        self._kept.clear()


def _owner_of(array: Any) -> Any:
    """The array at the end of the chain of views."""
    while type(array.base) is type(array):
        array = array.base
    return array


def _place_of(array: Any) -> Any:
    return array.__array_interface__["data"][0], array.shape, array.strides


def _pointers_of(array: Any) -> bytes:
    return xxhash.xxh3_128_digest(array.tobytes())


def _digest_of_ids(values: list[Any]) -> bytes:
    """As ``_pointers_of`` an array of these values: of those that are held, since another thread may write to the array."""
    return xxhash.xxh3_128_digest(pointers_of(values) if can_tell() else b"".join(id(v).to_bytes(WORD, sys.byteorder) for v in values))


def is_flat(content: Iterable[Any]) -> bool:
    """Whether a container (of a dict: keys and values) holds nothing but plain values."""
    values = content.values() if isinstance(content, dict) else ()
    return FLAT.issuperset(map(type, content)) and FLAT.issuperset(map(type, values))


def is_long_and_flat(value: Any) -> bool:
    """Whether it is a list, dict or set whose memo would be large and have nothing of use in it but the container, at index 0."""
    return type(value) in (list, dict, set) and len(value) > LONG and is_flat(value)


def repeats(content: Iterable[Any]) -> bool:
    """Whether the same strings come again and again, going by the first few hundred and, of a sequence, by some all over it: then a
    memo keeps both the pickle and what is made of it small."""
    sample = list(islice(content.values() if isinstance(content, dict) else content, _SAMPLE))
    if isinstance(content, Sequence):
        sample += content[:: max(1, len(content) // _SAMPLE)]
    ids = [id(value) for value in sample if type(value) in (str, bytes)]
    return len(set(ids)) < 0.7 * len(ids)


def pickled(values: list[Any]) -> memoryview:
    """A pickle of flat values."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 5)
    pickler.fast = not repeats(values)
    pickler.dump(values)
    return file.getbuffer()
