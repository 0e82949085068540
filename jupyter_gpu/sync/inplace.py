"""Objects that can take over another's content and stay themselves: which kinds, and how, with an undo for each.

That an object keeps its identity is what lets an alias that nobody named see a change.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

from .handles import Handle

Undo = Callable[[], None]

_ATOMS = frozenset({int, float, complex, str, bytes, bool, type(None), tuple, frozenset, range, slice, type(Ellipsis), type(NotImplemented)})
_CONTAINERS = frozenset({list, dict, set, bytearray})
_NEVER = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, Handle)


def is_updatable(obj: Any) -> bool:
    """Whether an object of this kind can take over the content of another in place."""
    kind = type(obj)
    if kind in _ATOMS:
        return False
    if kind in _CONTAINERS or _is_array(obj) or _is_tensor(obj):
        return True
    if isinstance(obj, _NEVER):
        return False
    if isinstance(obj, (list, dict, set, bytearray, deque, SimpleNamespace)):
        return True
    # Reduced as object does it: then __dict__ and slots are all its state, whatever its class is written in.
    return kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__ and _has_state(kind)


def _has_state(kind: type) -> bool:
    return kind.__dictoffset__ != 0 or any("__slots__" in vars(c) for c in kind.__mro__)


def _is_array(obj: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(obj) is numpy.ndarray


def _is_tensor(obj: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(obj, getattr(torch, "Tensor", ()))


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
    return "twin", obj


class CannotUpdate(Exception):
    """The object here cannot take over that content: another shape, another class."""


def update(old: Any, kind: str, content: Any) -> Undo:
    """Give ``old`` the content that ``content_of`` took at the other end; returns what takes it back. Raises ``CannotUpdate``,
    and then nothing has changed."""
    if kind == "list":
        return _update_list(old, content)
    if kind == "dict":
        return _update_mapping(old, content)
    if kind == "set":
        return _update_set(old, content)
    if kind == "bytearray":
        before = bytes(old)
        old[:] = content
        return lambda: old.__setitem__(slice(None), before)
    return _take_over(old, content)


def _update_list(old: Any, content: Any) -> Undo:
    before = list.copy(old)
    list.__setitem__(old, slice(None), content)
    return lambda: list.__setitem__(old, slice(None), before)


def _update_mapping(old: dict[Any, Any], content: dict[Any, Any]) -> Undo:
    before = dict.copy(old)

    def put(items: dict[Any, Any]) -> None:
        dict.clear(old)
        for key, value in items.items():
            dict.__setitem__(old, key, value)

    put(content)
    return lambda: put(before)


def _update_set(old: set[Any], content: set[Any]) -> Undo:
    before = set(old)

    def put(items: set[Any]) -> None:
        set.clear(old)
        set.update(old, items)

    put(content)
    return lambda: put(before)


def _take_over(old: Any, twin: Any) -> Undo:
    if type(old) is not type(twin):
        raise CannotUpdate(f"it was a {type(old).__name__} and is a {type(twin).__name__}")
    if _is_array(old):
        return _update_array(old, twin)
    if _is_tensor(old):
        return _update_tensor(old, twin)
    undos: list[Undo] = []
    if isinstance(old, list):
        undos.append(_update_list(old, twin))
    elif isinstance(old, dict):
        undos.append(_update_mapping(old, twin))
        if hasattr(old, "default_factory"):
            factory = old.default_factory
            old.default_factory = twin.default_factory
            undos.append(lambda: setattr(old, "default_factory", factory))
    elif isinstance(old, set):
        undos.append(_update_set(old, twin))
    elif isinstance(old, (bytearray, deque)):
        before = type(old)(old)
        old.clear()
        old.extend(twin)
        undos.append(lambda: (old.clear(), old.extend(before), None)[-1])
    undos.extend(_update_state(old, twin))
    return lambda: [undo() for undo in reversed(undos)] and None


def _update_array(old: Any, twin: Any) -> Undo:
    if old.shape != twin.shape or old.dtype != twin.dtype or old.strides != twin.strides:
        raise CannotUpdate("its shape or type changed")
    if not old.flags.writeable:
        raise CannotUpdate("it is read-only here")
    before = old.copy(order="K")
    old[...] = twin

    def undo() -> None:
        old[...] = before

    return undo


def _update_tensor(old: Any, twin: Any) -> Undo:
    if old.shape != twin.shape or old.dtype != twin.dtype or old.requires_grad != twin.requires_grad:
        raise CannotUpdate("its shape or type changed")
    data, grad = old.data, old.grad
    before = data.clone()
    data.copy_(twin.data)  # into the same storage: views and tied weights see it
    old.grad = twin.grad

    def undo() -> None:
        data.copy_(before)
        old.grad = grad

    return undo


def _update_state(old: Any, twin: Any) -> list[Undo]:
    """``__dict__`` and slots."""
    undos: list[Undo] = []
    state = getattr(old, "__dict__", None)
    if isinstance(state, dict):
        undos.append(_update_mapping(state, vars(twin)))
    for cls in type(old).__mro__:
        slots = vars(cls).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot in ("__dict__", "__weakref__"):
                continue
            descriptor = vars(cls).get(f"_{cls.__name__.lstrip('_')}{slot}" if slot.startswith("__") and not slot.endswith("__") else slot)
            if descriptor is not None:
                undos.append(_update_slot(descriptor, old, twin))
    return undos


def _update_slot(descriptor: Any, old: Any, twin: Any) -> Undo:
    def put(has: bool, value: Any) -> None:
        if has:
            descriptor.__set__(old, value)
        elif _slot(descriptor, old)[0]:
            descriptor.__delete__(old)

    before = _slot(descriptor, old)
    put(*_slot(descriptor, twin))
    return lambda: put(*before)


def _slot(descriptor: Any, obj: Any) -> tuple[bool, Any]:
    try:
        return True, descriptor.__get__(obj, type(obj))
    except AttributeError:
        return False, None
