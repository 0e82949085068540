"""Values of Python's own library."""

from __future__ import annotations

import array
import builtins
import collections
import datetime
import decimal
import enum
import fractions
import io
import ipaddress
import pathlib
import random
import re
import types
import uuid
import zoneinfo
from typing import Any

from .entry import Entry, Table, are_ints, is_int, need, under
from .kits import add_callable, add_hashable

_ATOMS = (int, float, str, bytes, bool, complex, type(None))


def _plain(*args: Any) -> bool:
    return all(type(a) in _ATOMS for a in args)


def _of_atoms(cls: type) -> Entry:
    """Called with plain values, which its constructor checks."""

    def make(*args: Any) -> Any:
        need(_plain(*args), "its arguments are no plain values")
        return cls(*args)

    return Entry(make=make)


# ---------------------------------------------------------------- builtins

_VALUES = """
int float str bytes bool complex list dict set frozenset tuple bytearray object memoryview
"""


def _none_type(value: Any) -> type:
    need(value is None or value is ... or value is NotImplemented, "it is asked for the type of a value")
    return type(value)


def _bytearray(data: Any = b"") -> bytearray:
    need(type(data) is bytes, "not made of bytes")
    return bytearray(data)


def _getattr(owner: Any, name: Any) -> Any:
    """Written by pickle for a member of an enumeration and for ``ZoneInfo._unpickle``, and for much else, which is refused."""
    need(type(name) is str, "a name that is no string")
    if owner is zoneinfo.ZoneInfo and name == "_unpickle":
        return ZONE
    need(isinstance(owner, enum.EnumMeta) and name in owner.__members__, f"the attribute {name!r} of a {type(owner).__qualname__}")
    return owner.__members__[name]


def _slice(*args: Any) -> slice:
    need(_plain(*args), "its bounds are no plain values")
    return slice(*args)


def _range(start: Any, stop: Any, step: Any) -> range:
    need(are_ints((start, stop, step)), "its bounds are no integers")
    return range(start, stop, step)


# ---------------------------------------------------------------- exceptions

#: Exceptions that mean something to the shell, and are no result of a computation.
_CONTROL = (SystemExit, KeyboardInterrupt, GeneratorExit)
_MEMBER = re.compile(r"(?!__)\w+|__notes__")


def _fill_exception(error: BaseException, state: Any) -> BaseException:
    need(type(state) is dict and all(type(k) is str and _MEMBER.fullmatch(k) for k in state), "it is no dict of plain attributes")
    for name, value in state.items():
        setattr(error, name, value)
    return error


def _exceptions() -> Table:
    kinds = [
        k for k in vars(builtins).values()
        if isinstance(k, type) and issubclass(k, Exception) and not issubclass(k, _CONTROL)
    ]  # fmt: skip
    return {("builtins", kind.__name__): Entry(make=kind, fill=_fill_exception) for kind in kinds}


# ---------------------------------------------------------------- collections


def _deque(items: Any = (), longest: Any = None) -> Any:
    need(type(items) in (tuple, list) and not items and (longest is None or is_int(longest)), "it is not empty at first")
    return collections.deque(maxlen=longest)


_FACTORIES = (int, float, str, bytes, list, dict, set, tuple, bool, frozenset)


def _defaultdict(factory: Any = None) -> Any:
    need(factory is None or any(factory is kind for kind in _FACTORIES), "its factory is no plain type")
    return collections.defaultdict(factory)


def _counter(counts: Any = None) -> Any:
    need(counts is None or type(counts) is dict, "it counts what is no dict")
    return collections.Counter(counts or {})


def _fill_attributes(obj: Any, state: Any) -> Any:
    """Of an ``OrderedDict`` with attributes of its own (torch's state has ``_metadata``), a ``SimpleNamespace``, a ``ChainMap``."""
    need(type(state) is dict and all(type(k) is str and not k.startswith("__") for k in state), "it is no dict of attributes")
    if type(obj) is collections.ChainMap:
        maps = state.get("maps")
        need(set(state) == {"maps"} and type(maps) is list and all(type(m) is dict for m in maps), "its maps are no dicts")
    vars(obj).update(state)
    return obj


# ---------------------------------------------------------------- numbers, times, texts


def _fraction(*args: Any) -> fractions.Fraction:
    if len(args) == 1:
        need(type(args[0]) is str and re.fullmatch(r"-?\d+(/\d+)?", args[0]), "no quotient of two integers")
        return fractions.Fraction(args[0])
    need(len(args) == 2 and are_ints(args), "no quotient of two integers")
    return fractions.Fraction(*args)


_LONGEST_PATTERN = 10_000  # to compile a longer one may take minutes


def _pattern(source: Any, flags: Any) -> Any:
    need(type(source) in (str, bytes) and is_int(flags) and len(source) <= _LONGEST_PATTERN, "no source and flags")
    return re.compile(source, flags & ~re.DEBUG)


def _uuid(_: Any, state: Any) -> uuid.UUID:
    need(type(state) is dict and state.keys() <= {"int", "is_safe"} and is_int(state.get("int")), "no number")
    return uuid.UUID(int=state["int"], is_safe=uuid.SafeUUID(state.get("is_safe")))


