from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from jupyter_gpu_gateway.backends.base import WorkerSpec
from jupyter_gpu_gateway.backends.process import ProcessBackend, _start_time
from played import go, until

from jupyter_gpu.wire.errors import WorkerStartFailed


def spec(url: str, interpreter: str = "", lease: float = 60.0) -> WorkerSpec:
    return WorkerSpec("w-1", "secret", url, interpreter, lease)


def backend(folder: Path, on_exit: Callable[[str, int], None] = lambda worker_id, code: None) -> ProcessBackend:
    return ProcessBackend(folder, [], on_exit)


def unreachable(folder: Path) -> str:
    return f"unix://{folder}/nobody.sock"


@pytest.fixture
def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_from_start_to_stop(folder: Path) -> None:
    async def test() -> None:
        exits: list[tuple[str, int]] = []
        found = backend(folder, lambda worker_id, code: exits.append((worker_id, code)))
        try:
            (checkpoint,) = [c async for c in found.start(spec(unreachable(folder)))]
            pid = checkpoint["pid"]
            assert checkpoint["started"] == _start_time(pid) != ""
            assert await found.check([checkpoint]) == [True]
            kernels = psutil.Process(pid).children(recursive=True)
            await found.stop(checkpoint)
            assert await found.check([checkpoint]) == [False]
            await until(lambda: bool(exits), "the zygote reports the end")
            assert exits[0][0] == "w-1"
            await until(lambda: not any(k.is_running() for k in kernels), "the kernel ends with its agent")
            await found.stop(checkpoint)  # again
        finally:
            zygotes = [z.process.pid for z in found._zygotes.values()]
            await found.close()
        assert zygotes and not any(psutil.pid_exists(z) for z in zygotes)

    go(test())


def test_a_second_start_uses_the_same_zygote(folder: Path) -> None:
    async def test() -> None:
        found = backend(folder)
        try:
            first = [c async for c in found.start(spec(unreachable(folder)))]
            zygote = found._zygotes[sys.executable].process.pid
            second = [c async for c in found.start(WorkerSpec("w-2", "secret", unreachable(folder)))]
            assert found._zygotes[sys.executable].process.pid == zygote
            found._zygotes[sys.executable].process.kill()  # and when it is dead, another
            await until(lambda: not found._zygotes[sys.executable].alive, "the zygote's end")
            third = [c async for c in found.start(WorkerSpec("w-3", "secret", unreachable(folder)))]
            assert found._zygotes[sys.executable].process.pid != zygote
            for checkpoint in first + second + third:
                await found.stop(checkpoint)
            await until(lambda: not any(psutil.pid_exists(c["pid"]) for c in third), "reaped")
        finally:
            await found.close()

    go(test())


def test_a_pid_that_is_somebody_elses_by_now_is_not_killed(folder: Path, sleeper: subprocess.Popen[bytes]) -> None:
    async def test() -> None:
        found = backend(folder)
        mine = {"pid": sleeper.pid, "started": _start_time(sleeper.pid)}
        theirs = {"pid": sleeper.pid, "started": str(int(mine["started"]) - 1)}  # type: ignore[call-overload]
        nobody = {"pid": 0, "started": ""}
        assert await found.check([mine, theirs, nobody]) == [True, False, False]
        for checkpoint in (theirs, nobody, {"pid": sleeper.pid, "started": ""}):
            await found.stop(checkpoint)
        assert sleeper.poll() is None
        await found.stop(mine)
        assert await found.check([mine]) == [False], "a zombie is not alive"
        assert sleeper.wait(5) == -15

    go(test())


def test_one_that_does_not_heed_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    deaf = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert deaf.stdout is not None and deaf.stdout.readline()
    monkeypatch.setattr("jupyter_gpu_gateway.backends.process._GRACE", 0.2)

    async def test() -> None:
        await backend(folder).stop({"pid": deaf.pid, "started": _start_time(deaf.pid)})

    go(test())
    assert deaf.wait(5) == -9
    deaf.stdout.close()


def test_an_interpreter_that_does_not_exist(folder: Path) -> None:
    async def test() -> None:
        with pytest.raises(WorkerStartFailed, match="No such file"):
            async for _ in backend(folder).start(spec(unreachable(folder), interpreter=str(folder / "no-python"))):
                raise AssertionError

    go(test())


def test_an_interpreter_that_lacks_us_says_so_in_the_log(folder: Path) -> None:
    """What a zygote said last is in the error."""
    bare = folder / "bare-python"
    bare.write_text("#!/bin/sh\necho No module named jupyter_gpu_worker >&2\nexit 1\n")
    bare.chmod(0o700)

    async def test() -> None:
        found = backend(folder)
        with pytest.raises(WorkerStartFailed) as caught:
            async for _ in found.start(spec(unreachable(folder), interpreter=str(bare))):
                raise AssertionError
        assert "No module named jupyter_gpu_worker" in caught.value.log
        await found.close()

    go(test())


def test_a_zygote_that_talks_nonsense(folder: Path) -> None:
    odd = folder / "odd-python"
    odd.write_text(
        '#!/bin/sh\necho nonsense\necho 7\necho \'{}\'\nread line\necho \'{"event": "failed", "worker_id": "w-1", "reason": "not today"}\'\ncat\n'
    )
    odd.chmod(0o700)

    async def test() -> None:
        found = backend(folder)
        with pytest.raises(WorkerStartFailed, match="not today"):
            async for _ in found.start(spec(unreachable(folder), interpreter=str(odd))):
                raise AssertionError
        await found.close()

    go(test())


def test_the_gateways_token_is_no_business_of_cells(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_GPU_TOKEN", "secret of the gateway")

    async def test() -> None:
        found = backend(folder)
        try:
            (checkpoint,) = [c async for c in found.start(spec(unreachable(folder)))]
            assert "JUPYTER_GPU_TOKEN" not in psutil.Process(checkpoint["pid"]).environ()
            await found.stop(checkpoint)
        finally:
            await found.close()

    go(test())


def test_a_zygote_that_was_never_used_ends_too(folder: Path) -> None:
    async def test() -> None:
        unused = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        await ProcessBackend(folder, [], lambda worker_id, code: None, unused).close()
        assert unused.poll() == -9
        for pipe in (unused.stdin, unused.stdout):
            assert pipe is not None
            pipe.close()

    go(test())


def test_start_time_of_nobody() -> None:
    assert _start_time(0) == "" and _start_time(os.getpid()) != ""
    assert asyncio.run(backend(Path()).check([])) == []
