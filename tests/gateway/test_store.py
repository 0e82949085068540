from __future__ import annotations

from pathlib import Path

import pytest
from jupyter_gpu_gateway.fleet.state import Session
from jupyter_gpu_gateway.store import KeptWorker, Store

from jupyter_gpu.wire.errors import DiskFull, InternalError
from jupyter_gpu.wire.messages import Gpu, Wanted

GPU = Gpu(uuid="GPU-1", type="H100", name="NVIDIA H100", memory=80 << 30, session_id="s-1")
WANTED = [Wanted(type="H100"), Wanted(type="CPU")]


def session(name: str = "s-1", key: str = "a notebook") -> Session:
    return Session(name, key, WANTED, 12.5, "some-python", 60.0, gpus=[GPU], worker_id="w-1", pid=77)


def test_a_restart_keeps_sessions_and_workers(tmp_path: Path) -> None:
    store = Store(tmp_path / "gateway.sqlite")
    store.save_worker("w-1", b"digest", "some-python", None)
    store.save_worker("w-1", b"digest", "some-python", {"pid": 5, "started": "99"})
    store.save_worker("w-2", b"other", "", None)
    store.save_session(session(key="an older key"))
    store.save_session(session())
    store.close()

    again = Store(tmp_path / "gateway.sqlite")
    assert again.workers() == [
        KeptWorker("w-1", b"digest", "some-python", {"pid": 5, "started": "99"}),
        KeptWorker("w-2", b"other", "", None),
    ]
    (found,) = again.sessions()
    assert (found.session_id, found.key, found.wanted, found.created) == ("s-1", "a notebook", WANTED, 12.5)
    assert (found.interpreter, found.idle, found.gpus, found.worker_id, found.pid) == ("some-python", 60.0, [GPU], "w-1", 77)
    again.close()


def test_what_is_dropped_is_gone(tmp_path: Path) -> None:
    store = Store(tmp_path / "gateway.sqlite")
    store.save_worker("w-1", b"", "", None)
    store.save_session(session())
    store.drop_worker("w-1")
    store.drop_session("s-1")
    store.drop_worker("never there")
    store.drop_session("never there")
    assert store.workers() == [] and store.sessions() == []
    store.close()


def test_others_cannot_read_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "gateway.sqlite")
    store.save_session(session())
    modes = {f.name: f.stat().st_mode & 0o777 for f in tmp_path.iterdir()}
    assert modes["gateway.sqlite"] == 0o600
    assert set(modes.values()) == {0o600}, modes
    store.close()


def test_a_full_disk_has_a_name_of_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path / "gateway.sqlite")
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count={pages + 1}")
    with pytest.raises(DiskFull, match="gateway.sqlite"):
        for n in range(1000):
            store.save_session(session(f"s-{n}", "k" * 1000))
    store.drop_session("s-0")
    store.close()


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sqlite"
    path.write_bytes(b"this is no database at all, " * 100)
    with pytest.raises(InternalError, match="gateway.sqlite"):
        Store(path)


def test_in_memory() -> None:
    store = Store(None)
    store.save_session(session())
    assert [s.session_id for s in store.sessions()] == ["s-1"]
    store.close()
