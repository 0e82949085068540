"""What moving is made of, each by itself."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jupyter_client.session import Session
from jupyter_gpu_worker import mapped
from jupyter_gpu_worker.moving import parse
from jupyter_gpu_worker.transit import Transit, opened

from jupyter_gpu.cells.magic import line_magic
from jupyter_gpu.kernel import transit as shims
from jupyter_gpu.kernel.moving import summary_of, wanted_of
from jupyter_gpu.kernel.outstanding import Outstanding
from jupyter_gpu.sync.pieces import digest
from jupyter_gpu.wire.errors import BadHardware, BadOptionValue, CannotMove, StaysBehind
from jupyter_gpu.wire.moving import Leaving, Offered


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("H100", Leaving(to="H100")),
        ("gpu=H100:2,A100", Leaving(to="H100:2,A100")),
        ("local anyway", Leaving(to="local", anyway=True)),
        ("H100 without=a,b without=c", Leaving(to="H100", without=["a", "b", "c"])),
    ],
)
def test_what_a_person_writes(text: str, wish: Leaving) -> None:
    assert parse(text) == wish


@pytest.mark.parametrize("text", ["", "anyway", "H100 A100", "H100 with=a", "without=a"])
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(BadOptionValue, match="without="):
        parse(text)


def test_where_it_goes() -> None:
    assert wanted_of("LOCAL")[1] and not wanted_of("H100")[1]
    with pytest.raises(BadHardware):
        wanted_of("H100,,")


def test_a_kernel_that_is_none_of_ours() -> None:
    with pytest.raises(CannotMove, match="install --elastic"):
        line_magic(object(), "move H100")


def test_what_stays_is_a_command_to_go_without_it() -> None:
    error = StaysBehind(to="H100", names=["lock", "gen"], why=["lock is a lock", "gen is a generator"])
    assert "`%remote move H100 without=lock,gen`" in str(error) and "anyway" in str(error)


def test_the_summary() -> None:
    offered = Offered(count=34, size=120_000_000, execution_count=3, behind=["lock (a lock)"], notes=["a note"])
    whole = summary_of("H100", 1.23, offered, 119_000_000, ["another"])
    assert whole == "moved to H100 in 1.2 s: 34 variables, 120 MB; stayed behind: lock (a lock)\na note\nanother"
    assert "(1 MB of it new)" in summary_of("H100", 1.0, offered, 1_000_000, []).replace("1.0 MB", "1 MB")


def frames(session: Session, message: dict[str, Any], ident: bytes = b"client") -> list[bytes]:
    return session.serialize(message, ident=ident)


def test_what_a_kernel_was_not_idle_after_is_outstanding() -> None:
    session, waiting = Session(key=b"k"), Outstanding()
    asked = [session.msg(kind, {}) for kind in ("execute_request", "inspect_request", "comm_msg", "execute_request")]
    for each in asked:
        waiting.asked(frames(session, each))
    waiting.asked([b"no message"])
    for state in ("busy", "idle"):
        status = session.msg("status", {"execution_state": state}, parent=asked[1])
        waiting.heard(frames(session, status, b"kernel.x.status"))
    waiting.heard(frames(session, session.msg("stream", {}, parent=asked[0]), b"stream"))
    found = waiting.take(asked[0]["header"]["msg_id"])
    assert [session.feed_identities(list(f))[1][1] for f in found] == [frames(session, asked[3])[3]]
    assert waiting.take() == []


def test_only_so_many_are_remembered() -> None:
    session, waiting = Session(key=b"k"), Outstanding()
    for _ in range(10_001):
        waiting.asked(frames(session, session.msg("execute_request", {})))
    assert len(waiting.take()) == 10_000


@pytest.fixture
def folder(home: Path) -> Any:
    made = shims.Transit()
    yield made
    made.remove()
    assert not made.path.exists()


def test_chunks_are_written_once_and_mapped(folder: shims.Transit) -> None:
    here = Transit(str(folder.path), folder.nonce)
    data = memoryview(np.arange(100_000.0)).cast("B")
    (name,) = here.write([data])
    assert name == digest(data) and here.has(name, data.nbytes) and not here.has(name, 8) and here.sizes() == {data.nbytes}
    first, second = here.map(name, data.nbytes), here.map(name, data.nbytes)
    first[0] = 255
    assert second == data, "private"
    assert mapped.name_of(second) == name
    assert mapped.name_of(first) is None, "written to"
    assert mapped.name_of(second[8:]) is None, "a part of it has another name"
    with pytest.raises(OSError, match="another size"):
        here.map(name, 8)
    folder.keep_only({name.hex()})
    assert here.has(name, data.nbytes)
    folder.keep_only(set())
    assert not here.has(name, data.nbytes) and second == data, "what is mapped stays"
    here.close()


def test_memory_that_is_gone_names_nothing(folder: shims.Transit) -> None:
    here = Transit(str(folder.path), folder.nonce)
    data = memoryview(np.arange(100_000.0)).cast("B")
    (name,) = here.write([data])
    assert name is not None
    view = here.map(name, data.nbytes)
    del view
    other = mmap.mmap(-1, data.nbytes)  # the system likes to give the same place again
    assert mapped.name_of(memoryview(other)) is None
    here.close()


def test_a_folder_that_is_another_ones(folder: shims.Transit, tmp_path: Path) -> None:
    assert opened("", folder.nonce) is None
    assert opened(str(folder.path), "another word") is None
    assert opened(str(tmp_path / "none"), folder.nonce) is None
    folder.path.chmod(0o755)
    assert opened(str(folder.path), folder.nonce) is None


def test_a_disk_that_is_full(folder: shims.Transit, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    here = Transit(str(folder.path), folder.nonce)
    monkeypatch.setattr(os, "write", full)
    assert here.write([memoryview(b"x" * 100)]) == [None]
    assert [p.name for p in folder.path.iterdir()] == ["word"]
    here.close()


def test_sweeping_leaves_what_is_in_use(folder: shims.Transit) -> None:
    shims.sweep()
    assert folder.path.exists()
