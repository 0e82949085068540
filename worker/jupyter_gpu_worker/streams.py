"""stdout and stderr of the kernel: ipykernel's own stream, which publishes straight from the thread that flushes it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from ipykernel.iostream import IOPubThread, OutStream

from .pipe import Critical

#: Seconds after which what was written without a line's end is shown; ipykernel waits 200 ms.
FIRST = 0.01
#: Seconds for which the writes of a busy cell are gathered. A line that comes after a pause as long goes out at once, in the thread that
#: wrote it: another thread would have to wait for the GIL first.
LATER = 0.05
#: Characters that are gathered at most: memory, and the first of them should not wait for the last.
_MOST = 1 << 20


class DirectPublisher(IOPubThread):  # type: ignore[misc]
    """What an ``OutStream`` takes for its IOPub thread; there is none, the socket of ours can be used from every thread."""

    def __init__(self, send: Callable[[Any], None]) -> None:
        self._send = send
        self.io_loop = None
        self.thread = None
        self.background_socket = self

    def schedule(self, f: Callable[[], None]) -> None:
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
            time.sleep(FIRST)
            for stream in list(self._streams):
                self._streams.discard(stream)
                time.sleep(max(0.0, stream.shown + LATER - time.monotonic()))
                try:
                    stream.flush()
                except (OSError, ValueError):
                    return  # the agent is gone, and the process is about to end


class PromptStream(OutStream):  # type: ignore[misc]
    """An ``OutStream`` whose first line is on the screen within milliseconds, and which keeps order with all other messages since it
    sends on the caller's thread.

    In a fork of the kernel (``multiprocessing``) it writes to the file descriptor, which the kernel watches: the socket is the
    kernel's alone, and so are the locks, which another thread may have held at the fork."""

    def __init__(self, session: Any, publisher: DirectPublisher, name: str, flusher: Flusher, critical: Critical) -> None:
        self._critical = critical
        self._flush_lock = threading.RLock()
        self._flusher = flusher
        self._gathered = 0
        self.shown = 0.0  #: when something was sent last, on the monotonic clock
        self._flush_pending = False
        self._keyed: tuple[dict[str, Any] | None, frozenset[Any]] = (None, frozenset())  #: the last parent, and its key in the buffers
        super().__init__(session, publisher, name)

    def write(self, string: str) -> int | None:
        """As ipykernel's, with what does not change from call to call remembered: ``print`` calls this twice."""
        if os.getpid() != self._master_pid:
            return self._write_in_fork(string)
        if not isinstance(string, str):
            raise TypeError(f"write() argument must be str, not {type(string)}")
        if self.pub_thread is None:
            raise ValueError("I/O operation on closed file")
        parent = self.parent_header
        known = self._keyed
        if known[0] is not parent:
            self._keyed = known = parent, frozenset(parent.items())
        # An interrupt between two of these lines costs nothing: what is written stays written, and the end of the cell flushes.
        with self._buffer_lock:
            self._buffers[known[1]].write(string)
        self._gathered = gathered = self._gathered + len(string)
        if gathered > _MOST or (string[-1:] == "\n" and time.monotonic() - self.shown > LATER):
            self.flush()
        elif not self._flush_pending:
            with self._critical:
                self._flush_pending = True
                self._flusher.request(self)
        return len(string)

    def flush(self) -> None:
        if os.getpid() == self._master_pid:
            with self._critical:
                self._flush_now()

    def _flush_now(self) -> None:
        with self._flush_lock:  # whoever takes the text also sends it, before another takes more
            if self._gathered:
                self._gathered = 0
                self.shown = time.monotonic()
            self._flush()

    def _write_in_fork(self, string: str) -> int:
        if not isinstance(string, str):
            raise TypeError(f"write() argument must be str, not {type(string)}")
        data = string.encode(errors="replace")
        while data:
            data = data[os.write(self._original_stdstream_fd, data) :]
        return len(string)
