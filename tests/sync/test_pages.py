"""Memory that the system watches: a change may never go unseen, however it came about."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from jupyter_gpu.sync import pages as module
from jupyter_gpu.sync import watcher as system
from jupyter_gpu.sync.chunks import digest
from jupyter_gpu.sync.pages import LEAST, PATIENCE, Pages
from jupyter_gpu.sync.pieces import measure_again

SIZE = 4 * LEAST


@pytest.fixture
def pages() -> Iterator[Pages]:
    """The process's own: memory that one watches cannot be watched by another."""
    module.pages.close()
    made = module.pages = Pages()
    yield made
    made.close()
    module.pages = Pages()


def memory(fill: int = 1, size: int = SIZE) -> Any:
    return np.full(size, fill, np.uint8)


def watched(pages: Pages, array: Any) -> Any:
    """``array``, after it was found unchanged often enough."""
    before = pages.skipped
    for _ in range(8 * PATIENCE + 2):  # its place may have been another's, which was written
        assert pages.digest(memoryview(array)) == digest(array)
    if pages.skipped == before:
        pytest.skip("this system does not tell which pages were written")
    return array


def is_told(pages: Pages, array: Any) -> bool:
    return pages.digest(memoryview(array)) == digest(array)


def test_what_is_the_same_is_not_read_again(pages: Pages) -> None:
    array = watched(pages, memory())
    before = pages.skipped
    assert is_told(pages, array) and pages.skipped > before + SIZE // 2


