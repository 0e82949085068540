"""What any websocket client does: the gateway must serve the ``websockets`` library as it serves our own connections."""

from __future__ import annotations

from websockets.asyncio.client import ClientConnection

from jupyter_gpu.transport.address import parse
from jupyter_gpu.transport.dial import explain
from jupyter_gpu.transport.plain import open_plain


async def dial(url: str, path: str, token: str) -> ClientConnection:
    address = parse(url)
    try:
        return (await open_plain(address, path, token, 10)).inner
    except Exception as error:
        raise explain(error, address, path, 10) from error
