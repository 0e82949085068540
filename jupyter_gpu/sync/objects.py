"""The objects that both ends have, by token and by identity: what aliases and in-place updates rest on."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable
from itertools import islice
from types import FunctionType
from typing import Any

from .inplace import _is_plain, home_of, is_found_by_name, is_identity_kind

#: Names one object at both ends. Made of the serial of the snapshot, whose serial that is, and the index in the pickle's memo. A plain
#: number, since a pickler that looks for known objects looks at each part of a token as well.
Token = int
_PARTS = 2000
_PLAIN_VALUES = frozenset({int, float, complex, str, bytes, bool, type(None)})
#: Objects looked at in one go of ``prune``.
_SLICE = 5000


class StaleToken(Exception):
    """The other end refers to an object that is not kept here (any more)."""


class KnownObjects:
    """Token <-> object. What can be referred to weakly is, so that memory is free as soon as the person lets go of it; lists, dicts
    and the like are kept alive until ``prune`` sees that nothing else holds them."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.tokens: dict[int, Token] = {}  #: id -> token; an id may be stale: ask ``find``
        self._namespace = namespace
        self._strong: dict[Token, Any] = {}
        self._weak: dict[Token, tuple[weakref.ref[Any], int]] = {}
        self._after_sweep = 0
        self._new: list[Token] = []

    def __len__(self) -> int:
        return len(self._strong) + len(self._weak)

    def find(self, token: Token) -> Any:
        """The object, or None."""
        if (obj := self._strong.get(token)) is not None:
            return obj
        held = self._weak.get(token)
        return None if held is None else held[0]()

    def get(self, token: Token) -> Any:
        if (obj := self.find(token)) is None:
            raise StaleToken(f"{token}")
        return obj

    def put(self, token: Token, obj: Any) -> None:
        self._drop(token)
        if type(obj).__weakrefoffset__:
            self._weak[token] = (weakref.ref(obj), id(obj))
        else:
            self._strong[token] = obj
        self.tokens[id(obj)] = token

    def learn(self, side: str, serial: int, memo: Iterable[tuple[int, Any]], skip: Iterable[int]) -> None:
        """From the memo of a snapshot's pickler or unpickler. ``skip``: ids of objects that have a token, or none of their own."""
        kinds: dict[type, bool] = {}
        elsewhere: dict[int, bool] = {}
        found: list[tuple[int, Any]] = []
        states = set(skip)
        for index, obj in memo:
            kind = type(obj)
            wanted = kinds.get(kind)
            if wanted is None:
                wanted = kinds[kind] = is_identity_kind(kind)
            if not wanted:
                continue
            if kind is FunctionType:
                if (key := id(obj)) not in elsewhere:  # the same few in the pickle of each function of the notebook
                    elsewhere[key] = obj.__globals__ is not self._namespace and (is_found_by_name(obj) or not home_of(obj))
                if elsewhere[key]:
                    continue
            found.append((index, obj))
            if kind.__dictoffset__ and (state := _dict_of(obj)) is not obj:
                states.add(id(state))  # pickled as a part of its object, and updated with it
        strong, weak, tokens = self._strong, self._weak, self.tokens
        first = (serial << 40) + (side == "kernel")
        new: list[Token] = []
        self._new = new
        for index, obj in found:  # as ``put`` does it, without a call: no token of this serial is there yet
            key = id(obj)
            if key in states:
                continue
            token = first + 2 * index
            if type(obj).__weakrefoffset__:
                weak[token] = (weakref.ref(obj), key)
            else:
                strong[token] = obj
                new.append(token)
            tokens[key] = token

    def prune(self) -> None:
        """Let go of objects that nothing else refers to any more; what they alone referred to goes in the next round."""
        if len(self._weak) > 2 * self._after_sweep + 1000:
            for token in [t for t, (ref, _) in self._weak.items() if ref() is None]:
                self._drop(token)
            self._after_sweep = len(self._weak)
        full = len(self._strong) <= _SLICE
        before = -1
        while before != len(self._strong):
            before = len(self._strong)
            tokens = list(self._strong) if full else self._next_slice()
            for token in tokens:
                # One reference is the dict's, one the argument's.
                if sys.getrefcount(self._strong[token]) <= 2:
                    self._drop(token)

    def _next_slice(self) -> list[Token]:
        """What is new, and some of the rest: a sweep of everything would be felt after each cell."""
        tokens = [t for t in self._new if t in self._strong]
        self._new = []
        for token in list(self._strong)[:_SLICE]:
            self._strong[token] = self._strong.pop(token)  # to the end: another turn's
            tokens.append(token)
        return list(dict.fromkeys(tokens))

    def clear(self) -> None:
        self.tokens.clear()
        self._strong.clear()
        self._weak.clear()

    def _drop(self, token: Token) -> None:
        obj = self._strong.pop(token, None)
        held = self._weak.pop(token, None)
        key = id(obj) if obj is not None else held[1] if held is not None else None
        if key is not None and self.tokens.get(key) == token:
            del self.tokens[key]


def identities(value: Any) -> int:
    """Which mutable objects a value is made of, in one number: equal values may share them with other names, or not. Of the first two
    thousand parts, through plain containers and instances: a larger one that is tied anew without another change goes unseen."""
    found: list[int] = []
    seen: set[int] = set()
    plain: dict[type, bool] = {}
    todo, left = [value], _PARTS
    while todo and left:
        part = todo.pop()
        kind = type(part)
        left -= 1
        if kind in _PLAIN_VALUES:
            continue
        key = id(part)
        if kind is not tuple:
            found.append(key)
        if key in seen:
            continue
        seen.add(key)
        if kind is list or kind is tuple:
            todo.extend(part[:left])
        elif kind is dict:
            todo.extend(islice(part.values(), left))
        elif kind is set or kind is bytearray:
            continue
        elif _is_plain_kind(kind, plain) and type(state := _dict_of(part)) is dict:
            todo.extend(islice(state.values(), left))
        else:
            found.pop()  # how it is made up is its library's business
    return hash(tuple(found))


def _is_plain_kind(kind: type, known: dict[type, bool]) -> bool:
    found = known.get(kind)
    if found is None:
        found = known[kind] = bool(kind.__dictoffset__) and _is_plain(kind)
    return found


def _dict_of(obj: Any) -> Any:
    try:
        return object.__getattribute__(obj, "__dict__")
    except AttributeError:
        return None
