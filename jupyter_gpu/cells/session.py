"""What of ``jupyter_gpu.client.Session`` a notebook's side uses: the seam at which tests play a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..wire.messages import AnyMessage, Message, SessionInfo

Received = tuple[AnyMessage, list[memoryview]]


class Session(Protocol):
    """What of ``jupyter_gpu.client.Session`` is used here."""

    listener: Callable[[AnyMessage, list[memoryview]], None] | None
    on_input_over: Callable[[str], None] | None
    on_progress: Callable[[int], None] | None

    @property
    def info(self) -> SessionInfo: ...
    def send(self, message: Message, buffers: Sequence[Any] = ()) -> None: ...
    def receive(self, timeout: float | None = None) -> Received | None: ...
    def interrupt(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...
    def shares(self) -> bool: ...
