"""The kits by the top-level package of a name; each is imported when such a name is met."""

from __future__ import annotations

import enum
import importlib
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from functools import lru_cache
from random import Random
from types import SimpleNamespace
from typing import Any

from .entry import Entry, Refused, Table

#: Top-level package -> module of this package. ``jupyter_gpu`` is what our own pickler writes.
_KITS = {
    "jupyter_gpu": "ours",
    "cloudpickle": "standard",
    "numpy": "arrays",
    "pandas": "frames",
    "pyarrow": "arrow",
    "polars": "arrow",
    "scipy": "sparse",
    "torch": "tensors",
    "PIL": "images",
}
#: Modules of the standard library that pickles name by their C half, or by where a later Python put them.
_STANDARD = sys.stdlib_module_names | {"_io"}

_VALUE_LIBRARIES = frozenset({"numpy", "pandas", "pyarrow", "polars", "scipy", "PIL"})
_CONTAINERS = frozenset({list, dict, set, bytearray, OrderedDict, defaultdict, deque, Counter, SimpleNamespace, Random})

_hashable: set[type] = set()
_callables: dict[int, tuple[str, Any, Entry]] = {}


def find(module: str, name: str) -> tuple[Any, Entry] | None:
    """What a name stands for, and its entry; None for a name that no kit knows. Raises ``Refused`` where its library is not here."""
    table = _table_of(module.partition(".")[0])
    entry = table.get((module, name))
    if entry is None:
        return _member_class(module, name)
    if entry.target is not None:
        return entry.target, entry
    try:
        target: Any = importlib.import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise Refused(f"{module}.{name}", f"it is not here ({error})") from None
    return target, entry


def is_code(module: str, name: str) -> str:
    """In a person's words, where the name is one of our own that no person knows; else nothing."""
    if not module.startswith("jupyter_gpu."):
        return ""
    return {
        "make_function": "it is, or it holds, a function of a cell",
        "make_class": "it is a class of a cell, or of one",
        "load_code": "it is code",
        "empty_cell": "it is, or it holds, a function of a cell",
        "bound_there": "it is a value of the notebook's own",
    }.get(name, "")


def is_hashable(kind: type) -> bool:
    """Whether values of a kind may be keys: to hash and to compare them runs nothing of the notebook's."""
    return kind in _hashable or kind is type or _is_number(kind)


def is_plain(kind: type) -> bool:
    """Whether objects of a kind run nothing of the notebook's, whatever is done with them: Python's containers, and libraries' values."""
    if kind in _CONTAINERS:
        return True
    top = str(kind.__module__).partition(".")[0]
    return top in _VALUE_LIBRARIES or (top == "torch" and kind.__name__ in ("Tensor", "Parameter"))


def add_hashable(*kinds: type) -> None:
    _hashable.update(kinds)


def add_callable(target: Any, name: str, entry: Entry) -> None:
    """What a call may give, and a stream calls next."""
    _callables[id(target)] = name, target, entry


def callable_of(target: Any) -> tuple[str, Any, Entry] | None:
    return _callables.get(id(target))


def is_member(value: Any) -> bool:
    """Whether it is a member of an enumeration of the standard library."""
    return isinstance(value, enum.Enum) and type(value).__module__.partition(".")[0] in _STANDARD


def _is_number(kind: type) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(kind, numpy.generic) and not issubclass(kind, numpy.void) and kind.__module__ == "numpy"


@lru_cache(maxsize=64)
def _table_of(top: str) -> Table:
    kit = "standard" if top in _STANDARD else _KITS.get(top)
    if kit is None:
        return {}
    try:
        found: Table = importlib.import_module(f"{__package__}.{kit}").TABLE
    except ImportError as error:
        raise Refused(top, f"it is not here ({error})") from None
    return found


def _member_class(module: str, name: str) -> tuple[Any, Entry] | None:
    """Enumerations of the standard library, as far as they are loaded."""
    if module.partition(".")[0] not in _STANDARD or module not in sys.modules:
        return None
    found = vars(sys.modules[module]).get(name)
    if isinstance(found, enum.EnumMeta) and found.__module__ == module and len(found.__members__) > 0:
        return found, Entry(make=lambda value: _member(found, value))
    return None


def _member(cls: Any, value: Any) -> Any:
    if type(value) not in (int, str):
        raise ValueError("a member by what is no plain value")
    return cls(value)
