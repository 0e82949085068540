"""Strings and numbers by the million: what is known again must be the same, and what comes out what went in."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jupyter_gpu.sync.fingerprint import probe
from jupyter_gpu.sync.flat import PIECE, Flats, is_long_and_flat, repeats
from jupyter_gpu.sync.replica import Replica


def column(n: int = 3000) -> Any:
    return np.array([f"row {i}" for i in range(n)], dtype=object)


def known(array: Any) -> tuple[Flats, bytes]:
    flats = Flats()
    return flats, probe(array, "v", {}, flats=flats).fingerprint


def test_the_same_objects_are_not_pickled_again() -> None:
    array = column()
    flats, before = known(array)
    again = probe(array, "v", {}, flats=flats)
    assert again.abridged and again.fingerprint == before == probe(array, "v", {}).fingerprint
    assert again.size == probe(array, "v", {}).size


@pytest.mark.parametrize("value", ["other", "".join(["row ", "7"]), 7, 7.0, True, None, b"row 7", np.str_("row 7"), [1]])
def test_another_object_shows(value: Any) -> None:
    """An equal string is the same content; all else is not, whatever it compares equal to."""
    array = column()
    flats, before = known(array)
    array[7] = value
    now = probe(array, "v", {}, flats=flats).fingerprint
    assert now == probe(array, "v", {}).fingerprint
    assert (now == before) is (type(value) is str and value == "row 7")


@pytest.mark.parametrize(("old", "new"), [(1, True), (1, 1.0), (0.0, -0.0), ("1", b"1"), (None, False)])
def test_equal_is_not_the_same(old: Any, new: Any) -> None:
    array = column()
    array[5] = old
    flats, before = known(array)
    array[5] = new
    assert probe(array, "v", {}, flats=flats).fingerprint != before


def test_only_the_piece_that_changed_is_pickled() -> None:
    array = column(3 * PIECE)
    flats, _ = known(array)
    array[PIECE + 3] = "other"
    found = probe(array, "v", {}, flats=flats)
    assert [b.nbytes == 0 for b in found.buffers] == [True, False, True]


def test_an_id_is_never_another_objects() -> None:
    """The strings that were seen are held: else a new one could come to lie where an old one was."""
    array = column()
    flats, before = known(array)
    for _ in range(20):
        array[:] = [f"new {i} {_}" for i in range(len(array))]
        gc.collect()
        assert probe(array, "v", {}, flats=flats).fingerprint != before


def test_nothing_is_held_beyond_the_arrays_own_time() -> None:
    class Text(str):
        __slots__ = ("__weakref__",)

    array = column()
    flats, _ = known(array)
    view = array[:2000]
    probe(view, "v", {}, flats=flats)
    assert len(flats) == 2
    owner = weakref.ref(array)
    del array, view
    gc.collect()
    assert owner() is None and len(flats) == 0


def test_what_holds_more_than_plain_values_goes_by_pickle() -> None:
    array = column()
    array[3] = shared = [1]
    array[9] = shared
    found = probe(array, "v", {}, flats=(flats := Flats()))
    assert not found.abridged and len(flats) == 0 and not probe(array, "v", {}, flats=flats).abridged


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(3000,), (3, 1000), (2, 3, 500), (PIECE + 1, 2)])
def test_shapes_and_orders_come_out_as_they_were(pair: Any, order: Any, shape: tuple[int, ...]) -> None:
    values = np.array([f"v{i}" if i % 3 else i for i in range(int(np.prod(shape)))], dtype=object)
    pair.here["a"] = np.asarray(values.reshape(shape), order=order)
    pair.here["part"] = np.asarray(values.reshape(shape), order=order)[::2]
    pair.send("a", "part")
    for name in ("a", "part"):
        here, there = pair.here[name], pair.there[name]
        assert (here == there).all() and here.shape == there.shape
    assert pair.there["a"].flags.f_contiguous == pair.here["a"].flags.f_contiguous
    assert sorted(pair.send("a", "part").unchanged) == ["a", "part"]


def test_frames_of_strings_both_ways(pair: Any) -> None:
    pair.here["df"] = pd.DataFrame({c: pd.Series([f"{c}{i}" for i in range(5000)], dtype=object) for c in "ab"})
    pair.send("df")
    assert pair.run("n = len(df)").sent.keys() == {"n"}
    before = id(pair.here["df"])
    pair.run("df.iat[4321, 1] = 'changed'")
    assert pair.here["df"].iat[4321, 1] == "changed" and id(pair.here["df"]) == before
    assert list(pair.send("df").unchanged) == ["df"]
    pair.here["df"].iat[1, 0] = "here"
    assert list(pair.send("df").sent) == ["df"] and pair.there["df"].iat[1, 0] == "here"


@pytest.mark.parametrize("order", ["C", "F"])
def test_what_arrived_is_known_without_a_pickle(pair: Any, monkeypatch: pytest.MonkeyPatch, order: Any) -> None:
    pair.here["v"] = np.asarray(np.array([f"v{i}" for i in range(2 * PIECE)], object).reshape(2, PIECE), order=order)
    pair.here["df"] = pd.DataFrame({c: pd.Series([f"{c}{i}" for i in range(5000)], dtype=object) for c in "ab"})
    export = pair.client.export(pair.client.needed(["v", "df"]))
    with monkeypatch.context() as patched:
        patched.setattr("jupyter_gpu.sync.codecs.arrays.pickled", lambda _: 1 / 0)
        pair.carry(export, pair.client, pair.kernel)
        assert pair.kernel.changed(["v", "df"]) == []
    pair.kernel.prune()
    pair.there["v"][1, 7] = "other"
    assert pair.kernel.changed(["v", "df"]) == ["v"]
    pair.kernel.prune()
    pair.there["df"].iat[7, 1] = "other"
    assert pair.kernel.changed(["v", "df"]) == ["v", "df"]


def test_what_writes_while_it_is_rebuilt_is_seen(pair: Any) -> None:
    """Bytes that arrived say nothing of what a ``__setstate__`` then did to what was made of them."""
    code = "class C:\n def __init__(self, a): self.a = a\n def __setstate__(self, s): self.a = s['a']; self.a[3] = 'mine'"
    pair.local(code)
    pair.here["v"] = pair.here["C"](column())
    pair.send("C", "v")
    assert pair.there["v"].a[3] == "mine"
    before = pair.kernel._baseline["v"]
    assert before == probe(pair.there["v"], "v", pair.there).fingerprint and pair.kernel.changed(["v"]) == []


def test_what_is_not_flat_is_not_learned() -> None:
    array, flats = column(), Flats()
    array[5] = [1]
    flats.learn([(array, array.tolist(), b"x" * 9999), (array, [], b""), (column(), column().tolist()[1:], b"x" * 9999)])
    assert len(flats) == 0


def test_an_abridged_probe_is_never_sent(pair: Any) -> None:
    """The array is known, and something beside it has changed."""
    pair.here["v"] = [column(), 1]
    pair.send("v")
    pair.send("v")
    pair.here["v"][1] = 2
    pair.send("v")
    assert pair.there["v"][1] == 2 and (pair.there["v"][0] == pair.here["v"][0]).all()


@pytest.mark.parametrize("make", [list, set, lambda v: dict.fromkeys(v, 1)])
def test_long_containers_go_without_a_memo_and_stay_themselves(pair: Any, make: Any) -> None:
    pair.here["v"] = make([f"k{i}" for i in range(2000)])
    pair.here["w"] = pair.here["v"]
    assert is_long_and_flat(pair.here["v"])
    alone = probe(pair.here["v"], "v", {})
    assert b"\x94" not in alone.stream[-20:] and alone.memo == {id(pair.here["v"]): (0, pair.here["v"])}
    pair.send("v")
    held = pair.there["v"]
    assert held == pair.here["v"]
    (pair.here["v"].add if make is set else lambda x: pair.here["v"].__setitem__(0, x))("new")
    pair.send("v", "w")
    assert pair.there["v"] is held is pair.there["w"] and held == pair.here["v"]


def test_strings_that_repeat_keep_one_object_for_each() -> None:
    import pickle

    few = [["one", "two", "three"][i % 3] for i in range(9000)]
    assert repeats(few) and not repeats([f"{i}" for i in range(9000)]) and not repeats(list(range(9000)))
    assert not repeats(dict.fromkeys(map(str, range(2000)))) and not repeats(set(map(str, range(2000))))
    back = pickle.loads(probe(few, "v", {}).stream)
    assert back == few and len({id(v) for v in back}) == 3


def test_a_session_that_is_over_holds_nothing() -> None:
    namespace = {"v": column()}
    replica = Replica(namespace, "client")
    replica.adopt(["v"])
    assert len(replica._flats) == 1
    replica.reset()
    assert len(replica._flats) == 0


def test_arrow_columns_are_not_copied_to_be_looked_at(pair: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    series = pd.Series([f"text {i}" for i in range(5000)], dtype="string[pyarrow]")
    places = {b.address for b in series.array._pa_array.chunk(0).buffers() if b is not None}
    found = probe(series, "v", {})
    assert {pa.py_buffer(b).address for b in found.buffers} <= places
    pair.here |= {"whole": series, "part": series[1000:1010], "two": pd.concat([series, series])}
    pair.send("whole", "part", "two")
    for name in ("whole", "part", "two"):
        assert pair.there[name].equals(pair.here[name]) and pair.there[name].dtype == pair.here[name].dtype
    assert probe(pair.here["part"], "v", {}).size < 4000, "a slice goes without what it is a slice of"
