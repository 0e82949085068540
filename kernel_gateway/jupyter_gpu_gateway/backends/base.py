"""How a worker gets started."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

#: What a backend acquired so far: plain data that survives a restart of the gateway.
Checkpoint = dict[str, Any]


@dataclass(frozen=True)
class WorkerSpec:
    """``url`` is where the worker dials, with ``worker_id:secret``; ``lease`` in seconds without a gateway after which it ends."""

    worker_id: str
    secret: str
    url: str
    interpreter: str = ""
    lease: float = 300.0
    env: dict[str, str] = field(default_factory=dict)


class Backend(ABC):
    """Starts and ends workers. Whatever was acquired is in a checkpoint before the next thing is acquired, so that a crash at any
    line leaks nothing."""

    @abstractmethod
    def start(self, spec: WorkerSpec) -> AsyncIterator[Checkpoint]:
        """Start a worker, yielding a checkpoint after each thing acquired. Raises ``WorkerStartFailed``."""

    @abstractmethod
    async def stop(self, checkpoint: Checkpoint) -> None:
        """End what a checkpoint names, however far the start got; idempotent."""

    @abstractmethod
    async def check(self, checkpoints: list[Checkpoint]) -> list[bool]:
        """Which of these still live."""

    async def close(self) -> None:  # noqa: B027 - most backends have nothing of their own
        """The gateway ends: give back what belongs to the backend itself."""
