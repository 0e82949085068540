"""Which names go, which come back, and what is told of those that cannot."""

from __future__ import annotations

import time
from typing import Any

import pytest

from jupyter_gpu.sync.exceptions import dump_exception, load_exception
from jupyter_gpu.sync.replica import Replica
from jupyter_gpu.wire.errors import ModuleMissing
from jupyter_gpu.wire.messages import CellNames, Snapshot

pytestmark = pytest.mark.timeout(60)


def test_needed_follows_functions_methods_and_containers(pair: Any) -> None:
    pair.local(
        "import json\nbase = 1; unit = 2; other = 3\ndef inner(v): return json.dumps(v * base)\nclass C:\n    def m(self): return [unit for _ in range(2)]\n"
        "tools = {'f': [lambda: inner(1)]}; c = C(); import functools\npart = functools.partial(inner, 2)"
    )
    assert pair.client.needed(["tools"]) == ["base", "inner", "json", "tools"]
    assert pair.client.needed(["c"]) == ["c", "unit"]
    assert pair.client.needed(["part", "nowhere"]) == ["base", "json", "part"]  # inner goes inside of it


def test_13_underscore_out_and_in_travel_when_named(pair: Any) -> None:
    pair.here |= {"_": 41, "Out": {1: [5]}, "In": ["", "x = 1"], "_1": 7, "_i1": "src", "_dh": ["/"]}
    export = pair.run("r = _ + 1, Out[1][0], len(In), _1")
    assert pair.here["r"] == (42, 5, 2, 7) and list(export.sent) == ["r"]
    assert not {"_i1", "_dh"} & pair.there.keys()


def test_what_belongs_to_the_process_stays(pair: Any) -> None:
    from IPython.display import display

    pair.here |= {"display": display, "open": open, "exit": "mine"}
    assert pair.client.needed(["__builtins__", "__name__", "display", "open", "exit"]) == ["exit"]


def test_12_names_made_behind_the_compilers_back(pair: Any) -> None:
    pair.local("src = 'made = [1]'; known = [1]")
    pair.send("known")
    mark = pair.kernel.mark()
    exec("exec('made = [1]; known.append(2)')", pair.there)
    assert pair.kernel.touched(mark, CellNames(star=True)) == ["known", "made"]
    assert pair.kernel.touched(mark, CellNames()) == ["made"]


def test_11_a_name_is_deleted_there_only_if_it_was_there(pair: Any) -> None:
    pair.local("x = 1; never = 2")
    pair.send("x")
    pair.local("del x, never")
    export = pair.client.export(["x", "never"])
    assert export.snapshot.deleted == ["x"] and export.snapshot.stream is None
    pair.carry(export, pair.client, pair.kernel)
    assert "x" not in pair.there and not pair.client.knows("x")


def test_unchanged_in_either_direction(far: Any) -> None:
    far.local(
        "import pandas as pd, numpy as np\nx = [1]; df = pd.DataFrame({'a': [1.5], 's': ['t']}); arr = np.ones(9); f = lambda: x; o = {1, 2}\nclass A:\n    def m(self): return x\na = A(); a.f = f"
    )
    names = ["x", "df", "arr", "f", "o", "A", "a"]
    far.send(*names)
    for _ in range(2):
        snapshot = far.run("(x, df, arr, f, o, A, a.m(), a.f())")
        assert snapshot.names == [] and snapshot.stream is None
        again = far.send(*names)
        assert again.sent == {} and again.stream == b"" and sorted(again.unchanged) == sorted(names)


def test_18_sets_of_strings_are_compared_within_one_process(far: Any) -> None:
    far.local("s = {'alpha', 'beta', 'gamma', 'delta'}")
    far.run("n = len(s)")
    assert list(far.send("s").sent) == [] and list(far.client.export(["s"]).unchanged) == ["s"]


def test_21_nothing_is_bound_where_something_cannot_travel(pair: Any) -> None:
    import threading

    pair.here["model"] = {"layers": [1, {"lock": threading.Lock()}]}
    before = pair.here["model"]["layers"]
    export = pair.client.export(pair.client.needed(["model"]))
    (stuck,) = export.stuck
    assert stuck.path == "model['layers'][1]['lock']" and stuck.name == "model" and not export.sent
    assert pair.here["model"]["layers"] is before


@pytest.mark.parametrize(
    "code",
    [
        "class Bad:\n    def __reduce__(self): raise ValueError('no')\nv = [Bad()]",
        "class Bad:\n    def __getstate__(self): raise SystemError('no')\nv = {'k': Bad()}",
        "class Bad:\n    def __reduce__(self): return 1\nv = Bad()",
        "import sys; v = sys._getframe()",
    ],
)
def test_21_reductions_that_fail_are_told(pair: Any, code: str) -> None:
    pair.local(code)
    export = pair.client.export(["v"])
    assert [s.name for s in export.stuck] == ["v"] and export.stuck[0].reason


