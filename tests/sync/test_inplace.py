"""Taking over content, and giving it back."""

from __future__ import annotations

import io
import weakref
from collections import OrderedDict, defaultdict, deque
from types import CellType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jupyter_gpu.sync.inplace import CannotUpdate, Undo, content_of, is_identity_kind, made_of, update


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("__secret", "x")

    def __init__(self, x: int) -> None:
        self.x = x
        self.__secret = x


class Reduced:
    def __init__(self, n: int) -> None:
        self.n = n

    def __reduce__(self) -> Any:
        return Reduced, (self.n,)


KEPT = Plain()


def streamed(stream: Any, position: int) -> Any:
    stream.seek(position)
    return stream


def seen(obj: Any) -> Any:
    if isinstance(obj, (io.BytesIO, io.StringIO)):
        return obj.getvalue(), obj.tell()
    if isinstance(obj, (Reduced, SimpleNamespace)):
        return dict(vars(obj))
    if isinstance(obj, np.ma.MaskedArray):
        return obj.tolist(), obj.mask.tolist()
    if isinstance(obj, weakref.WeakValueDictionary):
        return dict(obj)
    if isinstance(obj, Plain):
        return dict(vars(obj))
    if isinstance(obj, Slotted):
        return obj.x, obj._Slotted__secret  # type: ignore[attr-defined]
    if isinstance(obj, CellType):
        return obj.cell_contents
    return obj.tolist() if isinstance(obj, np.ndarray) else list(obj.items()) if isinstance(obj, dict) else obj.copy()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([1], [2, 3]),
        ({"a": 1}, {"b": 2}),
        ({1}, {2}),
        (bytearray(b"a"), bytearray(b"bc")),
        (deque([1]), deque([2, 3])),
        (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
        (defaultdict(int, a=1), defaultdict(None, b=2)),
        (CellType(1), CellType(2)),
        (np.zeros(3), np.ones(3)),
        (np.zeros((3, 2)).T[::2], np.ones((1, 3))),
        (Plain(a=1), Plain(b=2)),
        (Slotted(1), Slotted(2)),
        (Reduced(1), Reduced(2)),
        (SimpleNamespace(a=1), SimpleNamespace(b=2)),
        (np.ma.masked_array([1, 2], [0, 1]), np.ma.masked_array([3, 4], [1, 0])),
        (np.matrix([[1, 2]]), np.matrix([[3, 4]])),
        (streamed(io.BytesIO(b"abc"), 1), streamed(io.BytesIO(b"z"), 0)),
        (streamed(io.StringIO("abc"), 3), streamed(io.StringIO("xyz"), 2)),
        (weakref.WeakValueDictionary(a=KEPT), weakref.WeakValueDictionary(b=KEPT)),
    ],
)
def test_over_and_back(old: Any, new: Any) -> None:
    before, after = seen(old), seen(new)
    journal: list[Undo] = []
    kind, content = content_of(new)
    update(old, kind, content, journal)
    assert seen(old) == after
    for _ in range(2):  # an undo may be called for what was not done
        for undo in reversed(journal):
            undo()
        assert seen(old) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (np.zeros(3), np.zeros(4)),
        (np.zeros(3), np.zeros(3, "i8")),
        (Plain(), Slotted(1)),
        (deque(maxlen=2), deque(maxlen=3)),
        (iter([1]), iter([2])),
    ],
)
def test_what_cannot_be_taken_over_changes_nothing(old: Any, new: Any) -> None:
    journal: list[Undo] = []
    with pytest.raises(CannotUpdate):
        update(old, "twin", new, journal)
    assert journal == []


def test_memory_that_somebody_looks_at_is_not_resized() -> None:
    data = bytearray(b"ab")
    with memoryview(data), pytest.raises(CannotUpdate):
        update(data, "bytearray", b"longer", [])
    assert data == b"ab"


def test_read_only_arrays_of_our_own_are_made_writable() -> None:
    array = np.zeros(3)
    array.flags.writeable = False
    update(array, "twin", np.ones(3), [])
    assert array.sum() == 3


def test_a_function_of_another_closure_is_not_the_same() -> None:
    def make(n: int) -> Any:
        return lambda: n

    with pytest.raises(CannotUpdate):
        update(make(1), "twin", make(2), [])


def test_kinds() -> None:
    import datetime
    import decimal
    import enum
    import pathlib
    import random

    class E(enum.Enum):
        A = 1

    yes = [[], {}, set(), bytearray(), deque(), Plain(), Slotted(1), np.zeros(1), random.Random(), CellType(1), lambda: 1]
    no = [
        1,
        "s",
        (),
        frozenset(),
        None,
        E.A,
        E,
        decimal.Decimal(1),
        datetime.date(2020, 1, 1),
        pathlib.Path("x"),
        len,
        random,
        np.float64(1),
        np.dtype("i4"),
        np.add,
    ]
    assert all(is_identity_kind(type(v)) for v in yes) and not any(is_identity_kind(type(v)) for v in no)


def test_made_of_is_of_the_same_kind() -> None:
    for obj in ([1], {"a": 1}, {1}, bytearray(b"x")):
        kind, content = content_of(obj)
        made = made_of(kind, content)
        assert made == obj and made is not obj and type(made) is type(obj)
    assert made_of(*content_of(CellType(3))).cell_contents == 3


def test_a_stream_whose_memory_is_in_use_is_not_written() -> None:
    stream = io.BytesIO(b"ab")
    with stream.getbuffer(), pytest.raises(CannotUpdate):
        update(stream, "twin", io.BytesIO(b"longer"), [])
    assert stream.getvalue() == b"ab"


def test_what_has_memory_of_its_own_beside_its_dict_is_not_taken_for_plain() -> None:
    class Text(io.StringIO):
        pass

    with pytest.raises(CannotUpdate):
        update(Text("a"), "twin", Text("b"), [])


def test_a_cached_function_keeps_its_cache_while_it_wraps_the_same() -> None:
    import functools

    def f(n: int) -> int:
        return n

    old, twin = functools.lru_cache(f), functools.lru_cache(f)
    old(1)
    twin.note = 1  # type: ignore[attr-defined]
    update(old, "twin", twin, [])
    assert old.note == 1 and old.cache_info().currsize == 1  # type: ignore[attr-defined]
    with pytest.raises(CannotUpdate):
        update(old, "twin", functools.lru_cache(3)(f), [])
