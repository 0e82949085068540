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
from jupyter_gpu.sync.chunks import digest
from jupyter_gpu.sync.pages import LEAST, PATIENCE, Pages

SIZE = 4 * LEAST


@pytest.fixture
def pages() -> Iterator[Pages]:
    made = Pages()
    yield made
    made.close()


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
    assert is_told(pages, array) and pages.skipped == before + SIZE


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
                patched.setattr(module, "digest", lambda _: exec("raise KeyboardInterrupt"))
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

    def slowly(buffer: Any) -> bytes:
        begun.set()
        time.sleep(0.05)  # room for the other, which has to wait: nothing depends on how long it is
        return digest(buffer)

    monkeypatch.setattr(module, "digest", slowly)
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
    monkeypatch.setattr(module, "_PINNING", (b"libc.so.6",))
    pages._drivers = module._Drivers()
    before = pages.skipped
    for _ in range(5 * PATIENCE):
        assert is_told(pages, array)
    assert pages.skipped == before


def test_where_the_system_does_not_tell_all_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SYSCALL", {})
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
    made = Pages()
    watched(made, memory())
    made.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_numbers_are_those_of_the_kernels_headers() -> None:
    def number(direction: int, kind: int, nr: int, size: int) -> int:
        return direction << 30 | size << 16 | kind << 8 | nr

    assert number(3, 0xAA, 0x3F, 3 * ctypes.sizeof(ctypes.c_uint64)) == module._API
    assert number(3, 0xAA, 0, 32) == module._REGISTER and number(2, 0xAA, 1, 16) == module._UNREGISTER
    assert number(3, 0xAA, 6, 24) == module._PROTECT and number(3, ord("f"), 16, 96) == module._SCAN
