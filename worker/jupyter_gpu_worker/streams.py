"""stdout and stderr of the kernel: ipykernel's own stream, which publishes straight from the thread that flushes it."""

from __future__ import annotations

import threading
import time
from typing import Any

from ipykernel.iostream import IOPubThread, OutStream

from .pipe import Critical

#: Seconds from the first write to the screen; ipykernel waits 200 ms. Later writes of a busy cell are gathered for longer.
FIRST = 0.01
LATER = 0.05


class DirectPublisher(IOPubThread):  # type: ignore[misc]
    """What an ``OutStream`` takes for its IOPub thread; there is none, the socket of ours can be used from every thread."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self.io_loop = None
        self.thread = None
        self.background_socket = self

    def schedule(self, f: Any) -> None:
        f()

    def send_multipart(self, parts: Any, *args: Any, **kwargs: Any) -> None:
        self._send(parts)

    def close(self) -> None:
        """Nothing is open."""

    def stop(self) -> None:
        """Nothing runs."""


class Flusher:
    """A thread that flushes streams shortly after they were written to."""

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._streams: set[PromptStream] = set()
        self._last = 0.0
        self._thread: threading.Thread | None = None

    def request(self, stream: PromptStream) -> None:
        self._streams.add(stream)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="flush", daemon=True)
            self._thread.start()
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            time.sleep(FIRST if time.monotonic() - self._last > 1 else LATER)
            self._last = time.monotonic()
            for stream in list(self._streams):
                self._streams.discard(stream)
                try:
                    stream.flush()
                except (OSError, ValueError):
                    return  # the agent is gone, and the process is about to end


class PromptStream(OutStream):  # type: ignore[misc]
    """An ``OutStream`` whose first line is on the screen within milliseconds, and which keeps order with all other messages since it
    sends on the caller's thread."""

    def __init__(
        self, session: Any, publisher: DirectPublisher, name: str, flusher: Flusher, critical: Critical, *, watchfd: bool = True
    ) -> None:
        self._critical = critical
        self._flush_pending = False
        self._flush_lock = threading.RLock()
        self._flusher = flusher
        super().__init__(session, publisher, name, watchfd=watchfd)

    def _schedule_flush(self) -> None:
        if not self._flush_pending:
            self._flush_pending = True
            self._flusher.request(self)

    def write(self, string: str) -> int | None:
        with self._critical:
            written: int | None = super().write(string)
        return written

    def flush(self) -> None:
        with self._critical, self._flush_lock:  # whoever takes the text also sends it, before another takes more
            self._flush()
