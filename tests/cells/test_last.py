from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from jupyter_gpu.cells.last import table_of
from jupyter_gpu.cells.report import Report
from jupyter_gpu.sync.export import Export
from jupyter_gpu.wire.messages import CannotTravel, CellDone, HandleInfo, Snapshot

LOCK = CannotTravel(name="config", path="config['lock']", type="lock", reason="a lock belongs to the threads of one process")


def report(**parts: Any) -> Report:
    found = Report(SimpleNamespace(shell=None), quiet=False)
    vars(found).update(label="H100", **parts)
    return found


def rows(found: Report) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in table_of(found).rows}


def test_all_of_it() -> None:
    export = Export(Snapshot(serial=1, deleted=["old"]), sent={"x": 3_000_000, "y": 10}, unchanged={"data": 1_100_000_000})
    handles = [
        HandleInfo(name="big", type="numpy.ndarray", text="", size=8_000_000, why="8 MB, more than keep_above=1 MB; `.fetch()` brings it"),
        HandleInfo(name="w", type="torch.Tensor", text="", why="stays on cuda:0"),
        HandleInfo(name="model", type="Model", text="", why="keep="),
        HandleInfo(name="known", type="Model", text=""),
        HandleInfo(name="config", type="dict", text="", why=LOCK.reason),
    ]
    done = CellDone(
        run_id="r",
        status="ok",
        execution_count=1,
        snapshot=Snapshot(serial=2, names=["x", "_"], deleted=["y"]),
        handles=handles,
        stuck=[LOCK],
        diverged=["z"],
    )
    found = report(
        export=export,
        result=done,
        on_demand={"late": 20},
        sources={"helper.py": 100},
        unsourced=["gone.py"],
        warnings=["f is an open file", "f is an open file"],
    )
    assert rows(found) == {
        "x": ["", "", "came back"],
        "y": ["", "", "was deleted there, and here"],
        "data": ["", "1.1 GB", "was there"],
        "old": ["", "", "is gone here, and was deleted there"],
        "helper.py": ["source", "100 B", "was sent"],
        "gone.py": ["source", "", "is gone here, and was deleted there"],
        "late": ["", "20 B", "was fetched while the cell ran"],
        "the result": ["", "", "came back"],
        "big": ["numpy.ndarray", "8 MB", "stays remote: 8 MB, more than keep_above=1 MB; `.fetch()` brings it"],
        "w": ["torch.Tensor", "", "stays on cuda:0; `.fetch()` brings a copy"],
        "model": ["Model", "", "stays remote, as keep= said"],
        "known": ["Model", "", "stays remote, as a handle"],
        "config": ["dict", "", "stays remote: config['lock'] is a lock: a lock belongs to the threads of one process"],
        "z": ["", "", "changed there, and was not brought back: out= leaves it out"],
    }
    assert ["x", "", "3 MB", "was sent"] in table_of(found).rows
    assert table_of(found).notes == ["f is an open file"] and table_of(found).title == "The last remote cell, on H100"


def test_what_kept_it_from_running() -> None:
    found = report(export=Export(Snapshot(serial=1), sent={"x": 1}, stuck=[LOCK]))
    assert rows(found)["config"][2].startswith("could not travel: config['lock'] is a lock") and rows(found)["x"][2] == "was to be sent"
    assert "did not run" in table_of(found).notes[0]


def test_nothing_at_all() -> None:
    found = report(export=Export(Snapshot(serial=1)), result=CellDone(run_id="r", status="ok", execution_count=1))
    assert table_of(found).rows == [] and table_of(found).notes == ["No variable travelled."]
