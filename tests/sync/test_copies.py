"""Copies within a budget: memory, then disk, then none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from jupyter_gpu.sync import copies as module
from jupyter_gpu.sync.copies import Copies
from jupyter_gpu.sync.pieces import digest

MIB = 1 << 20


def content(letter: str, size: int = MIB) -> bytes:
    return letter.encode() * size


def keep(copies: Copies, *letters: str) -> list[bytes]:
    names = [digest(content(each)) for each in letters]
    assert all(copies.keep(name, content(each)) for name, each in zip(names, letters))
    return names


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_is_kept_is_a_copy_that_nobody_can_change() -> None:
    copies, data = Copies(), bytearray(content("a"))
    name = digest(data)
    assert copies.keep(name, data)
    data[0] = 0
    found = copies.find(name)
    assert found is not None and found.readonly and bytes(found) == content("a")
    assert copies.find(b"another") is None and name in copies and len(copies) == 1


def test_what_was_changed_since_is_not_kept() -> None:
    copies = Copies()
    assert not copies.keep(digest(content("a")), content("b"), verify=True)
    assert len(copies) == 0 and copies.size == 0


def test_what_is_larger_than_half_of_the_memory_is_not_copied() -> None:
    copies = Copies(memory=2 * MIB)
    assert copies.keep(b"1", content("a", MIB)) and not copies.keep(b"2", content("a", MIB + 1))


def test_least_recently_used_goes_to_disk_and_then_away() -> None:
    copies = Copies(memory=2 * MIB, disk=MIB)
    before = open_files()
    a, b = keep(copies, "a", "b")
    assert copies.find(a) is not None
    (c,) = keep(copies, "c")
    assert copies.size == 2 * MIB and copies.size_on_disk == MIB and open_files() == before + 1
    found = copies.find(b)
    assert found is not None and bytes(found) == content("b")
    del found
    keep(copies, "d")  # `a` takes the place of `b` on disk
    assert b not in copies and copies.size_on_disk == MIB
    assert bytes(copies.find(a) or b"") == content("a") and c in copies
    copies.clear()
    assert len(copies) == copies.size == copies.size_on_disk == 0 and open_files() == before


def test_nothing_is_left_of_copies_that_nobody_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    before = open_files()
    copies = Copies(memory=2 * MIB)
    keep(copies, *"abcdef")
    assert open_files() == before + 4 and list(tmp_path.iterdir()) == []
    del copies
    assert open_files() == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(24, "Too many open files")])
def test_a_full_disk_means_no_copy(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    class Full:
        def write(self, data: Any) -> int:
            raise error

        def close(self) -> None:
            closed.append(True)

    closed: list[bool] = []
    monkeypatch.setattr(module.tempfile, "TemporaryFile", lambda **_: Full())
    copies = Copies(memory=2 * MIB)
    a, *_ = keep(copies, *"abc")
    assert a not in copies and len(copies) == 2 and copies.size_on_disk == 0 and closed == [True]


def test_few_files_are_open_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FILES", 2)
    copies = Copies(memory=2 * MIB)
    keep(copies, *"abcdef")
    assert len(copies) == 4


def test_discarding_gives_back_memory_and_disk() -> None:
    copies = Copies(memory=2 * MIB)
    for name in keep(copies, *"abc"):
        copies.discard(name)
    assert copies.size == copies.size_on_disk == len(copies) == 0
