"""What of a namespace has to be there before anything is rebuilt: its modules, functions and classes, which the rebuilding of values of the
person's own (``__setstate__``, what ``__reduce__`` names) may use. Names are bound last otherwise.

One value that comes first of all in the pickle holds them, and binds them where it is rebuilt. What refers to them later refers to the
same objects.
"""

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import Any

#: Name of that value: it sorts before any other.
FIRST = "\0first"

#: Of the kernel that is being filled.
_namespaces: list[dict[str, Any]] = []


class First:
    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def __reduce__(self) -> Any:
        return bind, (self.values,)


def first_of(variables: dict[str, Any]) -> First:
    """Modules, then what may use them."""
    order: tuple[type | tuple[type, ...], ...] = (ModuleType, (FunctionType, type))
    return First({name: value for kinds in order for name, value in variables.items() if isinstance(value, kinds)})


def bind(values: dict[str, Any]) -> None:
    """Called by the pickle."""
    _namespaces[-1].update(values)


class filling:
    """In here ``namespace`` is being filled."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        _namespaces.append(namespace)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        _namespaces[-1].pop(FIRST, None)
        _namespaces.pop()
