from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jupyter_gpu.cells.options import Options
from jupyter_gpu.cells.remote import Fetcher
from jupyter_gpu.cells.wants import cannot_travel, check_handles, check_stuck, names_of_cell, stubs_of
from jupyter_gpu.sync.export import Export
from jupyter_gpu.sync.handles import Handle
from jupyter_gpu.wire.errors import NoSuchName, ValueCannotTravel
from jupyter_gpu.wire.messages import CannotTravel, CellNames, HandleInfo, Snapshot


def shell(hidden: dict[str, Any] | None = None, **namespace: Any) -> Any:
    return SimpleNamespace(user_ns={**namespace, **(hidden or {})}, user_ns_hidden=hidden or {})


def export(**more: Any) -> Export:
    return Export(snapshot=Snapshot(serial=1), **more)


def stuck(name: str, path: str = "") -> CannotTravel:
    return CannotTravel(name=name, path=path or name, type="_thread.lock", reason="a lock belongs to the threads of one process")


# ---------------------------------------------------------------- which names go


def test_what_the_cell_loads_and_deletes_as_far_as_it_is_there() -> None:
    names = CellNames(loads=["b", "a", "b", "unknown"], deletes=["c", "a"], stores=["d"])
    assert names_of_cell(shell(a=1, b=2, c=3, d=4), Options(), names) == ["b", "a", "c"]


def test_in_says_all_of_it() -> None:
    names = CellNames(loads=["a", "b"])
    assert names_of_cell(shell(a=1, b=2, c=3), Options(sent=("c",)), names) == ["c"]
    assert names_of_cell(shell(a=1), Options(sent=()), names) == []


@pytest.mark.parametrize(("asked", "nearest"), [("modle", "model"), ("In", ""), ("xyz", "")])
def test_a_name_of_in_that_does_not_exist(asked: str, nearest: str) -> None:
    with pytest.raises(NoSuchName) as caught:
        names_of_cell(shell(model=1, _i12=2), Options(sent=("model", asked)), CellNames())
    assert (caught.value.name, caught.value.option, caught.value.nearest) == (asked, "in", nearest)


def test_ipythons_own_names_are_never_suggested() -> None:
    with pytest.raises(NoSuchName) as caught:
        names_of_cell(shell(_i12=2, Out={}), Options(sent=("_i13",)), CellNames())
    assert caught.value.nearest == ""


def test_the_shells_own_stay_unless_the_person_bound_them_anew() -> None:
    own = object()
    names = CellNames(loads=["display", "exit"])
    assert names_of_cell(shell({"display": own, "exit": own}), Options(), names) == []
    found = shell({"display": own, "exit": own})
    found.user_ns["display"] = "mine"
    assert names_of_cell(found, Options(), names) == ["display"]


def test_what_the_kernel_may_ask_for() -> None:
    found = shell(a=1, b=2, c=3, _private=4, _i3="x", _12=5, In=[], Out={}, exit=1, get_ipython=1, open=1)
    assert stubs_of(found, export(sent={"a": 1}, unchanged={"b": 1})) == ["c", "_private"]


# ---------------------------------------------------------------- what cannot


def test_what_the_cell_binds_itself_is_no_reason_not_to_run() -> None:
    names = CellNames(loads=["f"], stores=["f"])
    check_stuck(export(stuck=[stuck("f")]), names, asked=None)
    check_stuck(export(stuck=[stuck("f")]), names, asked=["other"])
    with pytest.raises(ValueCannotTravel):
        check_stuck(export(stuck=[stuck("f")]), names, asked=["f"])
    with pytest.raises(ValueCannotTravel):
        check_stuck(export(stuck=[stuck("f")]), CellNames(loads=["f"]), asked=None)


def test_all_are_named_the_first_one_with_its_reason() -> None:
    found = cannot_travel([stuck("config", "config['x'][1]"), stuck("pool"), stuck("job", "job.lock")])
    assert (found.name, found.path, found.others) == ("config", "config['x'][1]", ["pool", "job.lock"])
    for word in ("config['x'][1]", "_thread.lock", "threads of one process", "pool", "job.lock", "Nothing ran"):
        assert word in str(found)


# ---------------------------------------------------------------- handles


def handle(home: Any) -> Handle:
    return Handle(HandleInfo(name="model", type="Model", text=""), Fetcher(home, "model") if home else lambda: None)


def test_a_handle_goes_to_its_own_session_alone() -> None:
    home: Any = SimpleNamespace(name="second", label="H100", ended=False)
    other: Any = SimpleNamespace(name="", label="A100", ended=False)
    found = shell(model=handle(home), plain=1)
    check_handles(found, home, ["model", "plain", "unknown"])
    with pytest.raises(ValueCannotTravel, match="session second.*model = model.fetch()") as caught:
        check_handles(found, other, ["plain", "model"])
    assert caught.value.name == "model"
    check_handles(found, other, ["plain"])
    home.name = ""
    with pytest.raises(ValueCannotTravel, match="session H100"):
        check_handles(found, other, ["model"])


@pytest.mark.parametrize("home", [SimpleNamespace(name="", label="H100", ended=True), None], ids=["ended", "nobody's"])
def test_a_handle_whose_session_has_ended(home: Any) -> None:
    with pytest.raises(ValueCannotTravel, match="gone with it"):
        check_handles(shell(model=handle(home)), SimpleNamespace(name="", label="H100", ended=False), ["model"])  # type: ignore[arg-type]
