"""The local stand-in of a value that stays remote."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from ..wire.errors import HandleError
from ..wire.messages import HandleInfo

_REPR_LIMIT = 2000


class Handle:
    """A value that lives in a remote session. Name it in a ``%%remote`` cell and it IS the remote object; ``fetch()`` brings it
    here. Anything else done with it raises ``HandleError``, which says what to do instead."""

    __slots__ = ("__weakref__", "_fetch", "_info")

    def __init__(self, info: HandleInfo, fetch: Callable[[], Any]) -> None:
        self._info = info
        self._fetch = fetch

    def fetch(self) -> Any:
        """The value itself, copied here. Raises what says why it cannot come."""
        return self._fetch()

    @property
    def info(self) -> HandleInfo:
        """All that is known of the remote value."""
        return self._info

    @property
    def shape(self) -> tuple[int, ...] | None:
        return None if self._info.shape is None else tuple(self._info.shape)

    @property
    def dtype(self) -> str:
        return self._info.dtype

    @property
    def device(self) -> str:
        return self._info.device

    @property
    def type(self) -> str:
        return self._info.type

    @property
    def size(self) -> int:
        """Bytes; -1: unknown."""
        return self._info.size

    def _facts(self) -> str:
        info = self._info
        facts = [info.type]
        if info.shape is not None:
            facts.append("×".join(map(str, info.shape)) or "0-d")
        facts += [x for x in (info.dtype, info.device) if x]
        if info.size >= 0:
            facts.append(f"{info.size:,} bytes".replace(",", " "))
        return ", ".join(facts)

    def __repr__(self) -> str:
        return f"<remote {self._info.name}: {self._facts()}>\n{self._info.text}".rstrip()

    def _repr_html_(self) -> str:
        inner = self._info.html or f"<pre>{html.escape(self._info.text)}</pre>"
        return (
            f'<div><div style="opacity:.7;font-size:.9em">remote <code>{html.escape(self._info.name)}</code> · '
            f"{html.escape(self._facts())} · <code>.fetch()</code> brings it here</div>{inner}</div>"
        )

    def _refuse(self, action: str) -> NoReturn:
        raise HandleError(name=self._info.name, action=action)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # probes of IPython, copy, inspect: they ask whether, and must hear no
            raise AttributeError(name)
        self._refuse(f"read .{name} of")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self._refuse("pickle")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in Handle.__slots__:
            object.__setattr__(self, name, value)
        else:
            self._refuse(f"set .{name} of")


def _refusal(action: str) -> Callable[..., NoReturn]:
    def method(self: Handle, *args: object, **kwargs: object) -> NoReturn:
        self._refuse(action)

    return method


for _action, _methods in {
    "call": ["call"],
    "iterate over": ["iter", "next", "reversed"],
    "take the length of": ["len"],
    "test": ["bool", "contains"],
    "index": ["getitem", "setitem", "delitem"],
    "compare": ["lt", "le", "gt", "ge"],
    "convert": ["int", "float", "complex", "index", "array", "array_interface"],
    "calculate with": [
        f"{r}{op}"
        for op in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift", "divmod")
        for r in ("", "r", "i")
        if (r, op) != ("i", "divmod")
    ]
    + ["neg", "pos", "abs", "invert", "round", "array_ufunc"],
    "use": ["enter", "exit", "await"],
}.items():
    for _method in _methods:
        setattr(Handle, f"__{_method}__", _refusal(_action))


def describe(value: Any, name: str, why: str = "") -> HandleInfo:
    """What a handle shows of ``value``: its repr (at most 2,000 characters), type, shape, dtype, device, size in bytes."""
    shape = getattr(value, "shape", None)
    dtype = getattr(value, "dtype", None)
    device = getattr(value, "device", None)
    return HandleInfo(
        name=name,
        type=f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins."),
        text=_short_repr(value),
        html=_html_of(value),
        shape=[int(n) for n in shape] if isinstance(shape, tuple) and all(hasattr(n, "__index__") for n in shape) else None,
        dtype=str(dtype) if dtype is not None and not callable(dtype) else "",
        device=str(device) if device is not None and not callable(device) else "",
        size=_size_of(value),
        why=why,
    )


def _short_repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:  # the repr is the user's code
        text = f"<{type(value).__qualname__}, whose repr raises {type(error).__name__}>"
    return text if len(text) <= _REPR_LIMIT else text[:_REPR_LIMIT] + " …"


def _html_of(value: Any) -> str:
    if type(value).__module__.split(".")[0] not in {"pandas", "polars"}:
        return ""  # others may be large, or run scripts
    try:
        return str(value._repr_html_() or "")
    except Exception:  # a repr that fails is no reason to lose the handle
        return ""


def _size_of(value: Any) -> int:
    try:
        if isinstance(size := getattr(value, "nbytes", None), int):
            return size
        if callable(usage := getattr(value, "memory_usage", None)):
            total = usage(index=True)
            return int(total.sum() if hasattr(total, "sum") else total)
        return sys.getsizeof(value)
    except Exception:  # attributes of other people's classes may do anything
        return -1
