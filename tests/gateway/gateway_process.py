"""A real gateway whose workers are played by the test: ``gateway_process.py FOLDER URL TOKEN OPTIONS_AS_JSON``.

What the backend is asked to do is printed, one JSON object per line. A file ``ended-WORKER_ID`` in the folder says that a worker's
process is gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from jupyter_gpu_gateway import app, rpc
from jupyter_gpu_gateway.app import Gateway
from jupyter_gpu_gateway.backends.base import Backend, Checkpoint, WorkerSpec
from jupyter_gpu_gateway.serve import stop_on_signals

from jupyter_gpu.wire.errors import WorkerStartFailed


def say(**event: Any) -> None:
    print(json.dumps(event), flush=True)


class PlayedBackend(Backend):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def start(self, spec: WorkerSpec) -> AsyncIterator[Checkpoint]:
        if (self._folder / "no-more-workers").exists():
            raise WorkerStartFailed(phase="fork", reason="no more workers", log="")
        yield {"pid": 0, "started": spec.worker_id}
        say(event="start", worker_id=spec.worker_id, secret=spec.secret, url=spec.url, env=spec.env)

    async def stop(self, checkpoint: Checkpoint) -> None:
        (self._folder / f"ended-{checkpoint['started']}").touch()
        say(event="stop", worker_id=checkpoint["started"])

    async def check(self, checkpoints: list[Checkpoint]) -> list[bool]:
        return [bool(c["started"]) and not (self._folder / f"ended-{c['started']}").exists() for c in checkpoints]

    async def close(self) -> None:
        say(event="closed")


async def main() -> None:
    folder, url, token, options = Path(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("websockets").setLevel(logging.ERROR)  # as serve.py does
    if "protocol" in options:
        app.PROTOCOL = rpc.PROTOCOL = options.pop("protocol")  # of another release
    if "shared_cache" in options:
        options["shared_cache"] = Path(options["shared_cache"])
    stop = asyncio.Event()
    stop_on_signals(stop)
    gateway = Gateway(url, token, folder, **options)
    gateway._make_backend = lambda on_exit: PlayedBackend(folder)  # type: ignore[assignment,return-value]
    await gateway.run(lambda listening: say(event="ready", url=listening), stop)


asyncio.run(main())