@pytest.mark.parametrize("where", [0, SIZE // 2, SIZE - 1])
def test_one_byte_shows(pages: Pages, where: int) -> None:
    array = watched(pages, memory())
    array[where] = 7
    assert is_told(pages, array)


def test_a_change_by_the_system_shows(pages: Pages) -> None:
    array = watched(pages, memory())
    read, write = os.pipe()
    os.write(write, b"news")
    assert os.readv(read, [memoryview(array)[SIZE // 2 : SIZE // 2 + 4]]) == 4
    os.close(read)
    os.close(write)
    assert is_told(pages, array)


def test_what_was_written_is_not_watched_again_so_soon(pages: Pages) -> None:
    array = watched(pages, memory())
    for value in range(5):
        array[:] = value
        assert is_told(pages, array)
    before = pages.skipped
    for _ in range(PATIENCE + 1):
        is_told(pages, array)
    assert pages.skipped == before, "it has to be unchanged longer than the first time"
    for _ in range(PATIENCE + 2):
        is_told(pages, array)
    assert pages.skipped > before


@pytest.mark.parametrize("interrupted_at", range(PATIENCE + 4))
def test_an_interrupt_leaves_no_old_digest(pages: Pages, monkeypatch: pytest.MonkeyPatch, interrupted_at: int) -> None:
    array = memory()
    for number in range(PATIENCE + 6):
        if number == interrupted_at:
            array[9] = 9
            with monkeypatch.context() as patched:
                patched.setattr(module, "measure", lambda *_: exec("raise KeyboardInterrupt"))
                patched.setattr(module, "measure_again", lambda *_: exec("raise KeyboardInterrupt"))
                with pytest.raises(KeyboardInterrupt):
                    pages.digest(memoryview(array))
        assert is_told(pages, array)


def test_threads_do_not_meet_a_digest_that_is_not_there_yet(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    """One hashes what it has just begun to watch; the other asks meanwhile."""
    array = memory()
    for _ in range(PATIENCE + 1):
        is_told(pages, array)
    array[5] = 5
    begun, told = threading.Event(), []
    other = threading.Thread(target=lambda: (begun.wait(10), told.append(is_told(pages, array))))

    def slowly(*arguments: Any) -> Any:
        begun.set()
        time.sleep(0.05)  # room for the other, which has to wait: nothing depends on how long it is
        return measure_again(*arguments)

    monkeypatch.setattr(module, "measure_again", slowly)
    other.start()
    assert is_told(pages, array)
    other.join()
    assert told == [True]


def test_memory_that_was_dropped_is_not_the_same(pages: Pages) -> None:
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as region:
        array = np.frombuffer(region, np.uint8)
        array[:] = 3
        watched(pages, array)
        region.madvise(mmap.MADV_DONTNEED)
        assert pages.digest(memoryview(array)) == digest(bytes(SIZE))
        del array


@pytest.mark.parametrize("make", [lambda: np.zeros(SIZE, np.uint8), lambda: memory(9), lambda: np.empty(SIZE, np.uint8)])
def test_another_array_in_the_same_place_is_another(pages: Pages, make: Any) -> None:
    array = watched(pages, memory(5))
    del array
    gc.collect()
    others = [make() for _ in range(3)]
    assert all(is_told(pages, other) for other in others)


@pytest.mark.parametrize("shift", [0, 1 << 20, (1 << 20) + 100])
def test_ranges_that_overlap(pages: Pages, shift: int) -> None:
    whole = memory(size=2 * SIZE)
    one, other = whole[:SIZE], whole[shift : shift + SIZE + 4096]
    watched(pages, one)
    one[-1] = 9  # of both, if they overlap there
    watched(pages, other)  # which starts to watch the page anew
    assert is_told(pages, one)


def test_neighbours_on_one_page(pages: Pages) -> None:
    whole = memory(size=2 * SIZE + 4096)
    one, other = whole[: SIZE + 100], whole[SIZE + 100 :]
    watched(pages, one)
    watched(pages, other)
    one[-1] = 5
    assert is_told(pages, one) and is_told(pages, other)


def test_shared_memory_is_read_each_time(pages: Pages) -> None:
    with mmap.mmap(-1, SIZE) as region:
        array = np.frombuffer(region, np.uint8)
        for _ in range(PATIENCE + 4):
            pages.digest(memoryview(array))
        assert pages.skipped == 0, "another process may write to it"
        del array


def test_files_are_read_each_time(pages: Pages, tmp_path: Any) -> None:
    (tmp_path / "data").write_bytes(bytes(SIZE))
    array = np.memmap(tmp_path / "data", np.uint8, "c")
    for _ in range(PATIENCE + 4):
        pages.digest(memoryview(array))
    assert pages.skipped == 0


def test_a_fork_has_its_own(pages: Pages) -> None:
    array = watched(pages, memory())
    for _ in range(PATIENCE + 3):
        module.pages.digest(memoryview(array))
    child = os.fork()
    if child == 0:
        array[5] = 9
        mine = module.pages.digest(memoryview(array)) == digest(array) and module.pages.skipped == 0
        os._exit(0 if mine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert is_told(pages, array)


def test_where_devices_may_write_nothing_is_watched(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    array = watched(pages, memory())
    monkeypatch.setattr(system, "_PINNING", (b"libc.so.6",))
    pages.watcher._drivers = system.Drivers()
    before = pages.skipped
    for _ in range(5 * PATIENCE):
        assert is_told(pages, array)
    assert pages.skipped == before


def test_where_the_system_does_not_tell_all_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_SYSCALL", {})
    made, array = Pages(), memory()
    for _ in range(PATIENCE + 4):
        assert is_told(made, array)
    assert made.skipped == 0


def test_small_and_closed(pages: Pages) -> None:
    small = memory(size=LEAST - 1)
    for _ in range(PATIENCE + 4):
        assert is_told(pages, small)
    array = watched(pages, memory())
    pages.close()
    array[3] = 3
    assert is_told(pages, array)


def test_only_so_many_are_watched(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 2)
    arrays = [watched(pages, memory(i)) for i in range(4)]
    assert len(pages._ranges) == 2
    for array in arrays:
        array[0] = 77
        assert is_told(pages, array)


def test_no_handle_is_left(pages: Pages) -> None:
    before = len(os.listdir("/proc/self/fd"))
    watched(pages, memory())
    pages.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_numbers_are_those_of_the_kernels_headers() -> None:
    def number(direction: int, kind: int, nr: int, size: int) -> int:
        return direction << 30 | size << 16 | kind << 8 | nr

    assert number(3, 0xAA, 0x3F, 3 * ctypes.sizeof(ctypes.c_uint64)) == system._API
    assert number(3, 0xAA, 0, 32) == system._REGISTER and number(2, 0xAA, 1, 16) == system._UNREGISTER
    assert number(3, ord("f"), 16, 96) == system._SCAN
    assert number(3, ord("f"), 17, 104) == system._MAPPING


# ---------------------------------------------------------------- few pages


def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pieces were hashed each time that not all was."""
    told: list[int] = []

    def noting(old: Any, buffer: Any, changed: Any) -> Any:
        told.append(len(changed))
        return measure_again(old, buffer, changed)

    monkeypatch.setattr(module, "measure_again", noting)
    return told


def test_the_second_look_is_free(pages: Pages) -> None:
    held = watched(pages, memory())
    array = memory(7)
    assert is_told(pages, array) and held is not array
    before = pages.skipped
    assert is_told(pages, array) and pages.skipped > before + SIZE // 2


def test_of_what_changed_a_little_little_is_read(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    array, told = watched(pages, memory()), hashed(monkeypatch)
    for value in range(5):
        array[SIZE // 3] = array[SIZE // 2 + 30_000] = value + 7  # each in the midst of a piece
        assert is_told(pages, array)
    assert len(told) == 5 and max(told) <= 4  # the pages at both ends may be written by others


def test_more_regions_than_fit_into_one_answer(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_ROOM", 3)
    pages.watcher = system.Watcher()
    array, told = watched(pages, memory(size=4 * SIZE)), hashed(monkeypatch)
    for value in range(3):
        array[30_000 :: SIZE // 4] = value + 5
        assert is_told(pages, array)
    assert min(told) >= 16


def test_what_was_given_back_as_it_was_is_the_same(pages: Pages) -> None:
    array = watched(pages, memory())
    before = pages.digest(memoryview(array))
    array[99] = 99
    assert pages.digest(memoryview(array)) != before
    array[99] = 1
    assert pages.digest(memoryview(array)) == before == digest(array)


def test_what_arrived_is_not_read(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    watched(pages, memory())
    array = memory(9)
    name = digest(array)
    pages.arrived(memoryview(array), name)
    with monkeypatch.context() as patched:
        patched.setattr(module, "measure", lambda _: exec("raise AssertionError"))
        assert pages.digest(memoryview(array)) == name
    array[5] = 1
    assert is_told(pages, array)
    pages.arrived(memoryview(small := memory(size=100)), digest(small))
    assert is_told(pages, small)


def test_what_arrived_long_ago_is_read_once(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has the digests of its pieces any more."""
    watched(pages, memory())
    array = memory(9)
    name = digest(array)
    monkeypatch.setattr(module, "recall", lambda _: None)
    pages.arrived(memoryview(array), name)
    assert pages.digest(memoryview(array)) == name
    array[5] = 1
    for _ in range(PATIENCE + 3):
        assert is_told(pages, array)
    array[5] = 2
    assert is_told(pages, array)


def test_zeros_that_nobody_wrote_are_not_watched_at_once(pages: Pages) -> None:
    watched(pages, memory())
    array, before = np.zeros(SIZE, np.uint8), pages.skipped
    for _ in range(PATIENCE + 2):
        assert is_told(pages, array)
    assert pages.skipped == before
    assert is_told(pages, array) and pages.skipped > before + SIZE // 2


def test_where_it_takes_long_to_find_out_what_memory_is_small_memory_waits(pages: Pages) -> None:
    watched(pages, memory())
    pages.watcher.asks = False  # before Linux 6.11
    array, before = memory(3), pages.skipped
    for _ in range(PATIENCE + 2):
        assert is_told(pages, array)
    assert pages.skipped == before
    assert is_told(pages, array) and pages.skipped > before + SIZE // 2


def test_views_of_the_same_memory_are_watched_together(pages: Pages) -> None:
    whole = watched(pages, memory(size=4 * SIZE))
    parts = [whole[:SIZE], whole[SIZE // 2 : 2 * SIZE], whole[SIZE - 100 :]]
    for part in parts:
        assert is_told(pages, part)
    for step in range(20):
        whole[step * SIZE // 8] = step + 50
        for part in (parts * 2)[step % 3 :]:
            assert is_told(pages, part)
        before = pages.skipped
        assert is_told(pages, whole) and pages.skipped > before + 3 * SIZE


def test_a_view_that_is_written_wholesale_takes_no_other_view_with_it(pages: Pages) -> None:
    whole = watched(pages, memory(size=4 * SIZE))
    part = whole[SIZE : 2 * SIZE]
    assert is_told(pages, part)
    for value in range(4):
        part[:] = value + 60
        whole[-1] = value
        assert is_told(pages, part) and is_told(pages, whole) and is_told(pages, part)


def test_more_is_told_to_others_than_they_remember(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_LOOSE", 2)
    whole = watched(pages, memory(size=4 * SIZE))
    part = whole[SIZE : 2 * SIZE]
    assert is_told(pages, part)
    for at in (1, 20_000, 60_000, 100_000):
        part[at] = 77
        assert is_told(pages, part)
    assert is_told(pages, whole)


def test_an_interrupt_between_two_views_loses_nothing(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = watched(pages, memory(size=4 * SIZE))
    part = whole[SIZE : 2 * SIZE]
    assert is_told(pages, part)
    part[7] = 7
    real = pages.watcher.written

    def interrupted(*arguments: Any) -> Any:
        real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pages.watcher, "written", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pages.digest(memoryview(part))
    assert is_told(pages, whole) and is_told(pages, part)


def test_one_who_writes_all_the_time_is_seen_in_the_end(pages: Pages) -> None:
    array, stop = watched(pages, memory(size=4 * SIZE)), threading.Event()

    def write() -> None:
        rng = np.random.default_rng(1)
        while not stop.is_set():
            array[rng.integers(array.size)] += 1

    other = threading.Thread(target=write)
    other.start()
    for _ in range(200):
        pages.digest(memoryview(array))
    stop.set()
    other.join()
    assert is_told(pages, array)


@pytest.mark.parametrize("seed", range(6))
def test_no_write_is_ever_missed(pages: Pages, seed: int) -> None:
    """Anything that may happen to memory, in any order, beside a full hash."""
    rng = np.random.default_rng(seed)
    region = mmap.mmap(-1, 4 * SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapped = np.frombuffer(region, np.uint8)
    mapped[:] = rng.integers(0, 255, len(mapped), np.uint8)
    held = {"mapped": mapped, "own": rng.integers(0, 255, 3 * SIZE, np.uint8), "floats": rng.random(SIZE // 4).view(np.uint8)}

    def cut(array: Any) -> Any:
        first = int(rng.integers(0, array.size - LEAST))
        return array[first : first + int(rng.integers(LEAST, array.size - first + 1))]

    views = [cut(array) for array in held.values() for _ in range(2)]

    def at(array: Any) -> int:
        return int(rng.integers(array.size))

    def change(array: Any) -> None:
        value, where, kind = int(rng.integers(256)), at(array), int(rng.integers(11))
        if kind < 3:
            array[where] = value
        elif kind == 3:
            array[where : where + int(rng.integers(1, 100_000))] = value
        elif kind == 4:
            array[:: int(rng.integers(1, 300_000))] = value
        elif kind == 5:
            array[rng.integers(0, array.size, int(rng.integers(1, 500)))] = value
        elif kind == 6:
            ctypes.memset(array.ctypes.data + where, value, min(5000, array.size - where))
        elif kind == 7:
            array.fill(value)
        elif kind == 8:
            page = 4096 * int(rng.integers(0, 4 * SIZE // 4096))
            region.madvise(mmap.MADV_DONTNEED, page, min(4096 * int(rng.integers(1, 50)), 4 * SIZE - page))
        elif kind == 9:
            child = os.fork()
            if child == 0:
                array[where] = value ^ 1
                os._exit(0)
            os.waitpid(child, 0)
            array[at(array)] = value
        else:
            read, write = os.pipe()
            os.write(write, bytes([value]) * 100)
            os.readv(read, [memoryview(array)[where : where + 100]])
            os.close(read)
            os.close(write)

    for _ in range(60):
        targets = [*held.values(), *views]
        for _ in range(int(rng.integers(0, 4))):
            change(targets[int(rng.integers(len(targets)))])
        if rng.random() < 0.1:  # other memory, most likely at the same place, and perhaps of another size
            del views[2:4], targets
            held["own"].resize(int(rng.integers(2, 5)) * SIZE, refcheck=False)
            views[2:2] = [cut(held["own"]) for _ in range(2)]
        if rng.random() < 0.1:
            held["floats"] = held["floats"].copy()
            views[4:] = [cut(held["floats"]) for _ in range(2)]
        targets = [*held.values(), *views]
        for number in rng.permutation(len(targets))[: int(rng.integers(1, len(targets) + 1))]:
            assert is_told(pages, targets[number])
    for array in (*held.values(), *views):
        assert is_told(pages, array)
    del held, views, targets, mapped, array
    gc.collect()
    region.close()
