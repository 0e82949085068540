from __future__ import annotations

import errno
import io
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_gpu.wire.errors import DiskFull, LinkBroken, SpoolFull
from jupyter_gpu.wire.spool import Spool


def test_memory_then_file_then_full(tmp_path: Path) -> None:
    spool = Spool(memory=10, disk=20, folder=str(tmp_path))
    assert spool.put([b"a" * 11], 11) == -1
    assert spool.memory == 11
    at = spool.put([b"b" * 10, memoryview(b"c" * 5)], 15)
    assert at == 0 and spool.disk == 15
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SpoolFull) as caught:
        spool.put([b"d" * 6], 6)
    assert caught.value.limit == 30
    assert spool.get(at, 15) == b"b" * 10 + b"c" * 5
    assert spool.put([], 0) == -1
    spool.free(at, 10)
    spool.free(-1, 11)
    assert (spool.memory, spool.disk) == (0, 5)
    spool.free(at + 10, 5)
    spool.close()
    spool.close()


def test_close_without_a_file() -> None:
    Spool().close()


@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=9)), max_size=60))
def test_the_ring_keeps_what_it_was_given(steps: list[tuple[bool, bytes]]) -> None:
    spool = Spool(memory=0, disk=16)
    held: list[tuple[int, bytes]] = []
    for give, data in steps:
        if give:
            used = sum(len(kept) for _, kept in held)
            if used + len(data) > 16:
                with pytest.raises(SpoolFull):
                    spool.put([data], len(data))
            else:
                held.append((spool.put([data[:3], data[3:]], len(data)), data))
        elif held:
            at, kept = held.pop(0)
            assert spool.get(at, len(kept)) == kept
            spool.free(at, len(kept))
    for at, kept in held:
        assert spool.get(at, len(kept)) == kept
    spool.close()


class FullDisk(io.FileIO):
    """Takes three bytes a call, and twelve in all."""

    room = 12

    def write(self, data: Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count: int = super().write(bytes(data)[: min(3, self.room)])
        self.room -= count
        return count


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: FullDisk(str(tmp_path / "spool"), "w+b"))


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_takes_nothing() -> None:
    spool = Spool(memory=0, disk=1000)
    at = spool.put([b"12345"], 5)
    with pytest.raises(DiskFull) as caught:
        spool.put([b"x" * 10], 10)
    assert caught.value.needed == 10 and "No space left" in str(caught.value)
    assert spool.disk == 5 and spool.get(at, 5) == b"12345"
    spool.close()


def test_no_folder_for_the_file(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="No such file"):
        Spool(memory=0, disk=10, folder=str(tmp_path / "gone")).put([b"x"], 1)


@pytest.mark.usefixtures("full_disk")
def test_a_damaged_file_is_noticed(tmp_path: Path) -> None:
    spool = Spool(memory=0, disk=1000)
    at = spool.put([b"12345"], 5)
    (tmp_path / "spool").write_bytes(b"12")
    with pytest.raises(LinkBroken):
        spool.get(at, 5)
    spool.close()


def test_space_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "spool"
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: io.FileIO(str(path), "w+b"))
    spool = Spool(memory=0, disk=1000)
    at = spool.put([b"x" * 100], 100)
    assert path.stat().st_size == 100
    spool.free(at, 100)
    assert path.stat().st_size == 0
    spool.close()
