"""Pickling towards the other end: C speed, functions that keep reading the notebook's globals, classes that keep their identity.

Builds on cloudpickle, whose pickler is a subclass of the C one; what differs is said at each place.
"""

from __future__ import annotations

import enum
import io
import linecache
import marshal
import pickle
import sys
import threading
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle

from .handles import Handle
from .names import globals_of

#: (side, serial, index in the memo of that snapshot): names one object at both ends.
Token = tuple[str, int, int]


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles into ``self.file``. While it works it notes ``globals_seen`` (names that the notebook's functions read) and ``modules``
    (dotted names of what is pickled by reference)."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.file = io.BytesIO()
        self.buffers: list[pickle.PickleBuffer] = []
        super().__init__(self.file, protocol=5, buffer_callback=self.buffers.append)
        self.namespace = namespace
        self.globals_seen: set[str] = set()
        self.modules: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is FunctionType:
            if obj.__globals__ is self.namespace:
                self.globals_seen |= globals_of(obj)
                return _reduce_function(obj)
            self.modules.add(obj.__module__ or "")
        elif kind is CellType:
            # Shared cells must stay shared, and may be part of a cycle: empty here, filled by the functions' states.
            return _empty_cell, ()
        elif kind is Handle:
            return _bound_there, (obj.info.name,)
        elif isinstance(obj, type):
            return self._reduce_class(obj)
        elif kind is ModuleType or isinstance(obj, ModuleType):
            self.modules.add(obj.__name__)
        elif kind is BuiltinFunctionType:
            self.modules.add(getattr(obj, "__module__", None) or "")
        return super().reducer_override(obj)

    def _reduce_class(self, cls: type) -> Any:
        reduced = super().reducer_override(cls)
        if isinstance(reduced, tuple) and len(reduced) == 6:
            reduced[2][0].pop("__slotnames__", None)  # a cache that copyreg leaves in a class once it was pickled
            return _make_class, (reduced[0], *reduced[1]), *reduced[2:5], _set_class_state  # made in the notebook
        self.modules.add(cls.__module__)
        return reduced


class TokenPickler(Pickler):
    """Refers to objects that both ends have by their tokens, and lists in ``met`` those it came across."""

    def __init__(self, namespace: dict[str, Any], known: dict[int, Token]) -> None:
        super().__init__(namespace)
        self._known = known
        self.met: dict[int, Any] = {}
        self._whole: Any = None

    def persistent_id(self, obj: Any) -> Token | None:
        token = self._known.get(id(obj))
        if token is None:
            return None
        if obj is self._whole:
            self._whole = None
            return None
        self.met[id(obj)] = obj
        return token

    def dump_whole(self, obj: Any, wrap: Callable[[Any], Any]) -> None:
        """Pickle a known object by value: once, at the outside; inside of itself it is its token."""
        self._whole = obj
        self.dump(wrap(obj))


class _Loading(threading.local):
    """What functions of ours that a pickle calls need to know of the load that is under way on this thread."""

    namespace: dict[str, Any] | None = None
    remote: Callable[[str], Any] | None = None
    classes: list[tuple[type, Any]] | None = None
    fresh: set[type] | None = None


_loading = _Loading()


class Unpickler(pickle.Unpickler):
    """Loads what ``Pickler`` wrote. ``resolve`` gives the object of a token; ``classes`` collects states of classes that exist here
    already: applying them is the caller's, since it changes what others see."""

    def __init__(
        self,
        stream: bytes | memoryview,
        buffers: Iterable[memoryview],
        namespace: dict[str, Any],
        resolve: Callable[[Token], Any],
        remote: Callable[[str], Any] | None = None,
    ) -> None:
        super().__init__(io.BytesIO(stream), buffers=buffers)
        self._resolve = resolve
        self._context = (namespace, remote)
        self.classes: list[tuple[type, Any]] = []
        self._fresh: set[type] = set()

    def persistent_load(self, pid: Any) -> Any:
        return self._resolve(pid)

    def load(self) -> Any:
        saved = (_loading.namespace, _loading.remote, _loading.classes, _loading.fresh)
        _loading.namespace, _loading.remote = self._context
        _loading.classes, _loading.fresh = self.classes, self._fresh
        try:
            return super().load()
        finally:
            _loading.namespace, _loading.remote, _loading.classes, _loading.fresh = saved


# ---------------------------------------------------------------- called by pickles


def _empty_cell() -> CellType:
    return CellType()


def _bound_there(name: str) -> Any:
    if _loading.remote is None:
        raise pickle.UnpicklingError(f"{name!r} stays remote, and is not here")
    return _loading.remote(name)


def _load_code(data: bytes) -> CodeType:
    code: CodeType = marshal.loads(data)
    return code


def _make_function(code: CodeType, name: str, cells: tuple[CellType, ...] | None, lines: list[str] | None, number: int | None) -> FunctionType:
    namespace = _loading.namespace
    if namespace is None:
        raise pickle.UnpicklingError("a function of a notebook, outside of a sync")
    if lines and code.co_filename not in linecache.cache:
        _show_source(code.co_filename, lines, number)
    return FunctionType(code, namespace, name, None, cells)


def _show_source(filename: str, lines: list[str], number: int | None) -> None:
    """So that tracebacks show the lines of a cell that ran at the other end, and call it by its number."""
    linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)
    shell_module = sys.modules.get("IPython.core.interactiveshell")
    if number is not None and shell_module is not None and shell_module.InteractiveShell.initialized():
        shell_module.InteractiveShell.instance().compile._filename_map.setdefault(filename, number)


