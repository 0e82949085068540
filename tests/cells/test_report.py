from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jupyter_gpu.cells import report as module
from jupyter_gpu.cells.report import Report
from jupyter_gpu.cells.sources import Changed
from jupyter_gpu.sync.chunks import Parcel
from jupyter_gpu.sync.export import Export
from jupyter_gpu.wire.messages import BufferRef, CannotTravel, CellDone, HandleInfo, SessionInfo, SessionState, Snapshot

MB = 1_000_000


class Sink:
    live = True

    def __init__(self) -> None:
        self.streams: list[tuple[str, str]] = []
        self.displays: list[tuple[str, bool]] = []
        self.over = 0

    def stream(self, name: str, text: str) -> None:
        self.streams.append((name, text))

    def display(self, data: dict[str, Any], metadata: dict[str, Any], transient: dict[str, Any], update: bool) -> None:
        self.displays.append((data["text/plain"], update))

    def message(self, envelope: Any) -> None: ...

    def ended(self) -> None:
        self.over += 1


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Sink:
    found = Sink()
    monkeypatch.setattr(module, "sink_of", lambda shell: found)
    return found


def remote(session: Any = "there", label: str = "H100", on_demand: int = 0) -> Any:
    return SimpleNamespace(session=session, label=label, sent_on_demand=on_demand, on_demand={}, said=set(), notes=[])


def make(quiet: bool = False) -> Report:
    return Report(SimpleNamespace(shell=None, shares_files=lambda: True), quiet)


def done(seconds: float = 2.1, **more: Any) -> CellDone:
    return CellDone(run_id="r", status="ok", execution_count=1, seconds=seconds, **more)


def lines(sink: Sink) -> list[str]:
    return [line for text, _ in sink.displays for line in text.splitlines()]


def test_the_least_there_is_to_say(sink: Sink) -> None:
    with make() as report:
        report.opening(remote())
        report.done(done(), remote())
    assert lines(sink) == ["H100 · ran 2.1 s"] and sink.streams == [] and sink.over == 1


def test_all_of_it(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 13.2])
    monkeypatch.setattr(module, "perf_counter", lambda: next(clock))
    buffers = [BufferRef(b"", 20_000)]
    parcel = Parcel(snapshot=Snapshot(serial=1), inline=[bytes(1 * MB)], chunks={b"d": memoryview(bytes(2 * MB))})
    with make() as report:
        report.opening(remote())
        report.opened(remote(), created=True)
        report.sending(Export(snapshot=Snapshot(serial=1), sent={"x": 3 * MB}, unchanged={"y": 1_100 * MB}))
        report.running(parcel)
        report.done(done(snapshot=Snapshot(serial=2, stream=BufferRef(b"", 4_000), buffers=buffers)), remote(on_demand=200_000))
    assert lines(sink) == ["H100 · started 3.2 s · sent 3.2 MB (1.1 GB already there) · ran 2.1 s · back 24 KB"]


def test_files_that_go_along_count(sink: Sink) -> None:
    with make() as report:
        report.opening(remote())
        report.sourced(Changed({"helper.py": bytes(5000)}, [], ["a note"]))
        report.running(Parcel(snapshot=Snapshot(serial=1), inline=[bytes(1000)], chunks={}))
        report.done(done(), remote())
    assert lines(sink) == ["H100 · sent 6 KB · ran 2.1 s"] and sink.streams == [("stderr", "jupyter-gpu: a note\n")]


def test_what_stays_and_why(sink: Sink) -> None:
    handles = [
        HandleInfo(name="w", type="T", text="", why="stays on cuda:0"),
        HandleInfo(name="big", type="T", text="", why="1.2 GB, more than keep_above=256 MB; `.fetch()` brings it"),
        HandleInfo(name="asked", type="T", text="", why="keep="),
        HandleInfo(name="known", type="T", text=""),
        HandleInfo(name="_1", type="T", text="", why="a displayed value of 9 MB"),
    ]
    with make() as report:
        report.opening(remote())
        report.done(done(handles=handles), remote())
    assert lines(sink)[1:] == [
        "w stays on cuda:0; `.fetch()` brings a copy",
        "big stays remote: 1.2 GB, more than keep_above=256 MB; `.fetch()` brings it",
    ]


def test_a_worker_of_another_machine_has_files_of_its_own(sink: Sink) -> None:
    export = Export(snapshot=Snapshot(serial=1), places=["p is a path of this machine", "q is a path of this machine"])
    there = remote()
    for _ in range(2):
        with Report(SimpleNamespace(shell=None, shares_files=lambda: False), False) as report:
            report.opening(there)
            report.opened(there, created=True)
            report.exported(export, there)
            report.done(done(), there)
            assert report.warnings == export.places
    assert [text for _, text in sink.streams] == [
        "jupyter-gpu: p is a path of this machine (and 1 more, see `%remote last`): the worker looks for it in its own files\n"
    ]
    assert lines(sink)[1].startswith("The worker's files, working directory and environment are its own")


