"""``%remote last``: all that the line that sums up leaves out."""

from __future__ import annotations

from collections.abc import Iterator

from ..wire.messages import CellDone
from .report import KEEP, Report, stays_remote
from .tables import Table, human_bytes

Row = list[str]


def table_of(report: Report) -> Table:
    """What the last remote cell sent, found there, brought back and left there; what could not travel, and what means nothing there."""
    rows = [*_before(report), *(_after(report, report.result) if report.result is not None else ())]
    notes = list(dict.fromkeys(report.warnings))
    if report.result is None or report.result.refused is not None:
        notes.insert(0, "It did not run, or did not come to its end.")
    if not rows:
        notes.insert(0, "No variable travelled.")
    return Table(f"The last remote cell{report.label and ', on ' + report.label}", ["what", "type", "size", "what happened"], rows, notes)


def _before(report: Report) -> Iterator[Row]:
    export = report.export
    if export is None:
        return
    for stuck in export.stuck:
        yield [stuck.name, "", "", f"could not travel: {stuck.path} is a {stuck.type}: {stuck.reason}"]
    went = "was sent" if report.result is not None else "was to be sent"
    for name, size in sorted(export.sent.items(), key=lambda item: -item[1]):
        yield [name, "", human_bytes(size), went]
    for name, size in sorted(export.unchanged.items(), key=lambda item: -item[1]):
        yield [name, "", human_bytes(size), "was there"]
    for name in export.snapshot.deleted:
        yield [name, "", "", "is gone here, and was deleted there"]
    for path, size in sorted(report.sources.items()):
        yield [path, "source", human_bytes(size), went]
    for path in report.unsourced:
        yield [path, "source", "", "is gone here, and was deleted there"]


def _after(report: Report, done: CellDone) -> Iterator[Row]:
    for name, size in sorted(report.on_demand.items(), key=lambda item: -item[1]):
        yield [name, "", human_bytes(size), "was fetched while the cell ran"]
    if done.snapshot is not None:
        for name in done.snapshot.names:
            yield [name if name != "_" else "the result", "", "", "came back"]
        for name in done.snapshot.deleted:
            yield [name, "", "", "was deleted there, and here"]
    stuck = {each.name: each for each in done.stuck}
    for info in [*done.handles, *report.stayed]:
        why = info.why
        if (found := stuck.get(info.name)) is not None:
            why = f"{found.path} is a {found.type}: {found.reason}"
        what = "stays remote, as a handle" if not why else "stays remote, as keep= said" if why == KEEP else stays_remote(why)
        yield [info.name, info.type, human_bytes(info.size) if info.size >= 0 else "", what]
    for name in done.diverged:
        yield [name, "", "", "changed there, and was not brought back: out= leaves it out"]
