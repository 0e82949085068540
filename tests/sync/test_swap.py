"""A large array takes over the content of its twin without a third copy, and gives it back wherever it is interrupted."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

from jupyter_gpu.sync import pages as module
from jupyter_gpu.sync import swap
from jupyter_gpu.sync.chunks import digest

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


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int8, np.dtype("S3"), np.dtype([("a", "i4"), ("b", "u1")]), "M8[s]"])
def test_of_what_is_the_same_nothing_is_written(kind: Any) -> None:
    old = np.frombuffer(bytes(range(240)) * 15_000, kind).copy()
    twin, before = old.copy(), old.copy()
    journal: Journal = []
    twin[[0, len(twin) // 2 + 1]] = twin[[5, 6]]
    after = twin.copy()
    assert swap.swap_array(old, twin, journal)
    assert old.tobytes() == after.tobytes()
    journal.pop()()
    assert old.tobytes() == before.tobytes()


def test_a_watched_array_goes_on_being_watched() -> None:
    old = np.random.default_rng(0).random(8 << 20)
    twin = old.copy()
    twin[7] = 7
    watching = module.pages  # the process's own: memory that one watches cannot be watched by another
    before = watching.skipped
    for _ in range(12):  # its place may have been another's, which was written
        watching.digest(old.data)
    if watching.skipped == before:
        pytest.skip("this system does not tell which pages were written")
    assert swap.swap_array(old, twin, [])
    before = watching.skipped
    assert watching.digest(old.data) == digest(old) and watching.skipped > before + old.nbytes // 2


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
