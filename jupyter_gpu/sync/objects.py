"""The objects that both ends have, by token and by identity: what aliases and in-place updates rest on."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from .inplace import is_updatable
from .pickler import Token


class StaleToken(Exception):
    """The other end refers to an object that is not kept here (any more)."""


class KnownObjects:
    """Token <-> object. Objects are kept alive, since identity has no meaning otherwise, until their snapshot is forgotten."""

    def __init__(self) -> None:
        self.tokens: dict[int, Token] = {}
        self._objects: dict[Token, Any] = {}
        self._serials: dict[tuple[str, int], list[Token]] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, token: Token) -> Any:
        try:
            return self._objects[token]
        except KeyError:
            raise StaleToken(f"{token}") from None

    def add_memo(self, side: str, serial: int, memo: Iterable[tuple[int, Any]], without: set[int], instead: dict[int, Any] | None = None) -> None:
        """Learn from the memo of a snapshot's pickler or unpickler. ``without``: ids of objects that existed for the pickle only;
        ``instead``: id of an object in the memo -> the one that stands for it."""
        instead = instead or {}
        found = self._serials.setdefault((side, serial), [])
        states = set()
        for index, obj in memo:
            obj = instead.get(id(obj), obj)
            if id(obj) in without or not is_updatable(obj):
                continue
            state = getattr(obj, "__dict__", None)
            if state is not None:
                states.add(id(state))  # pickled as a part of its object, and updated with it
            token = (side, serial, index)
            self._objects[token] = obj
            self.tokens[id(obj)] = token
            found.append(token)
        for token in [t for t in found if id(self._objects[t]) in states]:
            self._drop(token)
        self._serials[(side, serial)] = [t for t in found if t in self._objects]

    def forget(self, side: str, serial: int) -> None:
        for token in self._serials.pop((side, serial), ()):
            self._drop(token)

    def prune(self) -> None:
        """Let go of objects that nothing else refers to any more; what they alone referred to goes in the next round."""
        before = -1
        while before != len(self._objects):
            before = len(self._objects)
            for token in list(reversed(self._objects)):
                # One reference is the dict's, one the argument's.
                if sys.getrefcount(self._objects[token]) <= 2:
                    self._drop(token)

    def clear(self) -> None:
        self.tokens.clear()
        self._objects.clear()
        self._serials.clear()

    def _drop(self, token: Token) -> None:
        obj = self._objects.pop(token, None)
        if obj is not None and self.tokens.get(id(obj)) == token:
            del self.tokens[id(obj)]
