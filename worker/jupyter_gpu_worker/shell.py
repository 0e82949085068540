"""The shell of the kernel: ipykernel's own, whose awaiting cells are interrupted as all others are."""

from __future__ import annotations

import asyncio
import sys
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
    #: Whether the failure of a cell is told by its reply alone, and shown by whoever gets that: a client that raises it anew.
    told_by_reply = False
    #: (name, text) of the exception that showing a cell's result raised: ipykernel's reply has its traceback alone.
    display_failure: tuple[str, str] | None = None
    _cells = 0  # those that run, one within the other
    _codes = 0  # of these, how many have got as far as the person's code
    _own = False  # what is shown now is the failure of the cell itself

    @wraps(zmqshell.ZMQInteractiveShell.run_cell_async)  # ipykernel looks at its signature, which is another in IPython 8
    def run_cell_async(self, *args: Any, **kwargs: Any) -> Interruptible:
        self.running = Interruptible(self._counted(super().run_cell_async(*args, **kwargs)))
        return self.running

    async def _counted(self, cell: Coroutine[Any, Any, Any]) -> Any:
        self._cells += 1
        try:
            return await cell
        finally:
            self._cells -= 1

    async def run_code(self, *args: Any, **kwargs: Any) -> Any:
        self._codes += 1
        try:
            return await super().run_code(*args, **kwargs)
        finally:
            self._codes -= 1

    def showtraceback(self, *args: Any, running_compiled_code: bool = False, **kwargs: Any) -> None:
        before, self._own = self._own, running_compiled_code and self._cells == 1
        try:
            super().showtraceback(*args, running_compiled_code=running_compiled_code, **kwargs)
        finally:
            self._own = before

    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
        """What a cell shows and goes on is sent; its own failure (in its code, before it, or in what it displays) is in the reply."""
        before_code = self._cells == 1 and not self._codes
        displaying = self._cells == 1 and getattr(self.displayhook, "msg", None) is not None
        if not self.told_by_reply or not (self._own or before_code or displaying):
            super()._showtraceback(etype, evalue, stb)
            return
        sys.stdout.flush()
        sys.stderr.flush()
        if displaying:
            self._last_traceback_during_displayhook = True
            self.display_failure = etype.__name__, str(evalue)
        self._last_traceback = stb
