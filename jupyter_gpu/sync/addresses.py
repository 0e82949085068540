"""The addresses of a list's items, read where CPython keeps them: no item is touched, which is what takes the time.

Whether they are there is tried out once. Without it lists are pickled each time.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import sysconfig
from functools import lru_cache
from typing import Any

#: Bytes of an address.
WORD = ctypes.sizeof(ctypes.c_void_p)


class _List(ctypes.Structure):
    """``PyListObject``."""

    _fields_ = (
        ("head", ctypes.c_char * (list.__basicsize__ - 3 * WORD)),
        ("length", ctypes.c_ssize_t),
        ("items", ctypes.POINTER(ctypes.c_char)),
        ("room", ctypes.c_ssize_t),
    )


def pointers_of(values: list[Any]) -> bytes:
    """The addresses of the items. Only where ``can_tell``."""
    shown = _List.from_address(id(values))
    items = shown.items  # where the list keeps them is looked up when they are copied, and not before
    collecting = gc.isenabled()
    gc.disable()  # what it calls could be another thread's turn
    try:
        # One expression without a call: no other thread has its turn in the midst of it, which could shorten the list.
        return items[: shown.length * WORD] if shown.length else b""
    finally:
        if collecting:
            gc.enable()


@lru_cache(maxsize=1)
def can_tell() -> bool:
    """Whether lists are laid out as we think, and one thread runs at a time."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False
    values: list[Any] = ["a", 2, None, [], 1.5]
    try:
        for length in (5, 6, 3):
            values = [*values, len(values)][:length]
            shown = _List.from_address(id(values))
            if shown.length != length or shown.room < length:
                return False
            if pointers_of(values) != b"".join(id(v).to_bytes(WORD, sys.byteorder) for v in values):
                return False
    except Exception:
        return False
    return True
