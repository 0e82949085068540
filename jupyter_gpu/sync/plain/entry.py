"""What a kit says of one name: what a call of it gives, and what may become of the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


class Refused(Exception):
    """``what`` is not data, or not what its library writes. ``what`` is a dotted name where there is one."""

    def __init__(self, what: str, reason: str = "") -> None:
        super().__init__(what, reason)
        self.what = what
        self.reason = reason


#: arguments as the stream gives them -> the object. It checks them: any exception refuses the name.
Make = Callable[..., Any]
#: (object, state) -> the object that takes its place from here on, which may be the same one.
Fill = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Entry:
    """Without ``make`` a name may be a value (a class as an argument), and is never called.

    ``new``: what ``cls.__new__(cls, *args)`` gives. ``fill``: takes the state of what ``make`` or ``new`` gave, once; ``must``: that is
    nothing without it. ``target``: the object that the name stands for in the stream, if it is not the library's own.
    """

    make: Make | None = None
    new: Make | None = None
    fill: Fill | None = None
    must: bool = False
    target: Any = None


Table = dict[tuple[str, str], Entry]


def need(truth: object, why: str) -> None:
    """Raises ``ValueError(why)`` unless it is true: an assertion that ``python -O`` keeps."""
    if not truth:
        raise ValueError(why)


#: How deep values may lie in each other that C lets go of by recursion, and how many are looked at to tell.
_DEPTH, _PARTS = 50, 1_000_000


def bounded(root: Any, parts_of: Callable[[Any], Iterable[Any]], why: str) -> None:
    """Raises ``ValueError(why)`` for what is nested too deeply to be freed, compared or shown, or is too often a part of itself."""
    todo, looked = [(root, 0)], 0
    while todo:
        part, depth = todo.pop()
        looked += 1
        need(depth <= _DEPTH and looked <= _PARTS, why)
        todo.extend((inner, depth + 1) for inner in parts_of(part))


def is_int(value: Any) -> bool:
    return type(value) is int


def are_ints(values: Any, least: int | None = None) -> bool:
    """Whether it is a tuple of plain integers, none below ``least``."""
    return type(values) is tuple and all(type(n) is int and (least is None or n >= least) for n in values)


def under(modules: Iterable[str], names: Iterable[str], entry: Entry) -> Table:
    """The same entry under several names: libraries move their classes about."""
    return {(module, name): entry for module in modules for name in names}
