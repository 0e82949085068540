"""Kinds of object that can be pickled and mean nothing, or something else, in another process. Noticed by the pickler when it meets the
first of a kind, however deep: nothing is looked through for them."""

from __future__ import annotations

import io
import os
import pathlib
import tempfile
from typing import Any

#: Its copy would carry every secret of this machine along.
Environment: type = type(os.environ)
#: The reason that is no warning on a machine that shares its files.
A_PATH = "a path of this machine"

_MEMORY_FILES = (io.BytesIO, io.StringIO)
_DATABASE = ("cursor", "commit", "rollback")


def why_elsewhere(kind: type) -> str:
    """What instances of ``kind`` are elsewhere, as it follows "is" in a sentence; "": what they are here."""
    if issubclass(kind, Environment):
        return "the environment of this machine; over there it is the worker's own"
    if issubclass(kind, pathlib.Path):
        return A_PATH
    if issubclass(kind, tempfile.TemporaryDirectory):
        return "a temporary directory of this machine"
    if issubclass(kind, (io.IOBase, tempfile.SpooledTemporaryFile)):
        return "" if issubclass(kind, _MEMORY_FILES) else "an open file; its content went along, the file did not"
    if kind.__name__ == "memmap" and kind.__module__.startswith("numpy"):
        return "an array in a file of this machine; its content went along, the file did not"
    if all(hasattr(kind, name) for name in _DATABASE):
        return "a database connection, which belongs to one process"
    if callable(getattr(kind, "fileno", None)):
        return "an open file or connection, which belongs to one process"
    return ""


def is_place(path: Any) -> bool:
    """Whether a path names something that is there, by its whole name."""
    try:
        return bool(path.is_absolute() and path.exists())
    except OSError:
        return False


def reduce_environment(environment: Any) -> Any:
    """By name."""
    return environment_here, (environment is not os.environ,)


def environment_here(in_bytes: bool) -> Any:
    return os.environb if in_bytes else os.environ
