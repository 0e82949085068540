"""Edited sources: put where this process imports them, and taken over by the modules that are loaded.

A module is executed again in the namespace that it has, as ``importlib.reload`` does it. Then the functions and classes that it had before
take over the code of the new ones, and stay the objects that they are: what was imported by ``from helper import f``, and instances that
live here, go on with the edited code. The idea is that of IPython's autoreload.
"""

from __future__ import annotations

import importlib
import linecache
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from types import CellType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

from .imports import imports_of

#: Of a class: what belongs to its making, and not to its body.
_OF_THE_CLASS = frozenset(
    {"__dict__", "__weakref__", "__slots__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__"}
)
_SLOT_LIKE = (MemberDescriptorType, GetSetDescriptorType)


def install(sources: dict[str, bytes], gone: Iterable[str], folder: Path) -> list[str]:
    """Write ``sources`` (relative path -> bytes) below ``folder``, delete those that are ``gone``, and reload what is loaded of them,
    with the modules that import it. Returns sentences about what could not be loaded. Raises ``ValueError`` for a path that leaves
    ``folder``; nothing was written then."""
    targets = {relative: _inside(relative, folder) for relative in (*sources, *gone)}
    changed: set[str] = set()
    for relative, source in sources.items():
        target = targets[relative]
        if not target.exists() or target.read_bytes() != source:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source)
            changed.add(_module_name(relative))
    deleted = {_module_name(relative) for relative in gone}
    for relative in gone:
        targets[relative].unlink(missing_ok=True)
    if sources and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    if not changed and not deleted:
        return []
    for name in deleted:
        _forget(name)
    return _reload_all(changed, deleted, folder)


def _inside(relative: str, folder: Path) -> Path:
    target = (folder / relative).resolve()
    if folder.resolve() not in target.parents:
        raise ValueError(f"{relative} is not inside of the folder for sources")
    return target


