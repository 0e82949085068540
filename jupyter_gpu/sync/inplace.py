"""Objects that can take over another's content and stay themselves: which kinds, and how, with an undo for each.

That an object keeps its identity is what lets an alias that nobody named see a change. Every undo is in the journal BEFORE the
change that it takes back, and may be called whether or not that change was made: an interrupt can come between any two lines.
"""

from __future__ import annotations

import enum
import sys
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from random import Random
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

from .handles import Handle
from .swap import swap_array, swap_state, swap_tensor

Undo = Callable[[], object]

_ATOMS = frozenset(
    {int, float, complex, str, bytes, bool, type(None), tuple, frozenset, range, slice, type(Ellipsis), type(NotImplemented)}
)
_CONTAINERS = (list, dict, set, bytearray, deque)
_NEVER = (
    type, ModuleType, BuiltinFunctionType, MethodType, Handle, CodeType, enum.Enum, weakref.ReferenceType, property, staticmethod,
    classmethod,
    MappingProxyType, MemberDescriptorType, GetSetDescriptorType, MethodDescriptorType, WrapperDescriptorType, MethodWrapperType,
    memoryview,
)  # fmt: skip
#: Parts of a library's objects that nobody holds apart from these; or that are the same one everywhere.
_INTERNAL = ("pandas.core.internals", "pandas._libs", "jupyter_gpu.", "_cython", "typing")
_SINGLETONS = frozenset({"ufunc", "dtype", "layout", "memory_format", "device", "_Feature"})


def is_identity_kind(kind: type) -> bool:
    """Whether it matters which object of this kind it is: mutable, or compared by identity. What hashes by value does not change."""
    if kind in _ATOMS or issubclass(kind, _NEVER):
        return False
    if issubclass(kind, _CONTAINERS) or kind is CellType or kind is FunctionType:
        return True
    if str(kind.__module__).startswith(_INTERNAL) or kind.__name__ in _SINGLETONS:  # (of some classes in C it is a descriptor)
        return False
    return kind.__hash__ in (None, object.__hash__) or _is_plain(kind) or _is_tensor_kind(kind)


def _is_plain(kind: type) -> bool:
    """Reduced as ``object`` does it: then ``__dict__`` and slots are all its state, whatever its class is written in."""
    by_object: Any = object
    if kind.__reduce_ex__ is not by_object.__reduce_ex__ or kind.__reduce__ is not by_object.__reduce__:
        return False
    return kind.__dictoffset__ != 0 or any("__slots__" in vars(c) for c in kind.__mro__)


def _is_tensor_kind(kind: type) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and issubclass(kind, getattr(torch, "Tensor", ()))


def _is_numpy(obj: Any, name: str) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(obj) is getattr(numpy if name == "ndarray" else numpy.random, name)


def content_of(obj: Any) -> tuple[str, Any]:
    """(kind, shallow copy) for what a plain container holds; ("twin", obj) for all others, whose twin is unpickled beside them."""
    kind = type(obj)
    if kind is list:
        return "list", list(obj)
    if kind is dict:
        return "dict", dict(obj)
    if kind is set:
        return "set", set(obj)
    if kind is bytearray:
        return "bytearray", bytes(obj)
    if kind is CellType:
        try:
            return "cell", (obj.cell_contents,)
        except ValueError:  # empty
            return "cell", ()
    return "twin", obj


def made_of(kind: str, content: Any) -> Any:
    """The object that a content of ``content_of`` is of its own."""
    if kind == "bytearray":
        return bytearray(content)
    if kind == "cell":
        return CellType(*content)
    return content


class CannotUpdate(Exception):
    """The object here cannot take over that content: another shape, another class."""


def update(old: Any, kind: str, content: Any, journal: list[Undo]) -> None:
    """Give ``old`` the content that ``content_of`` took at the other end. Raises ``CannotUpdate`` before anything has changed."""
    if kind == "list":
        _update_list(old, content, journal)
    elif kind == "dict":
        _update_mapping(old, content, journal)
    elif kind == "set":
        _update_set(old, content, journal)
    elif kind == "bytearray":
        before = bytes(old)
        journal.append(lambda: old.__setitem__(slice(None), before))
        try:
            old[:] = content
        except BufferError:  # something looks at its memory
            raise CannotUpdate("its memory is in use") from None
    elif kind == "cell":
        _update_cell(old, content, journal)
    else:
        _take_over(old, content, journal)


