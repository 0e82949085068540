"""The client's blocking calls here, the gateway in a process of its own, and workers that the test plays on a loop beside."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))

from played import TOKEN, Running

from jupyter_gpu.client import Gateway
from jupyter_gpu.config import JupyterGPU
from jupyter_gpu.rpc import here
from jupyter_gpu.transport.dial import dial
from jupyter_gpu.transport.driver import LinkDriver
from jupyter_gpu.transport.envelope import notice
from jupyter_gpu.wire.codec import decode, encode
from jupyter_gpu.wire.link import Lane, Link
from jupyter_gpu.wire.messages import PROTOCOL, AnyMessage, Assign, Assigned, KernelHello, Message, Release, WorkerHello

T = TypeVar("T")


class PlayedWorker:
    """A worker whose kernel is the test: what the client said is in ``got``; ``tell`` answers."""

    def __init__(self, beside: Beside, spec: dict[str, Any], versions: Any = None) -> None:
        self.spec, self.beside = spec, beside
        self.versions = versions or here()
        self.got: list[tuple[Lane, AnyMessage]] = []
        self.session_id = ""
        self.released = threading.Event()

    async def run(self) -> None:
        self.driver = LinkDriver(self._dial, Link(), self._taken, self._noticed, give_up=5)
        try:
            await self.driver.run()
        except Exception:
            pass  # the gateway is gone

    async def _dial(self) -> Any:
        connection = await dial(self.spec["url"], "/v1/worker", f"{self.spec['worker_id']}:{self.spec['secret']}")
        fields: dict[str, Any] = {"protocol": PROTOCOL, "worker_id": self.spec["worker_id"], "pid": 1, "kernel_pid": 77}
        await connection.send(notice(WorkerHello(**fields, versions=self.versions, session_id=self.session_id)))
        return connection

    def _noticed(self, message: AnyMessage) -> None:
        if isinstance(message, Assign):
            self.session_id = message.session_id
            self.driver.notify(Assigned(session_id=message.session_id))
            self.driver.send(encode(KernelHello(pid=77, versions=self.versions, cwd="/far")))
        elif isinstance(message, Release):
            self.released.set()

    def _taken(self, lane: Lane, payload: memoryview) -> None:
        self.got.append((lane, decode(payload)[0]))

    def tell(self, message: Message, lane: Lane = Lane.DATA) -> None:
        self.beside.loop.call_soon_threadsafe(self.driver.send, encode(message), lane)


class Beside:
    """A gateway and its workers, on a thread."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.running = Running(folder, simulate="H100")
        self.workers: list[PlayedWorker] = []
        self.versions: Any = None  #: of the workers from here on
        self.serving: Any = None

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def start(self) -> None:
        self.do(self.running.start())
        self.serve()

    def serve(self) -> None:
        self.serving = asyncio.run_coroutine_threadsafe(self._serve(), self.loop)

    async def _serve(self) -> None:
        """A worker for each start, from here on."""
        seen = sum(1 for e in self.running.events if e["event"] == "start")
        while True:
            starts = [e for e in self.running.events if e["event"] == "start"]
            for spec in starts[seen:]:
                worker = PlayedWorker(self, spec, self.versions)
                self.workers.append(worker)
                asyncio.ensure_future(worker.run())
            seen = len(starts)
            await asyncio.sleep(0.005)

    def config(self) -> JupyterGPU:
        return JupyterGPU(gateway=self.running.url, token=TOKEN)

    async def _end(self) -> None:
        await self.running.__aexit__()
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        self.do(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def beside() -> Iterator[Beside]:
    folder = Path(tempfile.mkdtemp(prefix="jg-"))
    found = Beside(folder)
    found.start()
    yield found
    found.close()
    shutil.rmtree(folder)


@pytest.fixture
def client(beside: Beside) -> Iterator[Gateway]:
    found = Gateway.connect(beside.config())
    yield found
    found.close()