def test_a_session_that_was_there_was_not_started(sink: Sink) -> None:
    with make() as report:
        report.opening(remote())
        report.opened(remote(), created=False)
        report.done(done(), remote())
    assert "started" not in lines(sink)[0]


def test_quiet_says_nothing_but_what_must_be_known(sink: Sink) -> None:
    with make(quiet=True) as report:
        report.opening(remote(session=None))
        report.warn("numpy is 2.1 here")
        report.done(done(), remote())
    assert sink.displays == [] and sink.streams == [("stderr", "jupyter-gpu: numpy is 2.1 here\n")]
    with make(quiet=True) as report:
        report.opening(remote())
        report.done(done(stuck=[CannotTravel(name="model", path="model", type="M", reason="it is 4 GB")]), remote())
    assert lines(sink) == ["H100 · ran 2.1 s", "model stays remote: it is 4 GB"]


def test_each_warning_once_and_before_the_line(sink: Sink) -> None:
    with make() as report:
        report.opening(remote())
        report.exported(Export(snapshot=Snapshot(serial=1), warnings=["one", "two"]), remote())
        report.warn("one")
        report.done(done(warnings=["two", "three"]), remote())
    assert [text for _, text in sink.streams] == ["jupyter-gpu: one\n", "jupyter-gpu: two\n", "jupyter-gpu: three\n"]


def test_said_at_once_even_before_the_cell_has_a_place(sink: Sink) -> None:
    make().say("second interrupt")
    assert sink.streams == [("stderr", "jupyter-gpu: second interrupt\n")]


class Phases:
    """In place of ``Progress``, without its clock."""

    def __init__(self, sink: Any) -> None:
        self.phases: list[str] = []
        self.finished: list[list[str]] = []
        self.stopped = 0
        MADE.append(self)

    def phase(self, text: str) -> None:
        self.phases.append(text)

    def goes_on(self, text: str) -> None:
        self.phases.append(text)

    def stop(self) -> None:
        self.stopped += 1

    def finish(self, found: list[str]) -> None:
        self.finished.append(found)


MADE: list[Phases] = []


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Phases]:
    MADE.clear()
    monkeypatch.setattr(module, "Progress", Phases)
    return MADE


def info(state: SessionState, position: int = 0) -> SessionInfo:
    return SessionInfo(session_id="s", key="k", state=state, label="H100", created=0.0, queue_position=position)


def test_the_phases_of_a_start(sink: Sink, made: list[Phases]) -> None:
    with make() as report:
        report.opening(remote(session=None))
        report.on_change(info(SessionState.QUEUED, 2))
        report.on_change(info(SessionState.STARTING))
        report.sending(Export(snapshot=Snapshot(serial=1), sent={"x": 10}))
        report.running(Parcel(snapshot=Snapshot(serial=1), inline=[], chunks={}))
        report.done(done(), remote())
    (found,) = made
    assert found.phases == ["H100: connecting", "H100: queued, 2 in the queue", "H100: starting", "sending 10 B", "running"]
    assert found.stopped == 1 and found.finished == [["H100 · ran 2.1 s"]]


def test_a_cell_that_failed_on_its_way_leaves_no_phase_on_the_screen(sink: Sink, made: list[Phases]) -> None:
    with pytest.raises(ValueError):
        with make() as report:
            report.opening(remote(session=None))
            raise ValueError
    assert made[0].finished == [[]] and sink.over == 1


def test_sending_much_to_a_session_that_is_there_is_a_phase(sink: Sink, made: list[Phases]) -> None:
    for size, count in ((1 * MB, 0), (50 * MB, 1)):
        made.clear()
        with make() as report:
            report.opening(remote())
            report.sending(Export(snapshot=Snapshot(serial=1), sent={"x": size}))
            assert len(made) == count
    assert made[0].phases == ["sending 50 MB"]


def test_quiet_shows_no_phases(sink: Sink, made: list[Phases]) -> None:
    with make(quiet=True) as report:
        report.opening(remote(session=None))
        report.on_change(info(SessionState.STARTING))
        report.sending(Export(snapshot=Snapshot(serial=1), sent={"x": 50 * MB}))
        report.running(Parcel(snapshot=Snapshot(serial=1), inline=[], chunks={}))
    assert made == []


def test_how_far_the_sending_is(sink: Sink, made: list[Phases]) -> None:
    with make() as report:
        report.moved(1, 2)
        report.opening(remote())
        report.sending(Export(snapshot=Snapshot(serial=1), sent={"x": 1_100 * MB}))
        report.moved(45 * MB, 1_100 * MB)
        report.running(Parcel(Snapshot(serial=1)))
    assert made[0].phases == ["sending 1.1 GB", "sending 45 MB of 1.1 GB", "running"]
