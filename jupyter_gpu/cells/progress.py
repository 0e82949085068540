"""What a person sees while a session starts: the phase and for how long, in one display that later becomes the line that sums up."""

from __future__ import annotations

import html
import threading
import uuid
from time import monotonic

from .sinks import Sink
from .tables import human_seconds

#: Seconds of waiting before anything is shown, and between two looks at the clock.
PATIENCE = 0.4
EVERY = 1.0


def bundle(lines: list[str]) -> dict[str, str]:
    """Lines as a display: text everywhere, small print where there is HTML, in line with what is printed above and below."""
    style = "opacity:.7;font-size:.85em;line-height:1.5;padding-left:.6em"
    markup = "".join(f'<div style="{style}">{html.escape(line)}</div>' for line in lines)
    return {"text/plain": "\n".join(lines), "text/html": markup}


class Progress:
    """Shows nothing for what is quick, nor where a display cannot be changed afterwards (a terminal, a capture)."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._shown = ""  #: display_id, once something is shown
        self._phase = ""
        self._since = monotonic()
        self._began = monotonic()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._able = sink.live

    def phase(self, text: str) -> None:
        """A phase begins."""
        with self._lock:
            if text == self._phase:
                return
            self._phase, self._since = text, monotonic()
            if self._able and self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._tick, name="jupyter-gpu-progress", daemon=True)
                self._thread.start()
            if self._shown:
                self._show()

    def goes_on(self, text: str) -> None:
        """The phase is what it was, and there is news of it."""
        with self._lock:
            if text != self._phase:
                self._phase = text
                if self._shown and not self._stop.is_set():
                    self._show()

    def stop(self) -> None:
        """No more looks at the clock. May be called again."""
        self._stop.set()
        with self._lock:
            if self._shown:
                self._sink.display(bundle([f"{self._phase} …"]), {}, {"display_id": self._shown}, True)

    def finish(self, lines: list[str]) -> None:
        """The end of the cell: the lines that sum up, in the place of the progress if there was one. No lines: it vanishes."""
        self._stop.set()
        with self._lock:
            if self._shown:
                self._sink.display(bundle(lines) if lines else {"text/plain": ""}, {}, {"display_id": self._shown}, True)
                self._shown = ""
            elif lines:
                self._sink.display(bundle(lines), {}, {}, False)

    def _tick(self) -> None:
        wait = PATIENCE
        while not self._stop.wait(wait):
            wait = EVERY
            with self._lock:
                if not self._stop.is_set():
                    self._show()

    def _show(self) -> None:
        first = not self._shown
        if first:
            self._shown = uuid.uuid4().hex
        seconds = int(monotonic() - self._since)
        line = f"{self._phase} …" + (f" {human_seconds(seconds, whole=True)}" if seconds else "")
        self._sink.display(bundle([line]), {}, {"display_id": self._shown}, not first)
