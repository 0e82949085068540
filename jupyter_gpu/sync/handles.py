"""The local stand-in of a value that stays remote."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, NoReturn

from ..wire.errors import HandleError
from ..wire.messages import HandleInfo
from .sizes import device_of, size_of
from .units import human_bytes

_REPR_LIMIT = 2000
#: Of a series: it has no table of its own that would leave out the middle.
_ROWS = 10


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
    def key(self) -> str:
        """What it is called at its kernel, whatever its names."""
        return self._info.key or self._info.name

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

    @property
    def ended(self) -> bool:
        """Whether its session is over, and the value gone."""
        return bool(getattr(self._fetch, "ended", False))

    def _facts(self) -> str:
        info = self._info
        facts = [info.type]
        if info.shape is not None:
            facts.append("×".join(map(str, info.shape)) or "0-d")
        facts += [x for x in (info.dtype, info.device) if x]
        if info.size >= 0:
            facts.append(human_bytes(info.size))
        return ", ".join(facts)

    def __repr__(self) -> str:
        over = "; its session has ended, and the value is gone" if self.ended else ""
        return f"<remote {self._info.name}: {self._facts()}{over}>\n{self._info.text}".rstrip()

    def __format__(self, spec: str) -> str:
        if spec:
            self._refuse("formatted")
        return repr(self)

    def _repr_html_(self) -> str:
        inner = self._info.html or f"<pre>{html.escape(self._info.text)}</pre>"
        what = "its session has ended, and the value is gone" if self.ended else "<code>.fetch()</code> brings it here"
        return (
            f'<div><div style="opacity:.7;font-size:.9em">remote <code>{html.escape(self._info.name)}</code> · '
            f"{html.escape(self._facts())} · {what}</div>{inner}</div>"
        )

    def _refuse(self, action: str) -> NoReturn:
        raise HandleError(name=self._info.name, action=action, ended=self.ended)

    def __getattr__(self, name: str) -> Any:
        if name in _CONVERSIONS:
            self._refuse("converted")
        if name.startswith("_"):  # probes of IPython, copy, inspect: they ask whether, and must hear no
            raise AttributeError(name)
        self._refuse(f"asked for .{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in Handle.__slots__:
            object.__setattr__(self, name, value)
        else:
            self._refuse(f"given a .{name}")

    def __delattr__(self, name: str) -> NoReturn:
        self._refuse(f"deprived of .{name}")

    def __eq__(self, other: object) -> bool:
        # A container looks for it by identity first, and dicts and sets by its hash: both work. An answer to any other question would be
        # an answer about the stand-in.
        return True if self is other else self._refuse("compared")

    __hash__ = object.__hash__


#: Asked for by name, where a library wants an array: to say no would make an array of one object of it.
_CONVERSIONS = frozenset(
    {"__array_interface__", "__array_struct__", "__cuda_array_interface__", "__dlpack__", "__dataframe__", "__arrow_c_stream__"}
)


def _refusal(action: str) -> Callable[..., NoReturn]:
    def method(self: Handle, *args: object, **kwargs: object) -> NoReturn:
        self._refuse(action)

    return method


for _action, _methods in {
    "called": ["call"],
    "iterated over": ["iter", "next", "reversed", "aiter", "anext"],
    "measured with len()": ["len"],
    "tested": ["bool", "contains"],
    "indexed": ["getitem", "setitem", "delitem"],
    "compared": ["lt", "le", "gt", "ge"],
    "converted": ["int", "float", "complex", "index", "array", "bytes", "fspath"],
    "pickled": ["reduce_ex", "reduce", "getstate"],
    "copied": ["copy", "deepcopy"],
    "calculated with": [
        f"{r}{op}"
        for op in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift", "divmod")
        for r in ("", "r", "i")
        if (r, op) != ("i", "divmod")
    ]
    + ["neg", "pos", "abs", "invert", "round", "trunc", "floor", "ceil", "array_ufunc", "array_function"],
    "used in a with statement": ["enter", "exit", "aenter", "aexit"],
    "awaited": ["await"],
}.items():
    for _method in _methods:
        setattr(Handle, f"__{_method}__", _refusal(_action))


def describe(value: Any, name: str, why: str = "", key: str = "") -> HandleInfo:
    """What a handle shows of ``value``: its repr (at most 2,000 characters), type, shape, dtype, device, size in bytes."""
    shape = _attribute(value, "shape")
    dtype = _attribute(value, "dtype")
    device = _attribute(value, "device")
    return HandleInfo(
        name=name,
        type=f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins."),
        text=_short_repr(value),
        html=_html_of(value),
        shape=[int(n) for n in shape] if isinstance(shape, tuple) and all(hasattr(n, "__index__") for n in shape) else None,
        dtype=str(dtype) if dtype is not None and not callable(dtype) else "",
        device=str(device) if device is not None and not callable(device) else device_of(value),
        size=size_of(value),
        why=why,
        key=key,
    )


def _attribute(value: Any, name: str) -> Any:
    if isinstance(value, type):
        return None
    try:
        return getattr(value, name, None)
    except Exception:  # attributes of other people's classes may do anything
        return None


def _short_repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:  # the repr is the user's code
        text = f"<{type(value).__qualname__}, whose repr raises {type(error).__name__}>"
    return text if len(text) <= _REPR_LIMIT else text[:_REPR_LIMIT] + " …"


def _html_of(value: Any) -> str:
    if type(value).__module__.split(".")[0] not in {"pandas", "polars", "cudf"}:
        return ""  # others may be large, or run scripts
    try:
        shown = value.head(_ROWS).to_frame() if hasattr(value, "to_frame") else value
        return str(shown._repr_html_() or "")
    except Exception:  # a repr that fails is no reason to lose the handle
        return ""