def _update_list(old: Any, content: Any, journal: list[Undo]) -> None:
    before = list.copy(old)
    journal.append(lambda: list.__setitem__(old, slice(None), before))
    list.__setitem__(old, slice(None), content)


def _update_mapping(old: Any, content: Any, journal: list[Undo]) -> None:
    kind = OrderedDict if isinstance(old, OrderedDict) else dict  # its C base keeps an order of its own
    before = list(kind.items(old))

    def put(items: Any) -> None:
        kind.clear(old)
        for key, value in items:
            kind.__setitem__(old, key, value)

    journal.append(lambda: put(before))
    put(list(kind.items(content)))


def _update_set(old: set[Any], content: set[Any], journal: list[Undo]) -> None:
    before = set(old)

    def put(items: set[Any]) -> None:
        set.clear(old)
        set.update(old, items)

    journal.append(lambda: put(before))
    put(content)


def _update_cell(old: CellType, content: tuple[Any, ...], journal: list[Undo]) -> None:
    before = content_of(old)[1]

    def put(what: tuple[Any, ...]) -> None:
        if what:
            old.cell_contents = what[0]
        elif content_of(old)[1]:
            del old.cell_contents

    journal.append(lambda: put(before))
    put(content)


def _take_over(old: Any, twin: Any, journal: list[Undo]) -> None:
    if old is twin:
        return  # pickled by a name that gives the same object everywhere
    kind = type(old)
    if kind is not type(twin):
        raise CannotUpdate(f"it was a {kind.__name__} and is a {type(twin).__name__}")
    if kind is FunctionType:
        _update_function(old, twin, journal)
    elif _is_numpy(old, "ndarray"):
        if not swap_array(old, twin, journal):
            raise CannotUpdate("its shape or type changed")
    elif _is_tensor_kind(kind):
        if not swap_tensor(old, twin, journal):
            raise CannotUpdate("its shape or type changed")
    elif isinstance(old, Random) and isinstance(twin, Random):
        _update_random(old, twin, journal)
    elif _is_numpy(old, "Generator") and type(old.bit_generator) is type(twin.bit_generator):
        before = old.bit_generator.state
        journal.append(lambda: setattr(old.bit_generator, "state", before))
        old.bit_generator.state = twin.bit_generator.state
    elif isinstance(old, _CONTAINERS):
        _take_over_container(old, twin, journal)
        swap_state(old, twin, journal)
    elif _is_plain(kind):
        swap_state(old, twin, journal)
    else:
        raise CannotUpdate("its state is not Python's to change")


def _take_over_container(old: Any, twin: Any, journal: list[Undo]) -> None:
    if isinstance(old, list):
        _update_list(old, twin, journal)
    elif isinstance(old, dict):
        _update_mapping(old, twin, journal)
        if isinstance(old, defaultdict):
            factory = old.default_factory
            journal.append(lambda: setattr(old, "default_factory", factory))
            old.default_factory = twin.default_factory
    elif isinstance(old, set):
        _update_set(old, twin, journal)
    else:
        if getattr(old, "maxlen", None) != getattr(twin, "maxlen", None):
            raise CannotUpdate("its largest length changed")
        before = list(old)
        journal.append(lambda: (old.clear(), old.extend(before)))
        old.clear()
        old.extend(twin)


def _update_function(old: FunctionType, twin: FunctionType, journal: list[Undo]) -> None:
    ours, theirs = old.__closure__ or (), twin.__closure__ or ()
    if len(ours) != len(theirs) or any(a is not b for a, b in zip(ours, theirs)) or old.__globals__ is not twin.__globals__:
        raise CannotUpdate("it is another closure")
    for name in ("__code__", "__defaults__", "__kwdefaults__", "__annotations__", "__doc__", "__name__", "__qualname__", "__module__"):
        before, after = getattr(old, name), getattr(twin, name)
        if before is not after and not (name == "__code__" and before == after):
            journal.append(lambda name=name, before=before: setattr(old, name, before))  # type: ignore[misc]
            setattr(old, name, after)
    _update_mapping(old.__dict__, twin.__dict__, journal)


def _update_random(old: Random, twin: Random, journal: list[Undo]) -> None:
    try:
        before, after = old.getstate(), twin.getstate()
    except NotImplementedError:
        return  # SystemRandom has no state
    journal.append(lambda: old.setstate(before))
    old.setstate(after)
