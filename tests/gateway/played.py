"""Both sides of a gateway, played by the test: clients and workers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from plain_client import dial
from websockets.asyncio.client import ClientConnection

from jupyter_gpu.transport.envelope import FRAME, notice, open_envelope
from jupyter_gpu.wire.codec import decode, encode
from jupyter_gpu.wire.messages import (
    PROTOCOL,
    AnyMessage,
    Assign,
    Assigned,
    Failed,
    Hello,
    ListSessions,
    Message,
    Opened,
    OpenSession,
    SessionChanged,
    SessionInfo,
    Sessions,
    SessionState,
    Versions,
    Wanted,
    Welcome,
    WorkerHello,
)

VERSIONS = Versions(software="test", python="3.11.7", cloudpickle="3.1")
TOKEN = "the-token-of-this-test"
USABLE = (SessionState.READY, SessionState.BUSY, SessionState.IDLE)
T = TypeVar("T")


def go(test: Coroutine[Any, Any, None], seconds: float = 40) -> None:
    asyncio.run(asyncio.wait_for(test, seconds))


async def until(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, f"not within {seconds:g} seconds: {what}"
        await asyncio.sleep(0.01)


class Rpc:
    """A client's RPC websocket. ``changes``: what was pushed."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.changes: list[SessionChanged] = []
        self._id = 0

    async def send(self, message: Message) -> None:
        await self.socket.send(b"".join(encode(message)))

    async def next(self) -> AnyMessage:
        data = await self.socket.recv()
        assert isinstance(data, bytes)
        return decode(data)[0]

    async def ask(self, make: Callable[[int], Message], kind: type[T]) -> T:
        self._id += 1
        await self.send(make(self._id))
        while True:
            answer = await self.next()
            if isinstance(answer, SessionChanged):
                self.changes.append(answer)
                continue
            assert isinstance(answer, kind), answer
            return answer

    async def open(self, key: str, wanted: str = "CPU") -> SessionInfo:
        return (await self.ask(lambda i: OpenSession(id=i, key=key, wanted=[Wanted(type=wanted)]), Opened)).session

    async def refused(self, make: Callable[[int], Message]) -> str:
        """The code of the error."""
        return (await self.ask(make, Failed)).error.code

    async def sessions(self) -> dict[str, SessionInfo]:
        return {s.session_id: s for s in (await self.ask(lambda i: ListSessions(id=i), Sessions)).sessions}

    async def reaches(self, session_id: str, *states: SessionState) -> SessionChanged:
        """Wait until this is pushed."""
        while True:
            for change in self.changes:
                if change.session.session_id == session_id and change.session.state in states:
                    return change
            message = await self.next()
            assert isinstance(message, SessionChanged), message
            self.changes.append(message)


class End:
    """One end of a link: a worker's websocket or a client's."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, message: Message) -> None:
        await self.socket.send(notice(message))

    async def hears(self, kind: type[T]) -> T:
        """The next message, a notice of this kind."""
        found = open_envelope(await self.socket.recv())
        assert isinstance(found, kind), found
        return found

    async def frame(self, data: bytes) -> None:
        await self.socket.send(FRAME + data)

    async def hears_frame(self) -> bytes:
        """The next frame; notices before it are skipped."""
        while True:
            found = open_envelope(await self.socket.recv())
            if isinstance(found, memoryview):
                return bytes(found)

    async def closed(self) -> int:
        """Wait until the gateway closes it; the code."""
        await self.socket.wait_closed()
        assert self.socket.close_code is not None
        return self.socket.close_code


class Running:
    """A gateway in a process of its own, with workers that the test plays: ``async with Running(folder) as gateway``."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.url = f"unix://{folder / 'gateway.sock'}"
        self.options = {"standby": 0, "alone": 0.0, **options}
        self.events: list[dict[str, Any]] = []
        self._taken = 0

    async def __aenter__(self) -> Running:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading

    async def start(self) -> None:
        command = [sys.executable, str(Path(__file__).parent / "gateway_process.py"), str(self.folder), self.url, TOKEN]
        log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self.process = await asyncio.create_subprocess_exec(
                *command, json.dumps(self.options), stdout=asyncio.subprocess.PIPE, stderr=log
            )
        finally:
            os.close(log)
        self._reading = asyncio.ensure_future(self._read())
        await self.event("ready")

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.events.append(json.loads(line))

    async def event(self, kind: str) -> dict[str, Any]:
        """The next one of this kind."""

        def find() -> int:
            return next((n for n, e in enumerate(self.events) if n >= self._taken and e["event"] == kind), -1)

        await until(lambda: find() >= 0 or self._reading.done(), f"{kind}; {(self.folder / 'log').read_text()[-2000:]}")
        assert find() >= 0, (self.folder / "log").read_text()[-2000:]
        self._taken = find() + 1
        return self.events[self._taken - 1]

    async def killed(self) -> None:
        """kill -9, and started again."""
        self.process.kill()
        await self.process.wait()
        await self._reading
        await self.start()

    async def rpc(self) -> Rpc:
        rpc = Rpc(await dial(self.url, "/v1/rpc", TOKEN))
        await rpc.send(Hello(protocol=PROTOCOL, versions=VERSIONS))
        assert isinstance(await rpc.next(), Welcome)
        return rpc

    async def worker(self, spec: dict[str, Any], session_id: str = "", **more: Any) -> End:
        """The worker of this start, dialled in. ``more``: other fields of its WorkerHello."""
        end = End(await dial(spec["url"], "/v1/worker", f"{spec['worker_id']}:{spec['secret']}"))
        known = {"protocol": PROTOCOL, "pid": 1, "kernel_pid": 77, "versions": VERSIONS}
        await end.say(WorkerHello(**{**known, "worker_id": spec["worker_id"], "session_id": session_id, **more}))
        return end

    async def link(self, session_id: str) -> End:
        return End(await dial(self.url, f"/v1/sessions/{session_id}/link", TOKEN))

    async def ready(self, rpc: Rpc, key: str = "a notebook", wanted: str = "CPU") -> tuple[str, End, dict[str, Any]]:
        """A session that can be used: its id, its worker, and what that was started with."""
        info = await rpc.open(key, wanted)
        spec = await self.event("start")
        worker = await self.worker(spec)
        assert (await worker.hears(Assign)).session_id == info.session_id
        await worker.say(Assigned(session_id=info.session_id))
        await rpc.reaches(info.session_id, *USABLE)
        return info.session_id, worker, spec

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    async def logged(self, *words: str) -> str:
        """The first line of the log that has all of these words."""

        def find() -> str:
            return next((line for line in self.log.splitlines() if all(w.lower() in line.lower() for w in words)), "")

        await until(lambda: bool(find()), f"{words} in the log:\n{self.log[-2000:]}")
        return find()

    async def http(self, path: str, *headers: str) -> tuple[int, str]:
        """Status and body of an attempt to open a websocket."""
        reader, writer = await asyncio.open_unix_connection(self.url.removeprefix("unix://"))
        upgrade = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", *upgrade, *headers, "", ""]
        writer.write("\r\n".join(lines).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split()[1])
        body = "" if status == 101 else (await reader.read()).decode()
        writer.close()
        return status, head + body
