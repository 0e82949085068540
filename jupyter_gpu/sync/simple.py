"""Small values that hold nothing but plain data: most names of a notebook. They are told apart without a pickler of our own, which
takes ten times as long to be made as such a value to be pickled, and they travel together in one pickle.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Mapping
from typing import Any

from .flat import FLAT, LONG

#: Kinds whose parts are looked at. None of them is a subclass, which could mean anything.
_CONTAINERS = frozenset({list, dict, tuple, set, frozenset})
_MUTABLE = frozenset({list, dict, set})
#: Containers within one another that are still small.
_MOST = 500
#: Bytes of the marshalled value. What is larger travels by itself, so that a change of it can be told by what changed.
SIZE = 4096


def parts_of(value: Any, kept: Mapping[int, str] | None = None) -> list[Any] | None:
    """The lists, dicts and sets that a plain value is made of, in the order in which they are met; None for what is not plain, not
    small, or no tree. ``kept``: ids of values that stay at this end: what holds one is no plain data for the other end."""
    if kept and id(value) in kept:
        return None
    if type(value) in FLAT:
        return []
    found: list[Any] = []
    seen: set[int] = set()
    todo = [value]
    for part in todo:
        kind = type(part)
        if kind not in _CONTAINERS or len(part) > LONG or len(todo) > _MOST or id(part) in seen:
            return None  # what is shared within it would be marshalled again and again, and a cycle for ever
        if kind in _MUTABLE:
            found.append(part)
        seen.add(id(part))
        for inner in (part, part.values()) if kind is dict else (part,):
            if kept and any(map(kept.__contains__, map(id, inner))):
                return None
            if not FLAT.issuperset(map(type, inner)):
                todo.extend(each for each in inner if type(each) not in FLAT)
    return found


def marshalled(value: Any) -> bytes | None:
    """Bytes that are the same for equal plain values, and for these alone: version 2 knows no references, by which they would tell
    who else has the parts. None for what is too large, or too deep."""
    try:
        data = marshal.dumps(value, 2)
    except (ValueError, RecursionError, MemoryError):
        return None
    return data if len(data) <= SIZE else None


def identity_of(parts: Iterable[Any]) -> int:
    """As ``objects.identities``, of what ``parts_of`` found."""
    return hash(tuple(map(id, parts)))
