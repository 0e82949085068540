"""What stays at the kernel because a handle stands for it at the client: by a key of its own, which outlives names and kernels."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

#: First part of the persistent id by which a pickle towards the client refers to a handle; the second is the key.
KEPT = "kept"
#: Kinds of which equal values may be one object: met anywhere else, it is another value that happens to be the same.
_SHARED = (int, float, complex, bool, str, bytes, type(None), tuple, frozenset)
#: Bytes beyond which even these are one value of its own.
_LARGE = 4096


class Kept:
    """``values``: key -> value. ``keys``: id -> key of what goes to the client as its handle wherever a pickle meets it. ``names``:
    name -> key of what the client has as a handle under that name.

    One object has one key, by whatever names: its handles at the client are one handle. Keys are drawn at random, so that those of
    one kernel mean nothing else in another one that takes its values over."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.keys: dict[int, str] = {}
        self.names: dict[str, str] = {}
        self._prefix = f"kept_{secrets.token_hex(4)}"  # keys are valid names: a value travels under its key when it is fetched
        self._count = count(1)

    def keep(self, value: Any, name: str) -> str:
        """The key of a value that stays, under ``name`` too."""
        key = self.keys.get(id(value)) or self.names.get(name, "")
        if key not in self.values or self.values[key] is not value:
            key = f"{self._prefix}_{next(self._count)}"
            self.values[key] = value
            if not isinstance(value, _SHARED) or value.__sizeof__() > _LARGE:
                self.keys[id(value)] = key
        self.names[name] = key
        return key

    def stays(self, name: str, value: Any) -> bool:
        """Whether ``value``, bound to ``name``, is one for which the client has a handle."""
        key = self.names.get(name)
        return id(value) in self.keys or (key is not None and self.values[key] is value)

    def by_value(self, value: Any, name: str) -> None:
        """From here on it goes to the client as what it is. Handles that the client still has go on working."""
        self.keys.pop(id(value), None)
        self.names.pop(name, None)

    def release(self, keys: Iterable[str]) -> None:
        """The client has no handle of these any more."""
        for key in keys:
            value = self.values.pop(key, None)
            if self.keys.get(id(value)) == key:
                del self.keys[id(value)]
            for name in [n for n, k in self.names.items() if k == key]:
                del self.names[name]

    def take(self, values: dict[str, Any], names: dict[str, str]) -> None:
        """Those of another kernel: its handles mean the same from here on."""
        for key, value in values.items():
            self.values[key] = value
            if not isinstance(value, _SHARED) or value.__sizeof__() > _LARGE:
                self.keys[id(value)] = key
        self.names.update(names)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """In here nothing is a handle: all of a value is wanted."""
        held = dict(self.keys)
        self.keys.clear()
        try:
            yield
        finally:
            self.keys.update(held)
