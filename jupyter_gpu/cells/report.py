"""What a cell tells of itself: phases while a person waits, warnings, and the line that sums up."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from ..sync.chunks import Parcel
from ..sync.replica import Export
from ..wire.messages import CellDone, HandleInfo, SessionInfo
from .progress import Progress
from .remote import Remote
from .sinks import Sink, sink_of
from .sources import Changed
from .tables import human_bytes, human_seconds

#: Bytes of variables beyond which sending them is a phase of its own.
_MUCH = 4 << 20


#: Of a gateway that is not the person's own.
_ITS_OWN = "The worker's files, working directory and environment are its own: relative paths and !commands mean that machine."
#: Why a value stays that the person asked to stay.
KEEP = "keep="


def stays_remote(why: str) -> str:
    """A reason as a sentence behind a name."""
    return f"{why}; `.fetch()` brings a copy" if why.startswith("stays on ") else f"stays remote: {why}"


class Report:
    """A context around one cell. ``quiet``: no line at its end; warnings are told all the same."""

    def __init__(self, notebook: Any, quiet: bool) -> None:
        self._notebook = notebook
        self._quiet = quiet
        self._sink: Sink | None = None
        self._warnings: list[str] = []
        self._opening = 0.0
        self._progress: Progress | None = None
        self.started = -1.0  #: seconds; negative: the session was there
        self.sent = 0
        self.there = 0
        self.back_seconds = 0.0
        self.stayed: list[HandleInfo] = []  #: what this end could not take for lack of a module
        # What `%remote last` shows.
        self.label = ""
        self.export: Export | None = None
        self.sources: dict[str, int] = {}
        self.unsourced: list[str] = []
        self.on_demand: dict[str, int] = {}
        self.result: CellDone | None = None
        self.warnings: list[str] = []  #: all of them, those that were said in an earlier cell too

    def __enter__(self) -> Report:
        self._notebook.last = self
        return self

    def __exit__(self, *exc: object) -> None:
        if self._progress is not None:
            self._progress.finish([])  # a cell that failed on its way has its error to show, and no phase
        if self._sink is not None:
            self._sink.ended()

    # ------------------------------------------------------------ phases

    def exported(self, export: Export, remote: Remote) -> None:
        """What would go; nothing has gone yet. What pickles and means nothing elsewhere is said once in a session."""
        self.export = export
        self.label = remote.label
        self.warnings = list(export.warnings)
        self._warnings += [w for w in export.warnings if w not in remote.said]
        remote.said.update(export.warnings)

    def opening(self, remote: Remote) -> None:
        self._opening = perf_counter()
        self._sink = sink_of(self._notebook.shell)
        if remote.session is None and not self._quiet:
            self._progress = Progress(self._sink)
            self._progress.phase(f"{remote.label}: connecting")

    def on_change(self, info: SessionInfo) -> None:
        """Of the session that is being opened."""
        if self._progress is not None:
            place = f", {info.queue_position} in the queue" if info.queue_position else ""
            self._progress.phase(f"{info.label}: {info.state.value}{place}")

    def opened(self, remote: Remote, created: bool) -> None:
        if created:
            self.started = perf_counter() - self._opening

    def sending(self, export: Export) -> None:
        self.there = sum(export.unchanged.values())
        size = sum(export.sent.values())
        if self._progress is None and size > _MUCH and not self._quiet and self._sink is not None:
            self._progress = Progress(self._sink)
        if self._progress is not None:
            self._progress.phase(f"sending {human_bytes(size)}")

    def sourced(self, changed: Changed) -> None:
        """What of the person's own files goes along."""
        self.sources = {path: len(source) for path, source in changed.files.items()}
        self.unsourced = changed.gone
        self.warnings += changed.notes
        self._warnings += changed.notes

    def moved(self, done: int, total: int) -> None:
        """Of what is sent, so much has arrived."""
        if self._progress is not None:
            self._progress.goes_on(f"sending {human_bytes(done)} of {human_bytes(total)}")

    def running(self, parcel: Parcel) -> None:
        if self._progress is not None:
            self._progress.phase("running")
            self._progress.stop()
        self.there += parcel.left_out
        self.sent = parcel.inline_size + sum(map(len, parcel.chunks.values())) + sum(self.sources.values())

    # ------------------------------------------------------------ the end

    @property
    def sink(self) -> Sink:
        """The place of the cell on the screen."""
        assert self._sink is not None
        return self._sink

    def say(self, text: str) -> None:
        """At once, on stderr."""
        (self._sink or sink_of(self._notebook.shell)).stream("stderr", f"jupyter-gpu: {text}\n")

    def warn(self, text: str) -> None:
        self._warnings.append(text)

    def done(self, done: CellDone, remote: Remote) -> None:
        sink = self._sink or sink_of(self._notebook.shell)
        taken, remote.notes = remote.notes, []
        for warning in dict.fromkeys([*self._warnings, *done.warnings, *taken]):
            sink.stream("stderr", f"jupyter-gpu: {warning}\n")
        self.label, self.result, self.on_demand = remote.label, done, dict(remote.on_demand)
        self.warnings += [*done.warnings, *taken]
        if self.export is not None and self.export.places and not self._notebook.shares_files():
            self._say_places(self.export.places, remote)
        shown = f"_{done.execution_count}"  # displayed as what it is
        stayed = {i.name: i.why for i in done.handles if i.why not in ("", KEEP) and i.name != shown}
        stayed |= {s.name: s.reason for s in done.stuck} | {info.name: info.why for info in self.stayed}
        if self._quiet and not stayed:
            return
        line = self._line(done, remote)
        notes = [f"{name} {stays_remote(why)}" for name, why in stayed.items()]
        if self.started >= 0 and not self._notebook.shares_files():
            notes.append(_ITS_OWN)
        progress, self._progress = self._progress or Progress(sink), None
        progress.finish([line, *notes])

    def _say_places(self, places: list[str], remote: Remote) -> None:
        """Paths that mean something here: one line for all of them, the first time."""
        self.warnings += places
        if places[0] not in remote.said:
            remote.said.update(places)
            more = f" (and {len(places) - 1} more, see `%remote last`)" if len(places) > 1 else ""
            self.say(f"{places[0]}{more}: the worker looks for it in its own files")

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
            came = [b.delta or b for b in (done.snapshot.stream, *done.snapshot.buffers)]
            parts.append(f"back {human_bytes(sum(b.size for b in came))}")
        return " · ".join(parts)
