from __future__ import annotations

import time

import pytest

from jupyter_gpu.transport import buffers
from jupyter_gpu.transport.buffers import Pool


def test_memory_is_used_again_when_nobody_looks_at_it_any_more() -> None:
    pool = Pool(1000, 2)
    first = pool.take(600)
    part, first = first[5:], first[:0]
    second = pool.take(1000)
    assert second.obj is not part.obj, "a slice of a slice keeps it"
    memory = part.obj
    del part, first
    assert pool.take(500).obj is memory
    assert len(pool.take(1000)) == 1000 and second.nbytes == 1000


def test_what_is_held_for_ever_is_replaced() -> None:
    pool = Pool(100, 2)
    held = [pool.take(100) for _ in range(5)]
    assert len({id(view.obj) for view in held}) == 5
    for n, view in enumerate(held):
        view[:] = bytes([n]) * 100
    assert [view[0] for view in held] == [0, 1, 2, 3, 4]
    held.clear()


def test_what_is_larger_or_much_smaller_has_memory_of_its_own() -> None:
    pool = Pool(100, 2)
    for size in (0, 1, 49, 101, 1000):
        view = pool.take(size)
        assert isinstance(view.obj, bytearray) and len(view.obj) == size


def test_what_was_not_needed_for_a_while_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(100, 2)
    memory = pool.take(100).obj
    pool.tidy()
    assert pool.take(100).obj is memory
    later = time.monotonic() + buffers.IDLE + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    pool.tidy()
    assert pool.take(100).obj is not memory
