"""The shell of the kernel: ipykernel's own, whose awaiting cells are interrupted as all others are."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ipykernel import zmqshell


class Interruptible(Coroutine[Any, Any, Any]):
    """A coroutine in which a cancellation arrives as ``KeyboardInterrupt`` once ``interrupted`` is set."""

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner
        self.interrupted = False

    def __await__(self) -> Any:
        return self._inner.__await__()

    def send(self, value: Any) -> Any:
        return self._inner.send(value)

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any:
        error = kind if isinstance(kind, BaseException) else value if isinstance(value, BaseException) else kind()
        if self.interrupted and isinstance(error, asyncio.CancelledError):
            self.interrupted = False
            error = KeyboardInterrupt()
        return self._inner.throw(error)

    def close(self) -> None:
        self._inner.close()


class ZMQInteractiveShell(zmqshell.ZMQInteractiveShell):  # type: ignore[misc]
    """Named as ipykernel's is: libraries tell by that name that they are in a notebook."""

    running: Interruptible | None = None  #: the cell that was started last

    def run_cell_async(self, *args: Any, **kwargs: Any) -> Interruptible:
        self.running = Interruptible(super().run_cell_async(*args, **kwargs))
        return self.running