def _set_function_state(function: FunctionType, state: dict[str, Any]) -> None:
    for cell, contents in state.pop("cells"):
        cell.cell_contents = contents
    function.__dict__.update(state.pop("dict"))
    for name, value in state.items():
        setattr(function, name, dict(value) if type(value) is dict else value)


def _make_class(maker: Callable[..., type], *args: Any) -> type:
    """cloudpickle gives the class of this tracker id, if there is one here already, instead of a new one."""
    known = cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(args[-2])
    cls = maker(*args)
    if known is not cls and _loading.fresh is not None:
        _loading.fresh.add(cls)
    return cls


def _set_class_state(cls: type, state: tuple[dict[str, Any], Any]) -> None:
    if _loading.classes is None or _loading.fresh is None or cls in _loading.fresh:
        fill_class(cls, state)
    else:
        _loading.classes.append((cls, state))


def fill_class(cls: type, state: tuple[dict[str, Any], Any]) -> None:
    """Give a class the attributes of ``state``; those that are not in it any more go."""
    if isinstance(cls, enum.EnumMeta):
        return  # complete when it was made, and its members are not to be changed
    attributes = state[0]
    for name in [n for n in vars(cls) if n not in attributes and not (n.startswith("__") and n.endswith("__")) and n != "_abc_impl"]:
        if not isinstance(vars(cls)[name], _SLOT_LIKE):
            delattr(cls, name)
    cloudpickle.cloudpickle._class_setstate(cls, state)


_SLOT_LIKE = (type(CodeType.co_name), type(FunctionType.__code__))  # member and getset descriptors belong to the layout


# ---------------------------------------------------------------- called by the pickler


def _reduce_function(f: FunctionType) -> Any:
    cells = f.__closure__
    state: dict[str, Any] = {
        "cells": tuple((c, c.cell_contents) for c in cells or () if _has_contents(c)),
        "dict": f.__dict__,
        "__qualname__": f.__qualname__,
        "__defaults__": f.__defaults__,
        # Copies, here and there: they belong to the function, and are no objects that both ends know.
        "__kwdefaults__": f.__kwdefaults__ and dict(f.__kwdefaults__),
        "__annotations__": dict(f.__annotations__),
        "__doc__": f.__doc__,
        "__module__": f.__module__,
    }
    code = f.__code__
    source = linecache.cache.get(code.co_filename)
    lines = list(source[2]) if source is not None and len(source) == 4 and len(source[2]) < 2000 else None
    args = (_Code(code), f.__name__, cells, lines, _number_of(code.co_filename))
    return _make_function, args, state, None, None, _set_function_state


def _has_contents(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - it raises when empty
    except ValueError:
        return False
    return True


def _number_of(filename: str) -> int | None:
    shell_module = sys.modules.get("IPython.core.interactiveshell")
    if shell_module is None or not shell_module.InteractiveShell.initialized():
        return None
    number = shell_module.InteractiveShell.instance().compile._filename_map.get(filename)
    return number if isinstance(number, int) else None


class _Code:
    """Code by marshal: it keeps file and lines, for tracebacks, where cloudpickle drops them. Version 2 has no back references,
    whose presence depends on reference counts: the same code gives the same bytes."""

    __slots__ = ("code",)

    def __init__(self, code: CodeType) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return _load_code, (marshal.dumps(self.code, 2),)
