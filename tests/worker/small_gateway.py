"""A gateway of 100 lines that is the client as well: workers dial in, and a test talks to their kernels over the link."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from client_end import DEADLINE, ClientEnd
from websockets.asyncio.server import Server, ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed

from jupyter_gpu.transport.envelope import SUBPROTOCOL, WEBSOCKET_OPTIONS, frame, notice, open_envelope
from jupyter_gpu.wire.codec import encode
from jupyter_gpu.wire.link import Lane, Link
from jupyter_gpu.wire.messages import AnyMessage, Assign, Interrupt, Message, PeerAttached, Release, WorkerHello
from jupyter_gpu.wire.spool import Spool


class Worker(ClientEnd):
    """A worker that dialled in, seen from the client. All that touches the link runs on the gateway's loop."""

    def __init__(self, gateway: SmallGateway, hello: WorkerHello) -> None:
        super().__init__(lambda parts: self.put(parts), self._take)
        self.gateway = gateway
        self.hello = hello
        self.hellos = [hello]
        self.link = Link(spool=Spool())
        self.connection: ServerConnection | None = None
        self.payloads: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self.control: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self.notices: queue.SimpleQueue[AnyMessage] = queue.SimpleQueue()
        self.reading = asyncio.Event()  #: cleared: the client does not read
        self.reading.set()

    def put(self, parts: list[Any], lane: Lane = Lane.DATA) -> None:
        async def on_loop() -> None:
            self.link.send(parts, lane)
            await self.flush()

        self.gateway.call(on_loop())

    def interrupt(self, **fields: Any) -> None:
        self.put(encode(Interrupt(**fields)), Lane.CONTROL)

    def tell(self, message: Message) -> None:
        assert self.connection is not None
        self.gateway.call(self.connection.send(notice(message)))

    def release(self, kill: bool = False) -> None:
        self.tell(Release(kill=kill))

    def notice(self, kind: type[Message], timeout: float = DEADLINE) -> Any:
        while True:
            message = self.notices.get(timeout=timeout)
            if isinstance(message, kind):
                return message

    def _take(self, timeout: float) -> memoryview | None:
        try:
            return self.payloads.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return None

    async def flush(self) -> None:
        if self.connection is not None:
            with contextlib.suppress(ConnectionClosed):
                for parts in self.link.frames():
                    await self.connection.send(frame(parts))

    async def serve(self, connection: ServerConnection) -> None:
        self.connection = connection
        await connection.send(notice(PeerAttached()))
        self.link.attached()
        await self.flush()
        try:
            async for data in connection:
                await self.reading.wait()
                found = open_envelope(data)
                if isinstance(found, memoryview):
                    for lane, payload in self.link.receive(found):
                        (self.payloads if lane == Lane.DATA else self.control).put(payload)
                    self.link.acknowledge()
                    await self.flush()
                else:
                    self.notices.put(found)
        finally:
            if self.connection is connection:
                self.connection = None
                self.link.detached()


class SmallGateway:
    """Listens on a unix socket; ``stop`` and ``start`` again is a restart."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "gw")
        self.url = f"unix://{self.path}"
        self.workers: dict[str, Worker] = {}
        self.tokens: list[str] = []
        self.arrived: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self.assign = True
        self.env: dict[str, str] = {}
        self.cwd = ""
        self._server: Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE)

    def start(self) -> None:
        async def on_loop() -> Server:
            return await unix_serve(self._handle, self.path, subprotocols=[SUBPROTOCOL], **WEBSOCKET_OPTIONS)

        self._server = self.call(on_loop())

    def stop(self) -> None:
        async def on_loop(server: Server) -> None:
            server.close()
            await server.wait_closed()

        if self._server is not None:
            self.call(on_loop(self._server))
            self._server = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()

    def next(self, timeout: float = DEADLINE) -> Worker:
        return self.arrived.get(timeout=timeout)

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None and connection.request.path == "/v1/worker"
        self.tokens.append(connection.request.headers["Authorization"].removeprefix("Bearer "))
        hello = open_envelope(await connection.recv())
        assert isinstance(hello, WorkerHello)
        worker = self.workers.get(hello.worker_id)
        if worker is None:
            worker = self.workers[hello.worker_id] = Worker(self, hello)
            if self.assign:
                await connection.send(notice(Assign(session_id=f"s-{hello.worker_id}", env=self.env, cwd=self.cwd)))
        else:
            worker.hellos.append(hello)
        self.arrived.put(worker)
        await worker.serve(connection)


class ZygoteProcess:
    """The real thing: ``python -m jupyter_gpu_worker.zygote``."""

    def __init__(self, log: Path) -> None:
        env = {k: v for k, v in os.environ.items() if k not in {"MPLBACKEND", "PYTEST_CURRENT_TEST"}}
        self.log = log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyter_gpu_worker.zygote"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, env=env
            )
        self._buffer = b""
        self._events: list[dict[str, Any]] = []  #: that nobody asked for yet

    def say(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def fork(self, gateway: SmallGateway, worker_id: str = "", lease: float = 30.0) -> int:
        worker_id = worker_id or uuid.uuid4().hex
        self.say(op="fork", worker_id=worker_id, secret="s3cret", url=gateway.url, env={}, lease=lease)
        event = self.event("forked", "failed", worker_id=worker_id)
        assert event["event"] == "forked", event
        return int(event["pid"])

    def exited(self, worker: Worker) -> dict[str, Any]:
        return self.event("exited", worker_id=worker.hello.worker_id)

    def event(self, *kinds: str, worker_id: str = "", timeout: float = 60.0) -> dict[str, Any]:
        """The first event of one of these kinds that nobody has had; others are kept."""
        assert self.process.stdout is not None
        end = time.monotonic() + timeout
        while True:
            for event in self._events:
                if event["event"] in kinds and worker_id in ("", event.get("worker_id")):
                    self._events.remove(event)
                    return event
            left = max(0.0, end - time.monotonic())
            assert select.select([self.process.stdout], [], [], left)[0], f"no {kinds} within {timeout} s: {self.log.read_text()}"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"the zygote ended: {self.log.read_text()}"
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            self._events += [json.loads(line) for line in lines]

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait(DEADLINE)
        self.process.stdout.close()