def test_23_iterators_are_where_they_were(pair: Any) -> None:
    pair.local("it = iter([1, 2, 3]); next(it); m = map(str, [1, 2]); z = zip([1], [2]); g = (i for i in 'ab')")
    export = pair.client.export(["it", "m", "z", "g"])
    assert [s.name for s in export.stuck] == ["g"]
    here = pair.here
    assert list(here["it"]) == [2, 3] and list(here["m"]) == ["1", "2"] and list(here["z"]) == [(1, 2)] and list(here["g"]) == ["a", "b"]


def test_24_modules_by_name_with_what_values_need(pair: Any) -> None:
    import pandas as pd

    pair.local("import pandas as pd, os.path as p\ndf = pd.DataFrame({'a': [1]}); t = 1")
    assert pair.client.export(["df"]).snapshot.modules["pandas"] == pd.__version__
    assert pair.client.export(["p", "t"]).snapshot.modules == {}
    with pytest.raises(ModuleMissing, match="no_such_module_here"):
        pair.kernel.check(Snapshot(serial=1, modules={"no_such_module_here": "1.2"}))
    assert "pandas is 0.1" in pair.kernel.check(Snapshot(serial=1, modules={"pandas": "0.1"}))[0]


def test_33_a_chain_of_instances_that_is_too_deep_is_told(pair: Any) -> None:
    pair.local("class N: next = None\nhead = tail = N()\nfor _ in range(100_000):\n    tail.next = N(); tail = tail.next\ndel tail")
    (stuck,) = pair.client.export(["head"]).stuck
    assert "deeply" in stuck.reason
    while pair.here["head"] is not None:  # taken apart in steps: its own end would recurse as deep
        pair.here["head"] = pair.here["head"].next


def test_no_names_cost_nothing() -> None:
    replica = Replica({str(i): i for i in range(100)}, "client")
    best = min(_timed(lambda: replica.confirm(replica.export([]))) for _ in range(200))
    assert best < 1e-3, "a thousand times what it should be"  # the real figure is printed by test_speed


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def test_exceptions_with_cause_context_and_notes(pair: Any) -> None:
    pair.local(
        "class Mine(ValueError):\n    def __init__(self, a, b): super().__init__(a, b); self.b = b\nclass Lost(Exception):\n    def __init__(self, a, b): super().__init__(a)"
    )
    Mine, Lost = pair.here["Mine"], pair.here["Lost"]
    try:
        try:
            dict[str, int]()["k"]
        except KeyError as inner:
            error = Mine(1, [2])
            error.__notes__ = ["look"]
            raise error from inner
    except Mine as raised:
        data = dump_exception(raised, pair.here)
        assert raised.__traceback__ is not None
    assert data is not None
    methods = dict(vars(Mine))
    back: Any = load_exception(data, pair.here)
    assert type(back) is Mine and back.args == (1, [2]) and back.b == [2] and back.__notes__ == ["look"] and back.__traceback__ is None
    assert isinstance(back.__cause__, KeyError) and back.__cause__.args == ("k",) and dict(vars(Mine)) == methods
    assert load_exception(dump_exception(Lost(1, 2), pair.here) or b"", pair.here) is None


def test_exceptions_that_do_not_travel_are_none() -> None:
    import threading

    assert dump_exception(ValueError(threading.Lock())) is None
    assert load_exception(b"garbage") is None
    loop = ValueError("a")
    loop.__context__ = TypeError(threading.Lock())
    data = dump_exception(loop)
    assert data is not None and load_exception(data).__context__ is None  # type: ignore[union-attr]


def test_a_value_that_pickles_only_once_still_goes(pair: Any) -> None:
    pair.local("import copyreg\nclass Q:\n    pass\nshots = []\nq = Q(); q.n = 1; x = [q]; y = [q]")
    shots: list[int] = []

    def reduce(q: Any) -> Any:
        shots.append(1)
        if len(shots) > 2:
            raise ValueError("not a third time")
        return pair.here["Q"], ()

    import copyreg

    copyreg.pickle(pair.here["Q"], reduce)
    try:
        export = pair.client.export(["x", "y"])
    finally:
        del copyreg.dispatch_table[pair.here["Q"]]
    assert sorted(export.sent) == ["x", "y"] and not export.stuck and "one by one" in export.warnings[0]
    pair.carry(export, pair.client, pair.kernel)
    assert type(pair.there["x"][0]).__name__ == "Q" and pair.there["x"][0] is not pair.there["y"][0]
