"""Pickling what the other end has in part: what it knows goes by its token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import codecs
from .flat import pickled
from .inplace import content_of
from .kept import KEPT
from .pickler import Pickler, Reduced

if TYPE_CHECKING:
    from .objects import KnownObjects, Token


def _first_of(kept: Mapping[int, str], tokens: Mapping[int, Token]) -> Any:
    key_of, token_of = kept.get, tokens.get

    def find(key: int) -> Any:
        return token_of(key) if (found := key_of(key)) is None else found

    return find


class TokenPickler(Pickler):
    """Refers to objects that both ends have by their tokens. The first time in a stream, the content goes along: the other end
    updates its object there and then, before anything that was pickled after it is rebuilt (a ``__setstate__``, a hash). Should it
    have let go of the object, the content makes a new one.

    ``clean``: id -> name of values of names that are the same at both ends: for these the token is enough.
    """

    def __init__(
        self,
        namespace: dict[str, Any],
        reduced: Reduced,
        views: dict[int, Any],
        known: KnownObjects,
        clean: dict[int, str],
        kept: Mapping[int, str] | None = None,
    ) -> None:
        super().__init__(namespace, reduced, views)
        # Keys of what is kept are text, tokens are numbers: one look-up for each part of a value, as if nothing were kept.
        self._find: Any = _first_of(kept, known.tokens) if kept else known.tokens.get
        self._known = known
        self._clean = clean
        self.told: dict[int, Any] = {}
        self._whole: Any = None

    def persistent_id(self, obj: Any) -> Any:
        token = self._find(id(obj))
        return None if token is None else (KEPT, token) if type(token) is str else self._refer(obj, token)

    def _refer(self, obj: Any, token: Token) -> Any:
        if obj is self._whole:
            self._whole = None
            return None  # inside of its own update: by value, once
        key = id(obj)
        if key in self.told:
            return token
        if self._known.find(token) is not obj:
            return None  # that one is gone, and its id is another's now
        self.told[key] = obj
        if (name := self._clean.get(key)) is not None:
            return "same", token, name
        kind, content = content_of(obj)
        if kind == "twin":
            self._whole = obj
        elif codecs.is_long_and_flat(content):
            # Nothing in it can be known, and to be asked for each number would cost ten times the pickle. The same bytes as when it
            # went for the first time: then a delta finds them.
            return kind + "!", token, bytes(pickled(content))
        return kind, token, content