def _module_name(relative: str) -> str:
    parts = list(Path(relative).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _forget(name: str) -> None:
    module = sys.modules.pop(name, None)
    parent, _, child = name.rpartition(".")
    if module is not None and vars(sys.modules.get(parent, module)).get(child) is module:
        delattr(sys.modules[parent], child)


# ---------------------------------------------------------------- which, and in which order


def _reload_all(changed: set[str], deleted: set[str], folder: Path) -> list[str]:
    """``changed`` and ``deleted``: dotted names. A module that was loaded from elsewhere before its source came is taken over too."""
    loaded = {n: m for n, m in list(sys.modules.items()) if isinstance(m, ModuleType) and (n in changed or _is_below(m, folder))}
    imported = {name: _imports_of(module, loaded.keys() | changed | deleted) for name, module in loaded.items()}
    stale = set(changed & loaded.keys())
    while more := {n for n, others in imported.items() if others & (stale | deleted)} - stale:
        stale |= more
    said: list[str] = []
    failed: set[str] = set()
    for name in _in_order(stale, imported):
        if why := _reload(loaded[name], folder):
            failed.add(name)
            said.append(f"{name} was edited, and cannot be loaded: {why}; the session goes on with what it was before")
    return said


def _is_below(module: ModuleType, folder: Path) -> bool:
    origin = getattr(module, "__file__", None)
    return isinstance(origin, str) and folder.resolve() in Path(origin).resolve().parents


def _imports_of(module: ModuleType, known: Iterable[str]) -> set[str]:
    """Those of ``known`` that a module imports. Inside of a package, all that carry one of the names it mentions."""
    origin = getattr(module, "__file__", None)
    try:
        text = Path(origin).read_text("utf-8", "replace") if origin else ""
    except OSError:
        return set()
    tops = set(imports_of(text).all)
    own = module.__name__
    found = {n for n in known if n != own and n.partition(".")[0] in tops}
    if "from ." in text:
        siblings = (n for n in known if n != own and n.partition(".")[0] == own.partition(".")[0])
        found |= {n for n in siblings if n.rpartition(".")[2] in text}
    return found


def _in_order(stale: set[str], imported: dict[str, set[str]]) -> list[str]:
    """Imported before importing; where they import each other, in the order of their names."""
    done: list[str] = []
    left = sorted(stale)
    while left:
        ready = [n for n in left if not (imported[n] & set(left)) - {n}] or left[:1]
        done += ready
        left = [n for n in left if n not in ready]
    return done


# ---------------------------------------------------------------- one module


def _reload(module: ModuleType, folder: Path) -> str:
    """ "" or why it could not be done: then the module is what it was."""
    before = dict(vars(module))
    place, name = module.__spec__, module.__name__
    try:
        parent = sys.modules.get(name.rpartition(".")[0])
        spec = PathFinder.find_spec(name, getattr(parent, "__path__", None))  # not by way of ``__spec__``, which may be another place's
        if spec is None or spec.loader is None:
            return "it is not found any more"
        module.__spec__, module.__loader__, module.__file__ = spec, spec.loader, spec.origin
        if spec.submodule_search_locations is not None:
            module.__path__ = list(spec.submodule_search_locations)
        linecache.checkcache(spec.origin)
        spec.loader.exec_module(module)
    except BaseException as error:
        vars(module).clear()
        vars(module).update(before)
        module.__spec__ = place
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {error}"
    after = vars(module)
    for key, old in before.items():
        new = after.get(key)
        if new is not old and _is_own(old, name) and _is_own(new, name) and _take_over(old, new):
            after[key] = old
    return ""


def _is_own(value: Any, module: str) -> bool:
    return isinstance(value, (FunctionType, type)) and value.__module__ == module


def _take_over(old: Any, new: Any) -> bool:
    """Let ``old`` become what ``new`` is, in place. False: it cannot, and ``new`` has to take its place."""
    if isinstance(old, FunctionType) and isinstance(new, FunctionType):
        return _take_over_function(old, new)
    if isinstance(old, type) and type(old) is type(new) and _bases(old) == _bases(new) and _slots(old) == _slots(new):
        return _take_over_class(old, new)
    return False


def _bases(cls: type) -> list[tuple[str, str]]:
    return [(b.__module__, b.__qualname__) for b in cls.__bases__]


def _slots(cls: type) -> Any:
    return vars(cls).get("__slots__")


def _take_over_function(old: FunctionType, new: FunctionType) -> bool:
    if len(old.__code__.co_freevars) != len(new.__code__.co_freevars):
        return False
    for mine, theirs in zip(old.__closure__ or (), new.__closure__ or ()):
        _refill(mine, theirs)
    old.__code__ = new.__code__
    old.__defaults__, old.__kwdefaults__ = new.__defaults__, new.__kwdefaults__
    old.__doc__, old.__annotations__ = new.__doc__, new.__annotations__
    vars(old).clear()
    vars(old).update(vars(new))
    return True


def _refill(mine: CellType, theirs: CellType) -> None:
    try:
        content = theirs.cell_contents
    except ValueError:
        return
    mine.cell_contents = content


def _take_over_class(old: type, new: type) -> bool:
    for name in [n for n in vars(old) if n not in vars(new) and n not in _OF_THE_CLASS and not isinstance(vars(old)[n], _SLOT_LIKE)]:
        delattr(old, name)
    for name, value in list(vars(new).items()):
        if name in _OF_THE_CLASS or isinstance(value, _SLOT_LIKE):
            continue
        for function in _functions_of(value):
            _bind_class(function, new, old)  # what super() without arguments looks at
        before = vars(old).get(name)
        if isinstance(before, type) and isinstance(value, type) and _take_over(before, value):
            continue
        try:
            setattr(old, name, value)
        except (AttributeError, TypeError):  # a class that guards some of its attributes
            continue
    return True


def _functions_of(value: Any) -> list[FunctionType]:
    parts = [value, getattr(value, "__func__", None), getattr(value, "__wrapped__", None)]
    if isinstance(value, property):
        parts += [value.fget, value.fset, value.fdel]
    return [f for f in parts if isinstance(f, FunctionType)]


def _bind_class(function: FunctionType, new: type, old: type) -> None:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        if name == "__class__":
            try:
                if cell.cell_contents is new:
                    cell.cell_contents = old
            except ValueError:
                continue
