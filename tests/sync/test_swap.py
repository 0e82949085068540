"""A large array takes over the content of its twin without a third copy, and gives it back wherever it is interrupted."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

from jupyter_gpu.sync import swap

Journal = list[Callable[[], object]]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(1000, 301), (300_001,)])
def test_content_is_taken_over_and_given_back(shape: tuple[int, ...], order: Any) -> None:
    rng = np.random.default_rng(0)
    old, twin = (np.asarray(rng.random(shape), order=order) for _ in range(2))
    before, after = old.copy(), twin.copy()
    journal: Journal = []
    assert swap.swap_array(old, twin, journal)
    assert np.array_equal(old, after)
    while journal:
        journal.pop()()
    assert np.array_equal(old, before)


def test_there_is_no_third_copy() -> None:
    old, twin = np.zeros(4 << 20), np.ones(4 << 20)
    tracemalloc.start()
    try:
        journal: Journal = []
        assert swap.swap_array(old, twin, journal)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert old.all() and peak < old.nbytes // 4


@pytest.mark.parametrize("kind", ["read-only twin", "strided", "other order", "objects", "zero strides"])
def test_what_cannot_be_exchanged_is_copied(kind: str) -> None:
    old, twin = np.zeros((600, 600)), np.ones((600, 600))
    if kind == "read-only twin":
        twin.flags.writeable = False
    elif kind == "strided":
        old = np.zeros((600, 1200))[:, ::2]
    elif kind == "other order":
        old = np.asfortranarray(old)
    elif kind == "objects":
        old, twin = old.astype(object), twin.astype(object)
    else:
        twin = np.broadcast_to(np.ones(600), (600, 600))
    journal: Journal = []
    assert swap.swap_array(old, twin, journal) and bool((old == 1).all())
    journal.pop()()
    assert bool((old == 0).all())


def test_an_interrupt_at_any_line_can_be_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap, "_LARGE", 1 << 10)
    old, twin = np.arange(1000.0), -np.arange(1000.0)
    before, stopped = old.copy(), 0
    for stop in range(1, 200):
        lines = 0

        def trace(frame: FrameType, event: str, arg: object, stop: int = stop) -> Any:
            nonlocal lines
            if frame.f_code.co_name != "_exchange":
                return trace if event == "call" else None
            if event == "line":
                lines += 1
                if lines == stop:
                    raise KeyboardInterrupt
            return trace

        journal: Journal = []
        other = twin.copy()
        sys.settrace(trace)
        try:
            swap.swap_array(old, other, journal)
        except KeyboardInterrupt:
            stopped += 1
        finally:
            sys.settrace(None)
        while journal:
            journal.pop()()
        assert np.array_equal(old, before), stop
    assert stopped > 30
