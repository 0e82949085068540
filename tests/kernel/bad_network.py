"""What lies between a person's machine and their gateway: slow, cut, or silent, as the test wants it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any


class Network:
    """Forwards a TCP port to a unix socket. ``latency``: seconds, one way."""

    def __init__(self, socket: str) -> None:
        self.latency = 0.0
        self.connections = 0
        self._socket = socket
        self._open = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._flowing: asyncio.Event
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)
        self._thread.start()
        assert self._open.wait(10)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._port}"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._open.set()
        await self._end.wait()
        server.close()
        self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            there_reader, there_writer = await asyncio.open_unix_connection(self._socket)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there_writer}
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
        for each in (writer, there_writer):
            self._writers.discard(each)
            each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                await self._flowing.wait()
                if not data:
                    writer.transport.abort()
                    return
                writer.write(data)
                await writer.drain()

        delivering = asyncio.ensure_future(deliver())
        try:
            while True:
                data = await reader.read(1 << 16)
                queue.put_nowait((self._loop.time() + self.latency, data))
                if not data:
                    await delivering
                    return
        finally:
            delivering.cancel()

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def cut(self) -> None:
        """All connections end here and now."""
        self._loop.call_soon_threadsafe(self._cut)

    def stall(self) -> None:
        """Nothing moves any more, and nobody is told."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def flow(self) -> None:
        self._loop.call_soon_threadsafe(self._flowing.set)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)


@contextlib.contextmanager
def between(socket: str, patch: Any, token: str) -> Iterator[Network]:
    """Kernels that start inside of the block reach the gateway through it."""
    network = Network(socket)
    patch.setenv("JUPYTER_GPU_GATEWAY", network.url)
    patch.setenv("JUPYTER_GPU_TOKEN", token)
    try:
        yield network
    finally:
        patch.delenv("JUPYTER_GPU_GATEWAY")
        patch.delenv("JUPYTER_GPU_TOKEN")
        network.close()
