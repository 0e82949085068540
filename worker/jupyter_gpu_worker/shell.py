"""The shell of the kernel: ipykernel's own, whose awaiting cells are interrupted as all others are."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import wraps
from types import FrameType
from typing import Any, Literal

from ipykernel import zmqshell


class Interruptible(Coroutine[Any, Any, Any]):
    """A coroutine in which ``KeyboardInterrupt`` arrives once ``interrupted`` is set: with its next step, or, if it waits for something
    that takes long, with the cancellation by ``cancel``."""

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner
        self.interrupted = False

    def __await__(self) -> Any:
        return self._inner.__await__()

    def send(self, value: Any) -> Any:
        if self.interrupted:  # it was about to go on: it may never come back to the loop, which would have cancelled it
            self.interrupted = False
            return self._inner.throw(KeyboardInterrupt())
        return self._inner.send(value)

    def cancel(self, task: asyncio.Future[Any]) -> None:
        """Cancel the task that runs this, unless the interrupt has arrived already."""
        if self.interrupted:
            task.cancel()

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any:
        error = kind if isinstance(kind, BaseException) else value if isinstance(value, BaseException) else kind()
        if self.interrupted and isinstance(error, asyncio.CancelledError):
            self.interrupted = False
            error = KeyboardInterrupt()
        return self._inner.throw(error)

    def close(self) -> None:
        self._inner.close()


_STEPS = (Interruptible.send.__code__, Interruptible.throw.__code__, Interruptible.cancel.__code__)


def place_of(frame: FrameType | None) -> Literal["code", "entering", "loop"]:
    """Where the main thread is: in code that the event loop called, just going into or out of a cell's coroutine, or in the loop itself
    (which includes what a task does between the steps of its coroutine)."""
    entering = False
    while frame is not None and frame.f_code is not asyncio.Handle._run.__code__:
        if frame.f_code in _STEPS:
            entering = True
        elif frame.f_globals.get("__name__", "").partition(".")[0] not in ("asyncio", "selectors"):
            return "code"
        elif frame.f_code is asyncio.BaseEventLoop.run_forever.__code__:
            break
        frame = frame.f_back
    return "entering" if entering else "loop"


class ZMQInteractiveShell(zmqshell.ZMQInteractiveShell):  # type: ignore[misc]
    """Named as ipykernel's is: libraries tell by that name that they are in a notebook."""

    running: Interruptible | None = None  #: the cell that was started last

    @wraps(zmqshell.ZMQInteractiveShell.run_cell_async)  # ipykernel looks at its signature, which is another in IPython 8
    def run_cell_async(self, *args: Any, **kwargs: Any) -> Interruptible:
        self.running = Interruptible(super().run_cell_async(*args, **kwargs))
        return self.running
