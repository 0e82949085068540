"""An exception of the person's, on its way: with its cause, its context and its notes as far as these can travel."""

from __future__ import annotations

from typing import Any

from .inplace import Undo
from .loading import Unpickler
from .pickler import Pickler
from .plain.machine import Machine
from .trust import Trust

_MOST = 20  #: links of a chain; a longer one is a loop of retries


def dump_exception(error: BaseException, namespace: dict[str, Any] | None = None) -> bytes | None:
    """None if it cannot be pickled. Never raises. The traceback stays here; ``namespace`` is the notebook's, for classes and
    functions that the exception carries."""
    scope = {} if namespace is None else namespace
    try:
        links = _links(error)
        parts = [_dump(link, scope) for link in links]
        if parts[0] is None:
            return None
        places = {id(link): i for i, link in enumerate(links)}
        joints = [(places.get(id(e.__cause__), -1), places.get(id(e.__context__), -1), e.__suppress_context__) for e in links]
        return _dump((parts, joints), scope)
    except Exception:
        return None


def load_exception(data: bytes | memoryview, namespace: dict[str, Any] | None = None, trust: Trust = "code") -> BaseException | None:
    """What ``dump_exception`` took; None if it cannot be rebuilt here. Never raises. Classes that are here stay as they are. With
    ``trust="data"`` Python's own exceptions are rebuilt, and no others."""
    scope = {} if namespace is None else namespace
    try:
        parts, joints = _load(data, scope, trust)
        errors = [_load_part(part, scope, trust) for part in parts]
        for error, (cause, context, suppress) in zip(errors, joints):
            if error is not None:
                error.__context__ = errors[context] if context >= 0 else None
                error.__cause__ = errors[cause] if cause >= 0 else None
                error.__suppress_context__ = suppress
        return errors[0]
    except Exception:
        return None


def _links(error: BaseException) -> list[BaseException]:
    found = [error]
    for link in found:
        for other in (link.__cause__, link.__context__):
            if other is not None and len(found) < _MOST and all(other is not known for known in found):
                found.append(other)
    return found


class _InBand(Pickler):
    @staticmethod
    def _take_buffer(buffers: Any, buffer: Any) -> bool:
        return True


def _dump(value: Any, namespace: dict[str, Any]) -> bytes | None:
    pickler = _InBand(namespace)
    try:
        pickler.dump(value)
    except Exception:
        return None
    return pickler.file.getvalue()


def _load_part(data: bytes | None, namespace: dict[str, Any], trust: Trust) -> BaseException | None:
    if data is None:
        return None
    try:
        error = _load(data, namespace, trust)
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None


def _load(data: bytes | memoryview, namespace: dict[str, Any], trust: Trust) -> Any:
    if trust == "data":
        return Machine(data, ()).load()
    journal: list[Undo] = []
    try:
        return Unpickler(data, (), namespace, _no_token, None, journal).load()
    finally:
        for undo in reversed(journal):
            undo()


def _no_token(pid: Any) -> Any:
    raise ValueError("an exception refers to no known object")
