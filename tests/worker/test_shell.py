"""An interrupt of a cell that awaits arrives once, whichever way the cell goes on."""

from __future__ import annotations

import asyncio

import pytest
from jupyter_gpu_worker.shell import Interruptible


async def cell(told: list[str], wait: float) -> str:
    try:
        await asyncio.sleep(wait)
    except BaseException as error:
        told.append(type(error).__name__)
    await asyncio.sleep(0)
    return "went on"


@pytest.mark.parametrize("wait", [0, 60], ids=["about to go on", "waits for long"])
def test_an_interrupt_between_two_steps(wait: float) -> None:
    """As the handler of SIGINT does it when the loop waits, or is about to step the cell."""
    told: list[str] = []

    async def main() -> str:
        running = Interruptible(cell(told, wait))
        task: asyncio.Future[str] = asyncio.ensure_future(running)
        await asyncio.sleep(0)  # the cell has begun; with wait=0 it is the next to run
        running.interrupted = True
        asyncio.get_running_loop().call_soon(running.cancel, task)
        return await asyncio.wait_for(task, 5)

    assert asyncio.run(main()) == "went on"
    assert told == ["KeyboardInterrupt"]
