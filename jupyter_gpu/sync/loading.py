"""Rebuilding what ``pickler`` wrote: what the pickles call, and what it needs to know of the load that is under way."""

from __future__ import annotations

import enum
import functools
import importlib
import io
import linecache
import marshal
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CellType, CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

import cloudpickle

from . import lazy
from .inplace import Undo

_UNSEEN = object()
_SLOT_LIKE = (MemberDescriptorType, GetSetDescriptorType)  # they belong to the layout of a class


class _Loading(threading.local):
    """What functions of ours that a pickle calls need to know of the load that is under way on this thread."""

    namespace: dict[str, Any] | None = None
    remote: Callable[[str], Any] | None = None
    journal: list[Undo] | None = None
    fresh: set[type] | None = None
    lazily: bool = False


_loading = _Loading()


class Unpickler(pickle.Unpickler):
    """Loads what ``Pickler`` wrote. ``resolve`` gives the object for a persistent id; ``journal`` takes what undoes the changes of
    classes that exist here already."""

    def __init__(
        self,
        stream: bytes | memoryview,
        buffers: Iterable[memoryview],
        namespace: dict[str, Any],
        resolve: Callable[[Any], Any],
        remote: Callable[[str], Any] | None = None,
        journal: list[Undo] | None = None,
        lazily: bool = False,
    ) -> None:
        super().__init__(io.BytesIO(stream), buffers=buffers)
        self._resolve = resolve
        self._context = (namespace, remote, journal, set[type](), lazily)

    def persistent_load(self, pid: Any) -> Any:
        return self._resolve(pid)

    def load(self) -> Any:
        saved = (_loading.namespace, _loading.remote, _loading.journal, _loading.fresh, _loading.lazily)
        _loading.namespace, _loading.remote, _loading.journal, _loading.fresh, _loading.lazily = self._context
        try:
            return super().load()
        finally:
            _loading.namespace, _loading.remote, _loading.journal, _loading.fresh, _loading.lazily = saved


# ---------------------------------------------------------------- called by pickles


def named_module(name: str) -> ModuleType:
    return lazy.named_module(name, _loading.lazily)


def empty_cell() -> CellType:
    return CellType()


def bound_there(name: str) -> Any:
    if _loading.remote is None:
        raise pickle.UnpicklingError(f"{name!r} stays remote, and is not here")
    return _loading.remote(name)


def make_cached(wrapped: FunctionType, maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(wrapped)


def make_view(content: bytes | bytearray, format: str, shape: tuple[int, ...], readonly: bool) -> memoryview:
    view = memoryview(content)
    if (view.format, view.shape) != (format, shape):
        view = view.cast(format, shape)  # type: ignore[call-overload]
    return view.toreadonly() if readonly and not view.readonly else view


def load_code(data: bytes) -> CodeType:
    code: CodeType = marshal.loads(data)
    return code


def make_function(
    code: CodeType, name: str, cells: tuple[CellType, ...] | None, lines: list[str] | None, number: int | None, home: str | None = None
) -> FunctionType:
    namespace = _loading.namespace if home is None else vars(importlib.import_module(home))
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


def fill_cell(cell: CellType, content: tuple[Any]) -> None:
    cell.cell_contents = content[0]


def own_dict(obj: Any, _: Any) -> None:
    obj.__dict__ = obj


def make_class(maker: Callable[..., type], *args: Any) -> type:
    """cloudpickle gives the class of this tracker id, if there is one here already, instead of a new one."""
    known: type | None = cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(args[-2])
    if known is not None:
        return known
    with _no_hooks(args):
        cls = maker(*args)
    if _loading.fresh is not None:
        _loading.fresh.add(cls)
    return cls


@contextmanager
def _no_hooks(args: Iterable[Any]) -> Iterator[None]:
    """What ``__init_subclass__`` of a class of the notebook did when the class was defined travels by itself: it is not run again."""
    bases = {base for arg in args if isinstance(arg, tuple) for cls in arg if isinstance(cls, type) for base in cls.__mro__}
    dynamic = [base for base in bases if base in cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS]
    hooks = [(base, vars(base)["__init_subclass__"]) for base in dynamic if "__init_subclass__" in vars(base)]
    for base, _ in hooks:
        del base.__init_subclass__
    try:
        yield
    finally:
        for base, hook in hooks:
            base.__init_subclass__ = hook  # type: ignore[method-assign]


def set_class_state(cls: type, state: tuple[dict[str, Any], Any]) -> None:
    if isinstance(cls, enum.EnumMeta):
        if _loading.fresh is None or cls in _loading.fresh:
            cloudpickle.cloudpickle._class_setstate(cls, state)
        return  # one that is here already was complete when it was made, and its members are not to be changed
    if _loading.fresh is not None and cls not in _loading.fresh and _loading.journal is not None:
        before = {name: vars(cls)[name] for name in vars(cls)}
        _loading.journal.append(lambda: _restore_class(cls, before))
    fill_class(cls, state)


def _changeable(cls: type, name: str) -> bool:
    """Whether an attribute is the person's, and no part of the class's layout or machinery."""
    if name == "_abc_impl" or (name.startswith("__") and name.endswith("__") and not callable(vars(cls)[name])):
        return False
    return not isinstance(vars(cls)[name], _SLOT_LIKE)


def fill_class(cls: type, state: tuple[dict[str, Any], Any]) -> None:
    """Give a class the attributes of ``state``; those that are not in it any more go."""
    attributes = state[0]
    ours, _ = cloudpickle.cloudpickle._class_getstate(cls)  # what the other end would have sent of the class as it is here
    for name in [n for n in ours if n not in attributes and n in vars(cls) and _changeable(cls, n)]:
        delattr(cls, name)
    kept = vars(cls)
    changed = {name: value for name, value in attributes.items() if name not in kept or kept[name] is not value}
    cloudpickle.cloudpickle._class_setstate(cls, (changed, state[1]))


def _restore_class(cls: type, before: dict[str, Any]) -> None:
    for name in [n for n in vars(cls) if n not in before]:
        delattr(cls, name)
    for name, value in before.items():
        if vars(cls).get(name, _UNSEEN) is not value and name != "_abc_impl":
            setattr(cls, name, value)
