"""How fast messages may go to a front end. jupyter_server drops what exceeds its limits (1,000 messages and 1 MB of stream per second,
averaged over 3 s), and a burst that a resumed link delivers at once would exceed them."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic, sleep

#: A little under the limits: others print on the same kernel too.
_MESSAGES, _BYTES = 900.0, 950_000.0
#: What may go at once after a silence: less than the three seconds that the server looks back.
_BURST = 2.0


class Bucket:
    """Holds up to ``burst`` units and gains ``rate`` of them per second."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at: float | None = None

    def take(self, amount: float, now: float) -> float:
        """Takes ``amount`` and returns for how many seconds the taker must wait first. What is larger than the bucket is let pass
        when it is full, and paid for afterwards."""
        if self._at is not None:
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        self._level -= amount
        return max(0.0, -self._level / self._rate)


class Pace:
    """Waits before a message that would exceed the limits. Does nothing where no jupyter_server listens."""

    def __init__(self, limited: bool | None = None, clock: Callable[[], float] = monotonic, pause: Callable[[float], None] = sleep) -> None:
        # jupyter_server names the notebook to the kernels that it starts; nbclient, papermill, VS Code and the console do not.
        self._limited = "JPY_SESSION_NAME" in os.environ if limited is None else limited
        self._clock = clock
        self._pause = pause
        self._messages = Bucket(_MESSAGES, _MESSAGES * _BURST)
        self._bytes = Bucket(_BYTES, _BYTES * _BURST)

    def before(self, size: int = 0, *, may_wait: bool = True) -> None:
        """Call before a message with ``size`` bytes of stream. ``may_wait`` False: on a thread that others depend on."""
        if not self._limited:
            return
        now = self._clock()
        wait = max(self._messages.take(1, now), self._bytes.take(size, now))
        if wait > 0 and may_wait:
            self._pause(wait)
