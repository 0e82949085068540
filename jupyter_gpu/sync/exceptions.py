"""Exceptions on their way: the object itself if it can travel, never a failure of its own."""

from __future__ import annotations

from typing import Any

from .pickler import Pickler, Unpickler


def dump_exception(error: BaseException, namespace: dict[str, Any]) -> bytes | None:
    """``error`` as bytes, without its traceback; None if it cannot be pickled. Never raises."""
    try:
        pickler = Pickler(namespace)
        context = error.__context__
        pickler.dump((error, error.__cause__, None if context is error.__cause__ else context, getattr(error, "__notes__", None)))
        if pickler.buffers:
            return None
        return pickler.file.getvalue()
    except Exception:  # reduction is the person's; the exception is shown by its name and text then
        return None


def load_exception(data: bytes, namespace: dict[str, Any]) -> BaseException | None:
    """What ``dump_exception`` wrote; None if it cannot be made here. Never raises."""

    def resolve(token: object) -> Any:
        raise LookupError(token)

    try:
        error, cause, context, notes = Unpickler(data, [], namespace, resolve).load()
    except Exception:  # constructors are the person's
        return None
    if not isinstance(error, BaseException):
        return None
    error.__cause__, error.__context__ = cause, context
    if notes:
        error.__notes__ = notes
    return error
