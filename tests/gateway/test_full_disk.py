"""A disk that is full: words that say so, and everything else goes on. A small tmpfs plays the disk."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_gpu_gateway.store import Store
from notebook_driver import Notebook, descendants_in, end_gateways
from played import Running, go
from test_bad_input import clear  # type: ignore[import-not-found]

from jupyter_gpu.wire.errors import DiskFull
from jupyter_gpu.wire.messages import SessionState


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    found = folder / "disk"
    found.mkdir(mode=0o700)
    if (
        os.getuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", found], capture_output=True).returncode
    ):
        pytest.skip("mounting a small disk takes root")
    yield found
    subprocess.run(["umount", "-l", found], check=True)


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with open(ballast, "ab", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC
                return ballast


def test_a_store_that_cannot_even_be_made(disk: Path) -> None:
    fill(disk)
    with pytest.raises(DiskFull, match=str(disk)) as caught:
        Store(disk / "gateway.sqlite")
    assert "Free some space" in caught.value.hint


def test_a_gateway_whose_disk_is_full_says_so_and_recovers(disk: Path) -> None:
    async def test() -> None:
        async with Running(disk) as gateway:
            rpc = await gateway.rpc()
            session, _, _ = await gateway.ready(rpc, "kept")
            ballast = fill(disk)
            info = await rpc.open("another")
            over = await rpc.reaches(info.session_id, SessionState.ENDED)
            assert over.error is not None and over.error.code == DiskFull.code, over
            assert set(await rpc.sessions()) == {session}, "the one that was there goes on"
            ballast.unlink()
            await gateway.ready(rpc, "a third one")

    go(test())


@pytest.fixture
def env(folder: Path) -> Iterator[dict[str, str]]:
    """A person's environment. Nothing of it may go on running."""
    runtime = folder / "disk" / "rt"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER_", "JPY_"))}
    env |= {"HOME": str(folder), "JUPYTER_RUNTIME_DIR": str(runtime), "JUPYTER_GPU_SIMULATE": "H100", "IPYTHONDIR": str(folder / "ipython")}
    yield env
    end_gateways(runtime)


def test_a_notebook_whose_runtime_folder_is_full(folder: Path, disk: Path, env: dict[str, str]) -> None:
    runtime = disk / "rt"
    runtime.mkdir(mode=0o700)
    ballast = fill(disk)
    book = Notebook(env, folder)
    try:
        book.ok("kept = [1]")
        text = clear(book.run("%%remote gpu=H100\nkept.append(2)"), "could not be written", str(runtime), "free some space")
        assert "0 bytes" not in text
        assert book.value("kept") == "[1]"
        gateways = [p for p in descendants_in(runtime) if "jupyter_gpu" in " ".join(p.cmdline())]
        assert not gateways, "nothing half started is left"
        ballast.unlink()
        book.ok("%%remote gpu=H100\nkept.append(2)")
        assert book.value("kept") == "[1, 2]"
    finally:
        book.close()


def test_a_worker_that_cannot_keep_the_sources(folder: Path, disk: Path, env: dict[str, str]) -> None:
    """The person's own module goes along as a file."""
    (folder / "helper.py").write_text("class Thing:\n    x = 1\n" + "# a long comment\n" * 20_000)
    env |= {"TMPDIR": str(disk), "JUPYTER_RUNTIME_DIR": str(folder / "rt")}
    (folder / "rt").mkdir(mode=0o700)
    book = Notebook(env, folder)
    try:
        book.ok("%%remote gpu=H100\npass")
        ballast = fill(disk)
        book.ok("import helper; thing = helper.Thing(); kept = [1]")
        clear(book.run("%%remote gpu=H100\nkept.append(thing.x)"), "could not be written", "space")
        assert book.value("kept") == "[1]"
        ballast.unlink()
        assert book.ok("%%remote gpu=H100\nprint(thing.x)").text() == "1\n"
    finally:
        book.close()
        end_gateways(folder / "rt")
