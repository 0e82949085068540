"""What a cell tells of itself: phases while a person waits, warnings, and the line that sums up."""

from __future__ import annotations

import html
from time import perf_counter
from typing import Any

from ..sync.chunks import Parcel
from ..sync.replica import Export
from ..wire.messages import CellDone, SessionInfo
from .remote import Remote
from .sinks import Sink, sink_of
from .tables import human_bytes, human_seconds


class Report:
    """A context around one cell. ``quiet``: no line at its end; warnings are told all the same."""

    def __init__(self, notebook: Any, quiet: bool) -> None:
        self._notebook = notebook
        self._quiet = quiet
        self._sink: Sink | None = None
        self._warnings: list[str] = []
        self._opening = 0.0
        self.started = -1.0  #: seconds; negative: the session was there
        self.sent = 0
        self.there = 0
        self.back_seconds = 0.0

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    # ------------------------------------------------------------ phases

    def opening(self, remote: Remote) -> None:
        self._opening = perf_counter()

    def on_change(self, info: SessionInfo) -> None:
        pass

    def opened(self, remote: Remote, created: bool) -> None:
        if created:
            self.started = perf_counter() - self._opening

    def sending(self, export: Export) -> None:
        self.there = sum(export.unchanged.values())
        self._warnings += export.warnings

    def running(self, sink: Sink, parcel: Parcel) -> None:
        self._sink = sink
        self.sent = parcel.inline_size + sum(map(len, parcel.chunks.values()))

    # ------------------------------------------------------------ the end

    def say(self, text: str) -> None:
        """At once, on stderr."""
        (self._sink or sink_of(self._notebook.shell)).stream("stderr", f"jupyter-gpu: {text}\n")

    def warn(self, text: str) -> None:
        self._warnings.append(text)

    def done(self, done: CellDone, remote: Remote) -> None:
        sink = self._sink or sink_of(self._notebook.shell)
        for warning in dict.fromkeys([*self._warnings, *done.warnings]):
            sink.stream("stderr", f"jupyter-gpu: {warning}\n")
        stayed = {s.name: s.reason for s in done.stuck}
        if self._quiet and not stayed:
            return
        line = self._line(done, remote)
        notes = [f"{name} stays remote: {reason}" for name, reason in stayed.items()]
        text = "\n".join([line, *notes])
        markup = "".join(f'<div style="opacity:.65;font-size:.85em">{html.escape(t)}</div>' for t in [line, *notes])
        sink.display({"text/plain": text, "text/html": markup}, {}, {}, False)

    def _line(self, done: CellDone, remote: Remote) -> str:
        parts = [remote.label]
        if self.started >= 0:
            parts.append(f"started {human_seconds(self.started)}")
        sent = self.sent + remote.sent_on_demand
        if sent or self.there:
            there = f" ({human_bytes(self.there)} already there)" if self.there else ""
            parts.append(f"sent {human_bytes(sent)}{there}")
        parts.append(f"ran {human_seconds(done.seconds)}")
        if done.snapshot is not None and done.snapshot.stream is not None:
            parts.append(f"back {human_bytes(done.snapshot.stream.size + sum(b.size for b in done.snapshot.buffers))}")
        return " · ".join(parts)
