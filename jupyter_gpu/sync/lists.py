"""Long lists of plain values, known again by the addresses of their items.

The items are held in copies of the list, so that no other object can come to have the address of one of them.
"""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress
from operator import is_not
from typing import Any

import xxhash

from .addresses import WORD, pointers_of
from .flat import FLAT, LONG, PIECE


@dataclass(frozen=True)
class _Piece:
    values: list[Any]
    pointers: bytes


@dataclass(frozen=True)
class Kept:
    """What a list was like. ``size``: bytes of its pickle."""

    pieces: tuple[_Piece, ...]
    fingerprint: bytes
    size: int


class Lists:
    """The long lists of plain values that one replica has seen, by name: 8 bytes for each item."""

    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, name: str, value: list[Any]) -> Kept | None:
        """What it is like, if few of its items are other objects than before; its fingerprint is another one if their content is."""
        kept = self._kept.get(name)
        if kept is None or len(value) <= LONG:
            return None
        view = memoryview(pointers_of(value))
        width = PIECE * WORD
        digests = [xxhash.xxh3_128_digest(view[at : at + width]) for at in range(0, len(view), width)]
        if digests == [piece.pointers for piece in kept.pieces]:
            return kept
        now = self._changed(kept, value, digests)
        if now is None:
            del self._kept[name]
        else:
            self._kept[name] = now
        return now

    @staticmethod
    def _changed(kept: Kept, value: list[Any], digests: list[bytes]) -> Kept | None:
        """None: too much is new, or not plain."""
        pieces: list[_Piece] = []
        told: list[Any] = []  #: positions, and what is there now
        before: list[Any] = []
        for number, digest in enumerate(digests):
            old = kept.pieces[number] if number < len(kept.pieces) else _NOTHING
            if digest == old.pointers:
                pieces.append(old)
                continue
            values = value[number * PIECE : (number + 1) * PIECE]  # only from here on nobody else can change it
            new = _Piece(values, xxhash.xxh3_128_digest(pointers_of(values)))
            places = list(compress(range(len(values)), map(is_not, values, old.values)))
            places += range(len(old.values), len(values))
            if len(told) + len(places) > PIECE or not FLAT.issuperset({type(values[i]) for i in places}):
                return None
            told += [(number, i, values[i]) for i in places]
            before += [(number, i, old.values[i] if i < len(old.values) else _NOTHING.values) for i in places]
            pieces.append(new)
        length = sum(len(piece.values) for piece in pieces)
        if length == sum(len(piece.values) for piece in kept.pieces) and _content_of(told) == _content_of(before):
            return Kept(tuple(pieces), kept.fingerprint, kept.size)
        name = xxhash.xxh3_128_digest(kept.fingerprint + length.to_bytes(8, "little") + _content_of(told))
        return Kept(tuple(pieces), name, kept.size)

    def keep(self, name: str, copy: list[Any], fingerprint: bytes, size: int) -> None:
        """``copy``: of a flat list, made before it was pickled: what is written meanwhile counts as a change."""
        pieces = [copy[at : at + PIECE] for at in range(0, len(copy), PIECE)]
        self._kept[name] = Kept(tuple(_Piece(p, xxhash.xxh3_128_digest(pointers_of(p))) for p in pieces), fingerprint, size)

    def prune(self, namespace: Mapping[str, Any]) -> None:
        """Let go of what no name is bound to any more."""
        for name in [n for n in self._kept if type(namespace.get(n)) is not list]:
            del self._kept[name]

    def clear(self) -> None:
        self._kept.clear()


_NOTHING = _Piece([], b"")


def _content_of(told: list[Any]) -> bytes:
    """The same for the same content, whichever objects it is made of."""
    return xxhash.xxh3_128_digest(marshal.dumps(told, 2))  # version 2 tells nothing of identity
