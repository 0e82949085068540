"""What codecs are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..pickler import Pickler

#: (pickler, object) -> what ``__reduce_ex__`` gives
Route = Callable[[Any, Any], Any]


class Codec(Protocol):
    """How values of one library travel. A module will do.

    ``route_of(kind, pickler)``: the reducer for instances of ``kind``, or None to leave them to the library; asked once for each type
    in each pickle. A reducer may put a ``pickle.PickleBuffer`` around memory, which then travels without a copy, and may answer
    ``NotImplemented``. ``trusted``: the callables ("module:qualname") by which its values are rebuilt; they do nothing but rebuild
    values, whatever their arguments are.
    """

    @property
    def trusted(self) -> frozenset[str]: ...

    def route_of(self, kind: type, pickler: Pickler) -> Route | None: ...
