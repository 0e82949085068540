"""Variables that share objects: they go on sharing them at both ends, also with an alias that was not sent."""

from __future__ import annotations

from typing import Any

import pytest

#: kind -> (module it needs, how it is made, how a cell changes it in place, what shows the change)
_IN_PLACE = {
    "list": ("", "x = [1]", "x.append(2)", "x == [1, 2]"),
    "dict": ("", "x = {'a': 1}", "x['b'] = 2", "x == {'a': 1, 'b': 2}"),
    "set": ("", "x = {1}", "x.add(2)", "x == {1, 2}"),
    "bytearray": ("", "x = bytearray(b'a')", "x += b'b'", "x == b'ab'"),
    "BytesIO": ("", "import io; x = io.BytesIO(b'ab')", "x.write(b'z')", "x.getvalue() == b'zb' and x.tell() == 1"),
    "SimpleNamespace": ("", "import types; x = types.SimpleNamespace(a=1)", "x.b = 2", "x.b == 2"),
    "ndarray": ("numpy", "import numpy as np; x = np.zeros(3)", "x[1] = 5", "x.sum() == 5"),
    "large ndarray": ("numpy", "import numpy as np; x = np.zeros(90000)", "x[1] = 5", "x.sum() == 5"),
    "masked array": ("numpy", "import numpy as np; x = np.ma.masked_array([1, 2], [0, 1])", "x[0] = 9", "x.sum() == 9 and x.count() == 1"),
    "Series": ("pandas", "import pandas as pd; x = pd.Series([1, 2])", "x[5] = 9", "x.sum() == 12"),
    "DataFrame": (
        "pandas",
        "import pandas as pd; x = pd.DataFrame({'a': [1]})",
        "x['b'] = 's'; x.loc[0, 'a'] = 3",
        "x.to_dict('list') == {'a': [3], 'b': ['s']}",
    ),
    "tensor": ("torch", "import torch; x = torch.zeros(3)", "x[1] = 5", "float(x.sum()) == 5"),
    "expanded tensor": ("torch", "import torch; x = torch.zeros(1, 3).expand(4, 3)", "x[0, 1] = 5", "float(x.sum()) == 20"),
    "module": (
        "torch",
        "import torch; x = torch.nn.Linear(2, 2)",
        "torch.nn.init.ones_(x.weight); x.extra = 3",
        "float(x.weight.detach().sum()) == 4 and x.extra == 3",
    ),
}


@pytest.mark.parametrize("kind", _IN_PLACE)
def test_02_08_an_alias_that_was_not_sent_sees_a_change_in_place(pair: Any, kind: str) -> None:
    needs, make, change, shows = _IN_PLACE[kind]
    if needs:
        pytest.importorskip(needs)
    pair.local(f"{make}; third = x; inside = {{'deep': [x]}}")
    x = pair.here["x"]
    pair.run("first = id(x)")
    for _ in range(2):
        pair.run(f"{change}; same = id(x) == first")
        assert pair.here["third"] is x and pair.here["inside"]["deep"][0] is pair.here["x"] is x and pair.here["same"]
        change = "pass; x"
    assert eval(shows, dict(pair.here)) and eval(shows, dict(pair.there))
    assert "third" not in pair.there and "inside" not in pair.there


def test_01_sharing_starts_after_both_were_sent_alone(pair: Any) -> None:
    pair.local("a = [1]; b = {'n': 1}")
    pair.run("a, b")
    pair.local("b['a'] = a")
    pair.run("a.append(2); ok = b['a'] is a")
    assert pair.here["ok"] and pair.here["b"]["a"] is pair.here["a"] == [1, 2]
    pair.run("b['a'] = list(a)")
    pair.local("a.append(3)")
    pair.run("r = b['a'], a")
    assert pair.here["r"] == ([1, 2], [1, 2, 3])


def test_04_tied_weights_and_an_optimizer_that_is_sent_later(pair: Any) -> None:
    torch = pytest.importorskip("torch")
    pair.local(
        "import torch\nm = torch.nn.ModuleList([torch.nn.Linear(2, 2, bias=False) for _ in 'ab']); m[1].weight = m[0].weight; w = m[0].weight"
    )
    pair.run("m[0](torch.ones(1, 2)).sum().backward()")
    pair.local("opt = torch.optim.Adam(m.parameters(), lr=.5)")
    pair.run("opt.step(); ok = opt.param_groups[0]['params'][0] is m[1].weight")
    here = pair.here
    assert here["ok"] and here["w"] is here["m"][0].weight is here["m"][1].weight is here["opt"].param_groups[0]["params"][0]
    assert torch.equal(here["w"], pair.there["m"][0].weight) and here["opt"].state[here["w"]]["step"] == 1


def test_03_a_view_made_there_of_what_was_sent_before(pair: Any) -> None:
    pytest.importorskip("numpy")
    pair.local("import numpy as np; b = np.zeros((40, 50))")
    pair.run("row = b[3]; row[0] = 7")
    pair.local("row[1] = 8")
    assert pair.here["b"][3, 1] == 8 and pair.here["b"][3, 0] == 7
    pair.run("b[3, 2] = 9; r = float(row.sum())")
    assert pair.here["r"] == 24 and pair.here["row"][2] == 9


def test_19_what_pickles_differently_each_time_is_sent_each_time(pair: Any) -> None:
    """As some artists of matplotlib do: an order that comes of a set of objects, or an address."""
    pair.local(
        "import itertools\nclass Odd:\n    clock = itertools.count()\n    def __init__(self): self.n = 0\n"
        "    def __getstate__(self): return {'n': self.n, 'at': next(Odd.__dict__['clock'])}\n    clock = None\n"
        "ticks = [0]\ndef state(self):\n    ticks[0] += 1\n    return {'n': self.n, 'at': ticks[0]}\nOdd.__getstate__ = state; x = Odd(); same = x"
    )
    for n in range(1, 4):
        pair.local(f"x.n = {n}")
        export = pair.send("x")
        assert "x" in export.sent and "x" not in export.unchanged and pair.there["x"].n == n
        pair.run(f"x.n = {10 * n}")
        assert pair.here["x"].n == 10 * n and pair.here["same"] is pair.here["x"]


def test_18_a_set_in_another_order_is_the_same_set(pair: Any) -> None:
    pair.local("s = {f'k{i}' for i in range(40)}")
    pair.run("t = sorted(s)")
    pair.local("keep = list(s); s.clear(); s.update(reversed(keep))")
    pair.run("ok = sorted(s) == t; s.add('z')")
    assert pair.here["ok"] and pair.here["s"] == pair.there["s"] == {*pair.here["t"], "z"}
