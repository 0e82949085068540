"""A relay of websocket messages, and a peer behind it that keeps what it gets: what the in-band pickles are moved by."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Any


async def relay() -> None:
    """Prints its address; forwards between the first two connections."""
    from websockets.asyncio.server import serve
    from websockets.exceptions import ConnectionClosed

    ends: list[Any] = []
    both = asyncio.Event()

    async def handle(socket: Any) -> None:
        ends.append(socket)
        if len(ends) == 2:
            both.set()
        await both.wait()
        other = ends[1] if ends[0] is socket else ends[0]
        with suppress(ConnectionClosed):
            async for message in socket:
                await other.send(message)

    async with serve(handle, "127.0.0.1", 0, max_size=None, compression=None, ping_interval=None) as server:
        print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await asyncio.get_running_loop().create_future()


def peer(url: str, module: str) -> None:
    from websockets.sync.client import connect

    pickler = __import__(module)
    held: Any = None
    with connect(url, max_size=None, compression=None, ping_interval=None) as socket:
        for message in socket:
            assert isinstance(message, bytes)
            if message[:1] == b"+":
                held = pickler.loads(memoryview(message)[1:])
                socket.send(b"ok")
            elif message == b"-":
                socket.send(pickler.dumps(held, 5))
            else:
                held = None
                socket.send(b"ok")


if __name__ == "__main__":
    if sys.argv[1] == "relay":
        asyncio.run(relay())
    else:
        peer(*sys.argv[2:])
