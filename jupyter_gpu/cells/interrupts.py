"""The stop button while a remote cell runs. The first press interrupts the remote code, the second kills the session.

No ``KeyboardInterrupt`` is raised here meanwhile: it could come between a message and its place on the screen, or in the middle of
taking over variables.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import Any

#: Seconds within which presses count as one: some front ends send a signal and a message for the same press.
_BOUNCE = 0.25


class Interrupts:
    """A context in which SIGINT calls ``interrupt`` and then ``kill``, both of which must return at once."""

    def __init__(self, interrupt: Callable[[], None], kill: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._kill = kill
        self._saved: Any = None
        self._installed = False
        self._raising = False
        self._given_up = False
        self._last = float("-inf")
        self.presses = 0
        self.killed = False

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # signals come nowhere else
            self._saved = signal.signal(signal.SIGINT, self._pressed)
            self._installed = True
        return self

    def __exit__(self, *exc: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._saved if self._saved is not None else signal.default_int_handler)
            self._installed = False

    def press(self) -> None:
        """As the stop button does."""
        now = monotonic()
        if now - self._last < _BOUNCE:
            return
        self._last = now
        self.presses += 1
        if self.presses == 1:
            self._interrupt()
        elif not self.killed:
            self.killed = True
            self._kill()

    @contextmanager
    def raising(self) -> Iterator[None]:
        """While the person is asked for input: a press ends the asking too, as a ``KeyboardInterrupt``."""
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def give_up(self) -> None:
        """From another thread: end the asking for input, which nobody waits for any more. Not a press."""
        self._given_up = True
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _pressed(self, signum: int, frame: FrameType | None) -> None:
        if self._given_up:
            self._given_up = False
        else:
            self.press()
        if self._raising:
            self._raising = False
            raise KeyboardInterrupt
