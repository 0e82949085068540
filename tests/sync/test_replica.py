"""SYNC-HAZARDS, between two replicas; the numbers in the names are its."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jupyter_gpu.wire.errors import SnapshotRefused


def test_01_aliases_travel_in_one_memo(pair: Any) -> None:
    pair.local("x = [1]; y = x; z = {'x': x}")
    pair.run("assert x is y and z['x'] is x; y.append(2)")
    assert pair.here["x"] == [1, 2] and pair.here["x"] is pair.here["y"] is pair.here["z"]["x"]


def test_02_a_third_alias_sees_the_change(pair: Any) -> None:
    pair.local("x = [1]; z = x; deep = {'a': [x]}")
    pair.run("x.append(2)")
    assert pair.here["z"] == [1, 2] and pair.here["deep"]["a"][0] is pair.here["x"]


def test_02_inner_objects_keep_their_identity(pair: Any) -> None:
    pair.local("tree = {'left': [1], 'right': [2]}; left = tree['left']")
    pair.run("tree['left'].append(3)")
    assert pair.here["left"] == [1, 3] and pair.here["tree"]["left"] is pair.here["left"]


def test_aliases_across_several_cells(pair: Any) -> None:
    pair.local("a = [1]; b = [a]")
    pair.run("a.append(2)")
    pair.run("c = b[0]; c.append(3)")
    pair.local("a.append(4)")
    pair.run("assert b[0] is a is c and a == [1, 2, 3, 4]; d = [c]")
    assert pair.here["d"][0] is pair.here["a"] is pair.here["c"]


def test_05_functions_read_current_globals_and_write_them(pair: Any) -> None:
    pair.local("k = 2\ndef f(v):\n    return v * k\ndef g():\n    global k\n    k = 7")
    pair.run("r = f(1); k = 3; s = f(1); g(); t = f(1)")
    assert (pair.here["r"], pair.here["s"], pair.here["t"], pair.here["k"], pair.here["f"](1)) == (2, 3, 7, 7, 7)
    assert pair.there["f"].__globals__ is pair.there and pair.here["f"].__globals__ is pair.here


def test_05_closures_share_their_cells(pair: Any) -> None:
    pair.local(
        "def make():\n    n = 0\n    def inc():\n        nonlocal n\n        n += 1\n        return n\n    def get():\n        return n\n    return inc, get\ninc, get = make()"
    )
    pair.run("inc(); inc(); seen = get()")
    assert pair.here["seen"] == 2 and pair.here["get"]() == 2 and pair.here["inc"]() == 3 and pair.here["get"]() == 3


def test_05_recursive_and_mutual_functions(pair: Any) -> None:
    pair.local(
        "def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n != 0 and even(n - 1)\ndef outer():\n    def fact(n): return 1 if n < 2 else n * fact(n - 1)\n    return fact\nfact = outer()"
    )
    pair.run("r = even(10), fact(5)")
    assert pair.here["r"] == (True, 120)


def test_07_class_attributes_come_back(pair: Any) -> None:
    pair.local("class A:\n    n = 0\n    def up(self): A.n += 1\na = A()")
    before = pair.here["A"]
    pair.run("a.up(); b = A()")
    assert pair.here["A"] is before and before.n == 1 and type(pair.here["b"]) is before


@pytest.mark.parametrize(
    ("make", "change", "expected"),
    [
        ("[1]", "v.append(2)", [1, 2]),
        ("{'a': 1}", "v['b'] = 2", {"a": 1, "b": 2}),
        ("{1}", "v.add(2)", {1, 2}),
        ("bytearray(b'a')", "v += b'b'", bytearray(b"ab")),
        ("__import__('collections').deque([1])", "v.append(2)", __import__("collections").deque([1, 2])),
        ("__import__('collections').defaultdict(list)", "v['k'].append(1)", {"k": [1]}),
        ("__import__('collections').Counter('a')", "v['b'] += 2", {"a": 1, "b": 2}),
        ("__import__('types').SimpleNamespace(a=1)", "v.b = 2", __import__("types").SimpleNamespace(a=1, b=2)),
    ],
)
def test_08_in_place_changes_keep_the_object(pair: Any, make: str, change: str, expected: Any) -> None:
    pair.local(f"v = {make}; alias = v")
    pair.run(change)
    assert pair.here["v"] == expected and pair.here["alias"] is pair.here["v"]


def test_08_arrays_and_frames(pair: Any) -> None:
    pair.local(
        "import numpy as np, pandas as pd\na = np.zeros(5); df = pd.DataFrame({'x': [1, 2], 's': ['u', 'v']}); ser = df['x'].copy(); ids = id(a), id(df), id(ser)"
    )
    pair.run("a[2] = 5; df['c'] = df['x'] * 2; df.loc[0, 'x'] = 9; ser.iloc[0] = 7")
    here = pair.here
    assert (id(here["a"]), id(here["df"]), id(here["ser"])) == here["ids"]
    assert (
        here["a"].tolist() == [0, 0, 5, 0, 0]
        and here["df"].to_dict("list") == {"x": [9, 2], "s": ["u", "v"], "c": [2, 4]}
        and here["ser"].tolist() == [7, 2]
    )


def test_08_where_in_place_is_impossible_every_alias_is_rebound(pair: Any) -> None:
    pair.local("import numpy as np\na = np.zeros(3); b = a; held = [a]")
    pair.run("a.shape = (3, 1); a[2, 0] = 1")
    assert pair.here["a"].tolist() == [[0], [0], [1]] and pair.here["b"] is pair.here["a"] is pair.here["held"][0]


def test_08_slots_and_properties(pair: Any) -> None:
    pair.local("class S:\n    __slots__ = ('a', 'b')\ns = S(); s.a = 1; t = s")
    pair.run("s.b = 2; del s.a")
    assert pair.here["t"] is pair.here["s"] and pair.here["s"].b == 2 and not hasattr(pair.here["s"], "a")


def test_09_changes_before_an_error_come_back(pair: Any) -> None:
    pair.local("log = []")
    with pytest.raises(ZeroDivisionError):
        pair.run("log.append(1); made = 2; 1 / 0; log.append(3)")
    assert pair.here["log"] == [1] and pair.here["made"] == 2


def test_11_deletion(pair: Any) -> None:
    pair.local("x = 1; y = 2")
    pair.run("del x")
    assert "x" not in pair.here and pair.here["y"] == 2


def test_12_names_made_by_exec(pair: Any) -> None:
    pair.local("src = 'made = 5'")
    pair.run("exec(src)")
    assert pair.here["made"] == 5


def test_16_17_arrays_arrive_writable_and_as_they_were(pair: Any) -> None:
    pair.local(
        "import numpy as np\nf = np.asfortranarray(np.arange(6.).reshape(2, 3)); st = np.arange(10)[::3]; z = np.array(5); big = np.zeros(100_000)\n"
        "rec = np.zeros(2, dtype=[('a', 'i4'), ('b', 'f8')]); zs = np.broadcast_to(np.float64(3), (4,)); ob = np.array([[1], 'x', None], dtype=object)"
    )
    pair.run("f[0, 0] = 9; st[0] = 9; z[()] = 9; rec['a'][0] = 9; big[7] = 1; ob[0].append(2); q = zs.sum()")
    here = pair.here
    assert here["f"].flags.f_contiguous and here["f"][0, 0] == 9 and here["st"].tolist() == [9, 3, 6, 9] and here["z"][()] == 9
    assert here["rec"]["a"].tolist() == [9, 0] and here["big"][7] == 1 and here["ob"][0] == [1, 2] and here["q"] == 12


def test_unchanged_is_not_sent_again(pair: Any) -> None:
    pair.local("import numpy as np\na = np.arange(1000); l = [a]; s = {'x', 'y'}; d = {'k': l}")
    pair.send("a", "l", "s", "d")
    again = pair.send("a", "l", "s", "d")
    assert again.sent == {} and again.snapshot.stream is None and sorted(again.unchanged) == ["a", "d", "l", "s"]
    assert pair.run("t = a.sum()").sent.keys() == {"t"}


def test_30_a_local_change_makes_the_copy_stale(pair: Any) -> None:
    pair.local("s = {'n': 1}")
    pair.run("s['n'] += 1")
    pair.local("s['n'] += 10")
    pair.run("s['n'] += 100")
    assert pair.here["s"] == {"n": 112}


def test_19_unstable_fingerprints_are_sent_again(pair: Any) -> None:
    pair.local("import random\nclass U:\n    def __getstate__(self): return {'r': random.random()}\nu = U()")
    pair.send("u")
    assert list(pair.send("u").sent) == ["u"]


def test_20_one_value_is_pickled_once(pair: Any) -> None:
    pair.local("calls = []\nclass C:\n    def __getstate__(self):\n        CALLS.append(1)\n        return {}\n")
    calls: list[int] = []
    pair.here["CALLS"] = pair.there["CALLS"] = calls
    pair.local("c = C()")
    export = pair.client.export(["c"])
    assert not export.stuck and len(calls) == 1


@pytest.mark.parametrize(
    ("code", "path", "type_"),
    [
        ("import threading; v = {'in': [1, threading.Lock()]}", "v['in'][1]", "lock"),
        ("v = (i for i in range(3))", "v", "generator"),
        ("import types, threading; v = types.SimpleNamespace(a=[{'b': threading.Lock()}])", "v.a[0]['b']", "lock"),
        ("import socket; v = [socket.socket()]", "v[0]", "socket.socket"),
    ],
)
def test_21_what_cannot_travel_is_named_with_its_path(pair: Any, code: str, path: str, type_: str) -> None:
    pair.local(code)
    export = pair.client.export(pair.client.needed(["v"]))
    (stuck,) = export.stuck
    assert stuck.path == path and type_ in stuck.type and stuck.reason
    assert export.snapshot.stream is None


def test_21_the_rest_still_travels(pair: Any) -> None:
    pair.here |= {"bad": threading.Lock(), "good": 1}
    export = pair.client.export(["bad", "good"])
    assert [s.name for s in export.stuck] == ["bad"] and list(export.sent) == ["good"]


def test_22_what_means_nothing_elsewhere_is_said(pair: Any, tmp_path: Any) -> None:
    (tmp_path / "f").write_text("x")
    with open(tmp_path / "f") as file:
        pair.here["f"] = file
        export = pair.client.export(["f"])
    assert "open file" in str(export.warnings) + str(export.stuck)


def test_23_generators_are_not_consumed(pair: Any) -> None:
    pair.local("g = (i for i in range(3)); it = iter([1, 2, 3])")
    export = pair.client.export(["g", "it"])
    assert [s.name for s in export.stuck] == ["g"]
    assert list(pair.here["g"]) == [0, 1, 2] and list(pair.here["it"]) == [1, 2, 3]


def test_24_modules_travel_by_name(pair: Any) -> None:
    pair.local("import json, numpy as np")
    export = pair.send("np", "json")
    assert pair.there["np"] is np and export.snapshot.modules == {"numpy": np.__version__}


class Bomb:
    def __setstate__(self, state: Any) -> None:
        raise RuntimeError("boom")


@pytest.mark.parametrize("order", [("a", "bomb", "z"), ("bomb", "a", "z"), ("a", "z", "bomb")])
def test_29_half_a_sync_is_no_sync(pair: Any, order: tuple[str, ...]) -> None:
    pair.local("a = [1]; z = {'k': a}")
    pair.send("a", "z")
    pair.there["bomb"] = Bomb()
    pair.there["bomb"].x = 1
    pair.there["a"].append(2)
    pair.there["z"]["new"] = 3
    before = pair.here["a"]
    export = pair.kernel.export(order)
    with pytest.raises(SnapshotRefused, match="boom"):
        pair.carry(export, pair.kernel, pair.client)
    assert pair.here["a"] == [1] and pair.here["a"] is before and pair.here["z"] == {"k": before} and "bomb" not in pair.here


def test_29_an_error_while_committing_is_undone(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from jupyter_gpu.sync import apply

    pair.local("a = [1]; b = {'x': 1}; c = 5")
    pair.send("a", "b", "c")
    pair.there["a"].append(2)
    pair.there["b"]["y"] = 2
    pair.there["c"] = 6
    export = pair.kernel.export(["a", "b", "c"])
    bind, calls = apply._bind, []

    def failing(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise MemoryError
        return bind(*args)

    monkeypatch.setattr(apply, "_bind", failing)
    with pytest.raises(SnapshotRefused):
        pair.carry(export, pair.kernel, pair.client)
    assert (pair.here["a"], pair.here["b"], pair.here["c"]) == ([1], {"x": 1}, 5)


def test_32_singletons_and_enum_members(pair: Any) -> None:
    pair.local("import enum\nclass E(enum.Enum):\n    A = 1\n    B = 2\ne = E.A; n = None; el = ...")
    pair.run("ok = e is E.A and n is None and el is ...; f = E.B")
    assert pair.here["ok"] and pair.here["f"] is pair.here["E"].B


def test_33_cycles_and_depth(pair: Any) -> None:
    pair.local("a = []; a.append(a); d = {}; d['self'] = d\nclass N: pass\nn = N(); n.me = n")
    pair.run("ok = a[0] is a and d['self'] is d and n.me is n; a.append(1); d['k'] = 2; n.v = 3")
    here = pair.here
    assert (
        here["ok"]
        and here["a"][0] is here["a"]
        and here["a"][1] == 1
        and here["d"]["k"] == 2
        and here["n"].me is here["n"]
        and here["n"].v == 3
    )
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    here["deep"] = deep
    (stuck,) = pair.client.export(["deep"]).stuck
    assert "deep" in stuck.reason
    while deep:
        deep = deep.pop()


def test_objects_that_nobody_holds_are_let_go(pair: Any) -> None:
    for i in range(5):
        pair.local(f"batch = [{i}, [0] * 10]")
        pair.send("batch")
    assert len(pair.client.objects) <= 2 and len(pair.kernel.objects) <= 2


def test_a_reset_peer_gets_everything_again(pair: Any) -> None:
    pair.local("x = [1]")
    pair.send("x")
    pair.kernel.reset()
    pair.there.pop("x")
    pair.client.reset()
    assert list(pair.send("x").sent) == ["x"] and pair.there["x"] == [1]


def test_an_object_that_the_other_end_lost_is_made_anew(pair: Any) -> None:
    pair.local("x = [1]; y = x")
    pair.send("x", "y")
    pair.kernel.reset()
    pair.there.clear()
    pair.local("x.append(2)")
    pair.carry(pair.client.export(["x", "y"]), pair.client, pair.kernel)
    assert pair.there["x"] == [1, 2] and pair.there["x"] is pair.there["y"]


def test_a_value_left_out_as_unchanged_that_is_not_there_is_refused_as_stale(pair: Any) -> None:
    from jupyter_gpu.sync.apply import STALE

    pair.local("x = [1]")
    pair.send("x")
    pair.kernel.reset()
    pair.there.pop("x")
    pair.local("y = [x]")
    export = pair.client.export(["x", "y"])
    assert list(export.unchanged) == ["x"]
    with pytest.raises(SnapshotRefused, match=STALE):
        pair.carry(export, pair.client, pair.kernel)
    assert "y" not in pair.there


def test_estimators_keep_their_identity(pair: Any) -> None:
    pair.local(
        "from sklearn.linear_model import LinearRegression\nm = LinearRegression(); same = m\nimport numpy as np\nX = np.arange(6.).reshape(3, 2); y = X[:, 0] * 2"
    )
    pair.run("_r = m.fit(X, y)")
    assert pair.here["same"] is pair.here["m"] and np.allclose(pair.here["m"].predict(pair.here["X"]), pair.here["y"])


def test_frames_with_odd_columns(pair: Any) -> None:
    pair.local(
        "import pandas as pd\ndf = pd.DataFrame({'c': pd.Categorical(['a', 'b']), 't': pd.to_datetime(['2020', '2021']).tz_localize('UTC'), 'n': pd.array([1, None], dtype='Int64')}, "
        "index=pd.MultiIndex.from_tuples([(1, 'x'), (2, 'y')]))"
    )
    pair.run("copy = df.copy(); same = df.equals(copy)")
    assert pair.here["same"]
    pd.testing.assert_frame_equal(pair.here["copy"], pair.here["df"])


def test_speed_is_printed(pair: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pair.local(
        "import numpy as np, pandas as pd\nints = list(range(1_000_000)); objs = {i: {'v': i} for i in range(100_000)}; arr = np.random.default_rng(0).random(32 << 20)\ndf = pd.DataFrame({'a': np.arange(1_000_000), 'b': ['text'] * 1_000_000})"
    )
    rows = []
    for name in ("ints", "objs", "df", "arr"):
        times = []
        for _ in range(2):
            began = time.perf_counter()
            export = pair.send(name)
            times.append((time.perf_counter() - began) * 1e3)
        assert not export.sent, name
        rows.append(f"{name}: first {times[0]:.0f} ms, unchanged {times[1]:.0f} ms")
    with capsys.disabled():
        print("\n  " + "; ".join(rows))


def test_what_python_notes_of_warnings_belongs_to_its_process(pair: Any) -> None:
    pair.run(
        "import warnings\nwith warnings.catch_warnings(record=True):\n    warnings.simplefilter('default')\n    warnings.warn('x')\nn = 1"
    )
    assert "__warningregistry__" in pair.there and "__warningregistry__" not in pair.here and pair.here["n"] == 1