def _time(cls: type) -> Entry:
    def make(*args: Any) -> Any:
        need(args and _plain(*args[:-1]) and (_plain(args[-1]) or isinstance(args[-1], datetime.tzinfo)), "no plain fields")
        return cls(*args)

    return Entry(make=make)


def _timezone(offset: Any, *name: Any) -> datetime.timezone:
    need(type(offset) is datetime.timedelta and _plain(*name), "no offset and name")
    return datetime.timezone(offset, *name)


def _zone(key: Any, cached: Any) -> Any:
    need(type(key) is str, "no name of a zone")
    return zoneinfo.ZoneInfo(key)


def _path(cls: type) -> Entry:
    def make(*parts: Any) -> Any:
        need(all(type(p) is str for p in parts), "its parts are no strings")
        return cls(*parts)

    return Entry(make=make)


# ---------------------------------------------------------------- memory


def _array(cls: Any, code: Any, layout: Any, data: Any) -> Any:
    need(cls is array.array and type(code) is str and is_int(layout) and type(data) is bytes, "not what an array writes")
    return array._array_reconstructor(cls, code, layout, data)  # type: ignore[attr-defined]


def _fill_file(file: Any, state: Any) -> Any:
    need(type(state) is tuple and all(_plain(part) for part in state[:-1]) and state[-1] in (None, {}), "not what a file in memory writes")
    file.__setstate__(state)
    return file


def _fill_random(generator: random.Random, state: Any) -> random.Random:
    need(type(state) is tuple and len(state) == 3 and state[0] == 3, "not the state of a Mersenne twister")
    need(are_ints(state[1], 0) and (state[2] is None or type(state[2]) is float), "not the state of a Mersenne twister")
    generator.setstate(state)
    return generator


#: Reached by ``getattr`` in a stream, and called next.
ZONE = zoneinfo.ZoneInfo._unpickle  # type: ignore[attr-defined]
add_callable(ZONE, "zoneinfo.ZoneInfo._unpickle", Entry(make=_zone))

TABLE: Table = {
    **under(["builtins"], _VALUES.split(), Entry()),
    **_exceptions(),
    ("builtins", "Ellipsis"): Entry(),
    ("builtins", "NotImplemented"): Entry(),
    ("builtins", "type"): Entry(make=_none_type),
    ("builtins", "complex"): _of_atoms(complex),
    ("builtins", "range"): Entry(make=_range),
    ("builtins", "slice"): Entry(make=_slice),
    ("builtins", "bytearray"): Entry(make=_bytearray),
    ("builtins", "getattr"): Entry(make=_getattr),
    ("collections", "OrderedDict"): Entry(make=lambda: collections.OrderedDict(), fill=_fill_attributes),
    ("collections", "deque"): Entry(make=_deque),
    ("collections", "defaultdict"): Entry(make=_defaultdict),
    ("collections", "Counter"): Entry(make=_counter),
    ("collections", "ChainMap"): Entry(new=lambda: collections.ChainMap(), fill=_fill_attributes, must=True),
    ("types", "SimpleNamespace"): Entry(make=lambda: types.SimpleNamespace(), fill=_fill_attributes),
    ("datetime", "datetime"): _time(datetime.datetime),
    ("datetime", "time"): _time(datetime.time),
    ("datetime", "date"): _time(datetime.date),
    ("datetime", "timedelta"): _of_atoms(datetime.timedelta),
    ("datetime", "timezone"): Entry(make=_timezone),
    ("datetime", "timezone.utc"): Entry(),
    ("zoneinfo", "ZoneInfo"): Entry(),
    ("zoneinfo", "ZoneInfo._unpickle"): Entry(make=_zone, target=ZONE),
    ("decimal", "Decimal"): _of_atoms(decimal.Decimal),
    ("fractions", "Fraction"): Entry(make=_fraction),
    ("uuid", "UUID"): Entry(new=lambda: object.__new__(uuid.UUID), fill=_uuid, must=True),
    ("re", "_compile"): Entry(make=_pattern),
    **{
        (module, cls.__name__): _path(cls)
        for cls in (pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.Path, pathlib.PosixPath)
        for module in ("pathlib", "pathlib._local")
    },
    **{
        ("ipaddress", name): _of_atoms(getattr(ipaddress, name))
        for name in ("IPv4Address", "IPv6Address", "IPv4Network", "IPv6Network", "IPv4Interface", "IPv6Interface")
    },
    ("array", "array"): Entry(),
    ("array", "_array_reconstructor"): Entry(make=_array),
    ("_io", "BytesIO"): Entry(new=io.BytesIO, fill=_fill_file),
    ("_io", "StringIO"): Entry(new=io.StringIO, fill=_fill_file),
    ("random", "Random"): Entry(make=lambda: random.Random(), fill=_fill_random),
}

add_hashable(
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone, decimal.Decimal, fractions.Fraction, uuid.UUID,
    pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, range, type(...), zoneinfo.ZoneInfo,
    ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network,
)  # fmt: skip
