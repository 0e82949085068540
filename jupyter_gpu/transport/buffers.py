"""Memory for what comes and goes: used again as soon as nobody refers to it any more.

Fresh memory from the system costs a page fault for each 4 KiB of it, and clearing; at a gigabyte a second that is as much as the
copying itself.
"""

from __future__ import annotations

import time

#: Seconds.
IDLE = 5.0


class Pool:
    """Gives out writable memory of at most ``size`` bytes; at most ``keep`` pieces are kept for the next time."""

    def __init__(self, size: int, keep: int) -> None:
        self.size = size
        self._keep = keep
        self._kept: list[bytearray] = []
        self._next = 0
        self._taken = 0.0

    def take(self, size: int) -> memoryview:
        """``size`` bytes of any content. They are free again when the last view of them is gone. What is small gets memory of its own
        size: who holds it shall not hold much more."""
        self._taken = time.monotonic()
        if not self.size // 2 <= size <= self.size:
            return memoryview(bytearray(size))
        for _ in self._kept:
            self._next = (self._next + 1) % len(self._kept)
            if _is_free(self._kept[self._next]):
                return memoryview(self._kept[self._next])[:size]
        made = bytearray(self.size)
        if len(self._kept) < self._keep:
            self._kept.append(made)
        elif self._kept:
            self._kept[self._next] = made  # whoever holds the other one may hold it for ever
        return memoryview(made)[:size]

    def tidy(self) -> None:
        """Called every now and then: what was not needed for a while goes back to the system."""
        if time.monotonic() - self._taken > IDLE:
            self._kept.clear()


def _is_free(memory: bytearray) -> bool:
    """A bytearray of which there is a view refuses to change its length."""
    try:
        memory.append(0)
    except BufferError:
        return False
    memory.pop()
    return True
