"""Says in a person's words what inside a value cannot travel, and what travels but means nothing elsewhere."""

from __future__ import annotations

import io
import socket
import threading
import types
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..wire.messages import CannotTravel
from .elsewhere import A_PATH, Environment, is_place

_DEPTH = 40
_ATOMS = frozenset({int, float, str, bytes, bool, complex, type(None)})
_LONGEST = 200  # characters of a key in a path
_TOLD = 10
_LOOKS = 2000  # pickling attempts; each is small, since it is only made at what failed above

_WHOLE = (threading.Thread, socket.socket)
_LOCK_TYPES = (type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Event, threading.Semaphore)
_REASONS: list[tuple[tuple[type, ...], str]] = [
    (_LOCK_TYPES, "a lock belongs to the threads of one process"),
    ((types.GeneratorType, types.AsyncGeneratorType, types.CoroutineType), "it is in the middle of running, and cannot be copied"),
    ((socket.socket,), "an open connection belongs to one process"),
    ((io.IOBase,), "an open file belongs to one process"),
    ((threading.Thread,), "a thread belongs to one process"),
    ((weakref.ReferenceType,), "a weak reference has no meaning without what it refers to"),
    ((types.FrameType, types.TracebackType), "a running frame belongs to one process"),
]


def find_culprit(value: Any, name: str, dumps: Callable[[Any], object], error: BaseException | None = None) -> CannotTravel:
    """The innermost part of ``value`` that cannot be pickled, with the path to it as a person would write it.

    ``dumps`` raises for what cannot be pickled; ``error`` is what it raised for ``value``, if that is known. Iterators and generators
    are never advanced; the search ends after 2,000 attempts or 40 levels, and then names what it reached.
    """
    error = error if error is not None else _attempt(value, dumps)
    path, looks, seen = name, 0, {id(value)}
    for _ in range(_DEPTH):
        if isinstance(value, _WHOLE):
            break  # what it is made of says less
        if isinstance(error, (RecursionError, MemoryError)):
            break  # every part of it is fine, it is the depth or the size
        for step, part in _parts(value):
            if id(part) in seen or looks >= _LOOKS:
                continue
            looks += 1
            if (inner := _attempt(part, dumps)) is not None:
                seen.add(id(part))
                path, value, error = path + step, part, inner
                break
        else:
            break
    return CannotTravel(name=name, path=path, type=_type_name(value), reason=_reason(value, error))


def _attempt(value: Any, dumps: Callable[[Any], object]) -> BaseException | None:
    if value is None or isinstance(value, (int, float, str, bytes, bool)):
        return None
    try:
        dumps(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a __reduce__ of the person's may raise, SystemExit included
        return error
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """(how to write it, part) of what a value holds; nothing that runs code of the person's."""
    if isinstance(value, Mapping) and isinstance(value, dict):
        yield from ((f"[{_shown(key)}]", part) for key, part in list(dict.items(value)))
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{i}]", part) for i, part in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from ((f"{{{_shown(part)}}}", part) for part in list(value))
    elif isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or ())
        yield from ((f".<closure {n}>", c.cell_contents) for n, c in cells if _is_filled(c))
        yield from ((f".<default {i}>", part) for i, part in enumerate(value.__defaults__ or ()))
    elif isinstance(value, types.MethodType):
        yield (".__self__", value.__self__)
    elif hasattr(value, "func") and hasattr(value, "args") and hasattr(value, "keywords"):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    if not isinstance(value, (type, types.ModuleType, types.FunctionType)):
        try:
            attributes = object.__getattribute__(value, "__dict__")
        except AttributeError:
            return
        if isinstance(attributes, dict):
            yield from ((f".{key}", part) for key, part in list(attributes.items()))


def _shown(part: Any) -> str:
    """Its repr if that is Python's own, and short enough to be read: another may do anything."""
    if type(part) in _ATOMS or (type(part) is tuple and all(type(inner) in _ATOMS for inner in part)):
        text = repr(part)
        return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    return f"<{_type_name(part)}>"


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - it raises when empty
    except ValueError:
        return False
    return True


def _type_name(value: Any) -> str:
    cls = type(value)
    return cls.__qualname__ if cls.__module__ in {"builtins", "__main__"} else f"{cls.__module__}.{cls.__qualname__}"


def _reason(value: Any, error: BaseException | None) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply to be pickled"
    if isinstance(error, MemoryError):
        return "there is not enough memory here for a pickle of it"
    for types_, reason in _REASONS:
        if isinstance(value, types_):
            return reason
    if "sqlite3" in type(value).__module__ or "psycopg" in type(value).__module__:
        return "a database connection belongs to one process"
    return f"{type(error).__name__}: {error}" if error is not None else "it cannot be pickled"


def meaningless(notes: Sequence[tuple[Any, str]], value: Any, name: str, side: str = "here") -> tuple[list[str], list[str]]:
    """Sentences about what pickles in ``value`` but means nothing in another process, and those about paths. ``notes``: what the
    pickler met, and what it is elsewhere; of many, the first 10 are told. ``side``: whose value it is, "here" or "worker"."""
    said: dict[str, None] = {}
    places: dict[str, None] = {}
    for part, why in notes:
        if (why == A_PATH and not is_place(part)) or (side == "worker" and isinstance(part, Environment)):
            continue  # the environment that returns is the notebook's own again
        into = places if why == A_PATH else said
        if len(into) < _TOLD:
            path = _path_to(part, value, name)
            text = why if side == "here" else why.replace("this machine", "the worker's machine")
            into[f"{path} is {text}" if path else f"{name} holds {text}"] = None
    return list(said), list(places)


def _path_to(target: Any, value: Any, name: str) -> str:
    """How a person would write the way to a part; "" if it is too far. Looks at no more than 2,000 parts."""
    todo: list[tuple[str, Any]] = [(name, value)]
    seen: set[int] = set()
    for path, part in todo:
        if part is target:
            return path
        if id(part) in seen or len(todo) > _LOOKS:
            continue
        seen.add(id(part))
        todo.extend((path + step, inner) for step, inner in _parts(part))
    return ""
