"""The operator's folder for what sessions share: who is told of it, and why not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from jupyter_gpu_gateway.environment import without_private
from jupyter_gpu_gateway.shared_cache import prepare
from played import Running, go

from jupyter_gpu.wire.messages import Assign, Opened, OpenSession, Wanted

FOLDER, SIZE = "JUPYTER_GPU_SHARED_CACHE", "JUPYTER_GPU_SHARED_CACHE_SIZE"


def test_no_folder_nothing_to_tell() -> None:
    assert prepare(None, 5) == ({}, "")


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = os.umask(0)
    try:
        assert prepare(Path("new/cache"), 5) == ({FOLDER: f"{tmp_path}/new/cache", SIZE: "5"}, "")
    finally:
        os.umask(before)
    assert (tmp_path / "new/cache").stat().st_mode & 0o777 == 0o700 and os.listdir(tmp_path / "new/cache") == []


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("a file", "File exists"),
        ("below a file", "Not a directory"),
        ("a link", "it is no folder"),
        ("others write", "other users may open it (mode 0777); `chmod 700` makes it usable"),
        ("others read", "other users may open it (mode 0750); `chmod 700` makes it usable"),
        ("another's", "it belongs to another user"),
        ("nowhere", "No such file or directory"),
    ],
)
def test_why_a_folder_cannot_be_used(tmp_path: Path, how: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    if how == "a file":
        folder.touch()
    elif how == "below a file":
        (tmp_path / "file").touch()
        folder = tmp_path / "file/cache"
    elif how == "a link":
        (tmp_path / "real").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "real")
    elif how == "others write":
        folder.mkdir()
        folder.chmod(0o777)
    elif how == "others read":
        folder.mkdir()
        folder.chmod(0o750)
    elif how == "another's":
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    else:
        folder = Path("/proc/cache")  # nobody can make one there
        if not folder.parent.is_dir():
            pytest.skip("there is no /proc")
    env, why = prepare(folder, 5)
    assert (env, why) == ({}, f"Sessions share nothing, since the shared cache {folder} cannot be used: {words}.")


def test_only_the_gateway_tells_workers_of_it(folder: Path) -> None:
    """Not the environment in which it was started, and not a client."""
    assert without_private({FOLDER: "/x", SIZE: "5", "JUPYTER_GPU_TOKEN": "t", "HOME": "/h"}) == {"HOME": "/h"}

    async def test() -> None:
        async with Running(folder, shared_cache_size=7) as plain:
            rpc = await plain.rpc()
            wanted = [Wanted(type="CPU")]
            await rpc.ask(lambda i: OpenSession(id=i, key="k", wanted=wanted, env={FOLDER: "/x", SIZE: "5", "MINE": "1"}), Opened)
            spec = await plain.event("start")
            assert spec["env"] == {}
            env = (await (await plain.worker(spec)).hears(Assign)).env
            assert env["MINE"] == "1" and FOLDER not in env and SIZE not in env
        async with Running(folder, shared_cache=str(folder / "cache"), shared_cache_size=7) as sharing:
            await (await sharing.rpc()).open("another")
            assert (await sharing.event("start"))["env"] == {FOLDER: str(folder / "cache"), SIZE: "7"}

    go(test())
