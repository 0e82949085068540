"""How functions, classes, code and other parts of Python are taken apart: what ``pickler`` calls."""

from __future__ import annotations

import copyreg
import enum
import functools
import gc
import linecache
import marshal
import sys
from types import CellType, CodeType, FunctionType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, NamedTuple

from .handles import Handle
from .loading import (
    bound_there,
    empty_cell,
    fill_cell,
    load_code,
    make_function,
    make_view,
    own_dict,
)  # fmt: skip

if TYPE_CHECKING:
    from .pickler import Pickler


def _whole_layout(cls: type, reduced: Any) -> Any:
    """The arguments that make a class, with the slots and the qualified name that cloudpickle leaves out; what is a part of its layout
    goes from its state."""
    state = reduced[2][0]
    state.pop("__slotnames__", None)  # a cache that copyreg leaves in a class once it was pickled
    arguments = reduced[1]
    if isinstance(cls, enum.EnumMeta):
        return arguments
    extra = {**arguments[3], "__qualname__": cls.__qualname__}
    if "__slots__" in vars(cls) and NamedTuple not in getattr(cls, "__orig_bases__", ()):
        extra["__slots__"] = cls.__slots__  # type: ignore[attr-defined]
        for name in [n for n, v in state.items() if isinstance(v, MemberDescriptorType) and v.__objclass__ is cls]:
            del state[name]  # (cloudpickle leaves those whose name is mangled)
    return (*arguments[:3], extra, *arguments[4:])


def _reduce_cell(cell: CellType) -> Any:
    """Empty first, then filled: a cell is shared by closures, and may be a part of a cycle."""
    if not _has_contents(cell):
        return empty_cell, ()
    return empty_cell, (), (cell.cell_contents,), None, None, fill_cell


def _reduce_own_dict(obj: Any) -> Any:
    """``self.__dict__ = self``, for attribute access to keys: pickle alone would make two dicts of it."""
    if obj.__dict__ is not obj:
        return NotImplemented
    return copyreg.__newobj__, (type(obj),), True, None, iter(dict.items(obj)), own_dict  # type: ignore[attr-defined]


def _reduce_memoryview(view: memoryview) -> Any:
    """Over the same object where it shows all of it; a copy otherwise. cloudpickle would make bytes of it."""
    if not view.c_contiguous or len(view.format) != 1 or view.shape is None or 0 in view.shape:
        raise TypeError("cannot pickle a memoryview of this layout: only contiguous ones of plain numbers travel")
    whole = type(view.obj) in (bytes, bytearray) and len(view.obj) == view.nbytes  # type: ignore[arg-type]
    content = view.obj if whole else view.tobytes() if view.readonly else bytearray(view)
    return make_view, (content, view.format, view.shape, view.readonly)


def _reduce_cached_property(prop: Any) -> Any:
    state = {key: value for key, value in vars(prop).items() if key != "lock"}  # (the lock is gone since Python 3.12)
    return functools.cached_property, (prop.func,), state


def _under(proxy: Any) -> Any:
    """The dict itself that a proxy shows, so that it goes on showing it; a copy of what is no plain dict."""
    shown = gc.get_referents(proxy)
    return shown[0] if len(shown) == 1 and type(shown[0]) is dict and "__dict__" not in shown[0] else dict(proxy)


def _reduce_handle(pickler: Pickler, handle: Handle) -> Any:
    pickler.handles.append(handle)
    return bound_there, (handle.key,)


def _reduce_code(code: CodeType) -> Any:
    """Code by marshal: it keeps file and lines, for tracebacks, where cloudpickle drops them. Version 2 has no back references,
    whose presence depends on reference counts: the same code gives the same bytes."""
    try:
        return load_code, (marshal.dumps(code, 2),)
    except ValueError:  # a constant of a kind that version 2 did not know
        return load_code, (marshal.dumps(code),)


def _reduce_function(f: FunctionType, home: str | None = None) -> Any:
    """``home``: the module whose globals it reads; None for the notebook's own."""
    cells = f.__closure__
    # By way of pickle's own BUILD, since a state setter would be given the object of the token where there is one, and not the twin.
    state = {
        "__qualname__": f.__qualname__,
        "__defaults__": f.__defaults__,
        # Copies: they belong to the function, and are no objects that both ends know.
        "__kwdefaults__": f.__kwdefaults__ and dict(f.__kwdefaults__),
        "__annotations__": dict(f.__annotations__),
        "__doc__": f.__doc__,
        "__module__": f.__module__,
    }
    code = f.__code__
    source = linecache.cache.get(code.co_filename)
    lines = list(source[2]) if source is not None and len(source) == 4 and len(source[2]) < 2000 else None
    args = (code, f.__name__, cells, lines, _number_of(code.co_filename), *(() if home is None else (home,)))
    return make_function, args, (f.__dict__ or None, state)


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
