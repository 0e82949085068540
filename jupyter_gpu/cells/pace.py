"""How fast messages may go to a front end. jupyter_server drops what exceeds its limits (1,000 messages and 1 MB of stream per second,
averaged over 3 s), and a burst that a resumed link delivers at once would exceed them."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic, sleep

#: Per second. In the three seconds that the server looks back, a burst and what follows it must together stay below three times its
#: limits, with a little to spare for others that print on the same kernel, and for messages that come late and so closer together.
MESSAGES, BYTES = 650.0, 650_000.0
#: What may go at once after a silence.
BURST_MESSAGES, BURST_BYTES = 700.0, 700_000.0
#: Bytes of a stream message beside its text: headers and their digest.
_OVERHEAD = 700


def size_of_text(text: str) -> int:
    """Bytes of a stream message with this text, as the server counts them: JSON escapes some characters."""
    return len(text.encode(errors="replace")) + sum(map(text.count, '\n\r\t"\\')) + 5 * text.count("\x1b") + _OVERHEAD


class Bucket:
    """Holds up to ``burst`` units and gains ``rate`` of them per second."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at: float | None = None

    def wait(self, now: float) -> float:
        """Seconds until something may be taken at once."""
        self.take(0, now)
        return max(0.0, -self._level / self._rate)

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
        self._messages = Bucket(MESSAGES, BURST_MESSAGES)
        self._bytes = Bucket(BYTES, BURST_BYTES)

    def before(self, text: str = "", *, may_wait: bool = True) -> None:
        """Call before a message; ``text``: of a stream. ``may_wait`` False: on a thread that others depend on."""
        if not self._limited:
            return
        now = self._clock()
        wait = max(self._messages.take(1, now), self._bytes.take(size_of_text(text) if text else 0, now))
        if wait > 0 and may_wait:
            self._pause(wait)
