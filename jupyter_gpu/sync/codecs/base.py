"""What codecs are made of, and what is known of plain values without any library."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..pickler import Pickler

#: Kinds without parts, and without an identity that matters.
_FLAT = frozenset({int, float, bool, str, bytes, complex, type(None)})
#: Length from which a container is long: its memo would cost more than it tells.
LONG = 1000

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


def is_flat(content: Iterable[Any]) -> bool:
    """Whether a container (of a dict: keys and values) holds nothing but plain values."""
    values = content.values() if isinstance(content, dict) else ()
    return _FLAT.issuperset(map(type, content)) and _FLAT.issuperset(map(type, values))


def is_long_and_flat(value: Any) -> bool:
    """Whether it is a list, dict or set whose memo would be large and have nothing of use in it but the container, at index 0."""
    return type(value) in (list, dict, set) and len(value) > LONG and is_flat(value)
