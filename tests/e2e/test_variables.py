"""SYNC-HAZARDS seen from the notebook: each test is a cell, or a few, as a person would write them."""

from __future__ import annotations

import pytest
from notebook_driver import Notebook

pytestmark = pytest.mark.timeout(180)
R = "%%remote gpu=H100\n"


def test_goes_along_and_comes_back(notebook: Notebook) -> None:
    notebook.ok("a = [1, 2]; b = {'k': a}")
    notebook.ok(R + "a.append(3); c = sum(a)")
    assert notebook.value("(a, b, c, b['k'] is a)") == "([1, 2, 3], {'k': [1, 2, 3]}, 6, True)"


def test_aliases_hold_at_both_ends(notebook: Notebook) -> None:  # hazards 1, 2
    notebook.ok("x = [1]; y = x; z = {'deep': [x]}")
    assert notebook.ok(R + "print(x is y); y.append(2)").text() == "True\n"
    assert notebook.value("(x is y, z['deep'][0] is x, x)") == "(True, True, [1, 2])"


def test_functions_read_current_globals(notebook: Notebook) -> None:  # hazard 5
    notebook.ok("scale = 2\ndef times(v):\n    return v * scale\ndef bump():\n    global scale\n    scale += 1")
    assert notebook.ok(R + "print(times(10)); scale = 5; print(times(10)); bump(); print(scale)").text() == "20\n50\n6\n"
    assert notebook.value("(scale, times(10))") == "(6, 60)"


def test_functions_made_remotely(notebook: Notebook) -> None:
    notebook.ok(R + "unit = 3\ndef made(v):\n    return v + unit")
    assert notebook.value("made(1)") == "4"
    notebook.ok("unit = 10")
    assert notebook.value("made(1)") == "11"
    assert notebook.ok(R + "made(1)").results == ["11"]


def test_classes_keep_their_identity(notebook: Notebook) -> None:  # hazards 6, 7
    notebook.ok("class Account:\n    opened = 0\n    def __init__(self): self.n = 1\nacc = Account()")
    notebook.ok(R + "other = Account(); Account.opened += 1; acc.n = 5")
    assert notebook.value("(isinstance(other, Account), type(other) is Account, Account.opened, acc.n)") == "(True, True, 1, 5)"
    assert notebook.ok(R + "print(isinstance(acc, Account), isinstance(other, Account))").text() == "True True\n"


def test_in_place_changes_keep_the_id(notebook: Notebook) -> None:  # hazard 8
    notebook.ok(
        "import numpy as np, pandas as pd\nl=[1]; d={'a':1}; s={1}; arr=np.zeros(4); df=pd.DataFrame({'a':[1,2]})\nbefore = {k: id(v) for k, v in dict(l=l,d=d,s=s,arr=arr,df=df).items()}"
    )
    notebook.ok(R + "l.append(2); d['b']=2; s.add(2); arr[1]=7; df['c']=df['a']*10")
    assert (
        notebook.value("(l, d, s, arr.tolist(), df['c'].tolist())") == "([1, 2], {'a': 1, 'b': 2}, {1, 2}, [0.0, 7.0, 0.0, 0.0], [10, 20])"
    )
    assert notebook.value("all(id(v) == before[k] for k, v in dict(l=l,d=d,s=s,arr=arr,df=df).items())") == "True"


def test_equal_big_arrays_are_two_arrays(notebook: Notebook) -> None:
    """Their bytes are the same chunk: both ends get memory of its own for each."""
    notebook.ok("import numpy as np; a = np.zeros(100_000); b = np.zeros(100_000)")
    notebook.ok(R + "print(a.sum() + b.sum()); a[0] = 1; c = np.zeros(50_000); d = c.copy()")
    notebook.ok("c[1] = 5")
    assert notebook.value("tuple(float(v) for v in (a[0], b[0], c[1], d[1]))") == "(1.0, 0.0, 5.0, 0.0)"


def test_more_than_the_chunk_store_keeps_travels_in_one_cell(notebook: Notebook) -> None:
    notebook.ok("import numpy as np; parts = [np.full(8_000_000, float(i)) for i in range(9)]")  # 576 MB
    assert notebook.ok("%%remote gpu=H100 out=twice\nprint(sum(p[-1] for p in parts)); twice = [p * 2 for p in parts]").text() == "36.0\n"
    assert notebook.value("[float(t[0]) for t in twice]") == "[0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0]"
    notebook.ok("del parts, twice")


def test_fit_comes_back(notebook: Notebook) -> None:
    notebook.ok("from sklearn.linear_model import LinearRegression\nm = LinearRegression(); mid = id(m); X = [[0],[1],[2]]; Y = [1,3,5]")
    notebook.ok(R + "m.fit(X, Y)")
    assert notebook.value("(round(float(m.predict([[3]])[0]), 6), id(m) == mid)") == "(7.0, True)"


def test_changes_before_an_error_come_back(notebook: Notebook) -> None:  # hazard 9
    notebook.ok("log = []")
    assert (
        notebook.run(R + "log.append('before'); half = 1\nraise RuntimeError('stop')\nlog.append('after')").error["ename"] == "RuntimeError"
    )
    assert notebook.value("(log, half)") == "(['before'], 1)"


def test_deletion_follows(notebook: Notebook) -> None:  # hazard 11
    notebook.ok("doomed = 1")
    notebook.ok(R + "del doomed")
    assert notebook.value("'doomed' in globals()") == "False"


def test_names_made_dynamically(notebook: Notebook) -> None:  # hazard 12
    notebook.ok("source = 'dyn = hidden_one + 1'; hidden_one = 41")
    notebook.ok(R + "from math import *\nexec(source)\nglobals()['made_by_globals'] = 1")
    assert notebook.value("(dyn, floor(2.5), made_by_globals)") == "(42, 2, 1)"


def test_missed_names_are_fetched(notebook: Notebook) -> None:
    notebook.ok("secret_name = 'fetched'")
    assert (
        notebook.ok(
            R
            + "print(eval('secret' + '_name'))\nclass C:\n    v = eval('secret' + '_name')\nprint([eval('secret' + '_name') for _ in (1,)], C.v)"
        ).text()
        == "fetched\n['fetched'] fetched\n"
    )


def test_received_arrays_are_writable(notebook: Notebook) -> None:  # hazards 16, 17
    notebook.ok(
        "import numpy as np\nf = np.asfortranarray(np.arange(6.).reshape(2, 3)); st = np.arange(10)[::2]; z = np.array(5); rec = np.zeros(2, dtype=[('a','i4'),('b','f8')])"
    )
    notebook.ok(R + "import numpy as np\nf[0,0]=9; st[0]=9; z[()]=9; rec['a'][0]=9; big = np.zeros(300_000); big[0]=1")
    assert (
        notebook.value("(f[0,0], int(st[0]), int(z), int(rec['a'][0]), f.flags.f_contiguous)").replace("np.float64(9.0)", "9.0")
        == "(9.0, 9, 9, 9, True)"
    )
    notebook.ok("big[1] = 2")


def test_unchanged_is_not_sent_again(notebook: Notebook) -> None:
    notebook.ok("import numpy as np\nbulk = np.random.default_rng(0).random(4_000_000)")
    first = notebook.ok(R + "bulk.sum()").summary
    again = notebook.ok(R + "bulk.sum()").summary
    assert "32" in first and "MB" in first
    assert "already there" in again and "sent 32" not in again, again


def test_what_cannot_travel_is_named_before_the_cell_runs(notebook: Notebook) -> None:  # hazard 21
    notebook.ok("import threading\nconfig = {'inner': [1, threading.Lock()]}; ran = 0")
    result = notebook.run(R + "ran = 1\nprint(config)")
    assert result.error is not None
    assert "config['inner'][1]" in result.traceback and "lock" in result.traceback
    assert notebook.value("(ran, config['inner'][0])") == "(0, 1)"
    assert "File" not in result.traceback, "a traceback of ours"


def test_what_cannot_come_back_stays_as_a_handle(notebook: Notebook) -> None:
    result = notebook.ok(R + "import threading\nlk = threading.Lock(); fine = 2")
    assert notebook.value("fine") == "2"
    assert notebook.value("type(lk).__name__") == "Handle"
    assert "lk" in str([d["data"] for d in result.displays])
    assert notebook.ok(R + "print(lk.acquire(False))").text() == "True\n"


def test_keep_and_fetch(notebook: Notebook) -> None:
    notebook.ok("%%remote gpu=H100 keep=weights\nimport numpy as np\nweights = np.ones(5)")
    assert notebook.value("type(weights).__name__") == "Handle"
    assert notebook.ok(R + "print(weights.sum())").text() == "5.0\n"
    assert "remote" in notebook.run("weights + 1").traceback
    assert notebook.value("float(weights.fetch().sum())") == "5.0"


def test_generators_are_not_consumed(notebook: Notebook) -> None:  # hazard 23
    notebook.ok("gen = (i for i in range(3))")
    assert notebook.run(R + "list(gen)").error is not None
    assert notebook.value("list(gen)") == "[0, 1, 2]"


def test_missing_module_is_named_before_the_cell_runs(notebook: Notebook) -> None:  # hazard 24
    notebook.ok(
        "import sys, types\nphantom = types.ModuleType('phantom'); phantom.__version__ = '1.2'; sys.modules['phantom'] = phantom; ran = 0"
    )
    result = notebook.run(R + "ran = 1; phantom")
    assert result.error is not None and "phantom" in result.traceback and "1.2" in result.traceback
    assert notebook.value("ran") == "0"


def test_local_python_files_travel(notebook: Notebook) -> None:  # hazard 24
    notebook.ok("open('helper_mod.py', 'w').write('def f():\\n    return 1\\n')\nimport helper_mod")
    assert notebook.ok(R + "print(helper_mod.f())").text() == "1\n"


def test_a_local_change_makes_the_remote_copy_stale(notebook: Notebook) -> None:  # hazard 30
    notebook.ok("state = {'n': 1}")
    notebook.ok(R + "state['n'] += 1")
    notebook.ok("state['n'] += 10")
    assert notebook.ok(R + "print(state['n'])").text() == "12\n"


def test_in_and_out_options(notebook: Notebook) -> None:
    notebook.ok("p = 1; q = 2; unused_here = 3")
    notebook.ok("%%remote gpu=H100 in=p,q out=r\nr = p + q; t = 5; p = 100")
    assert notebook.value("(r, p, 't' in globals())") == "(3, 1, False)"
    assert "nosuch" in notebook.run("%%remote gpu=H100 in=nosuch\npass").traceback


def test_second_session_by_name(notebook: Notebook) -> None:
    one = notebook.ok("%%remote gpu=cpu\nimport os; print(os.getpid())").text()
    two = notebook.ok("%%remote gpu=cpu name=second\nimport os; print(os.getpid())").text()
    assert one != two
    assert notebook.ok("%%remote gpu=cpu name=second\nimport os; print(os.getpid())").text() == two
    notebook.ok("%remote stop second")


def test_cycles_and_shared_structures(notebook: Notebook) -> None:
    notebook.ok("loop = []; loop.append(loop); pair = (loop, loop)")
    assert notebook.ok(R + "print(loop[0] is loop, pair[0] is pair[1] is loop)").text() == "True True\n"


def test_value_of_a_module_that_only_the_worker_has_stays_there(fresh: Notebook) -> None:
    fresh.ok(
        R + "import os, sys, tempfile\nfolder = tempfile.mkdtemp(); sys.path.insert(0, folder)\n"
        "_ = open(os.path.join(folder, 'only_there.py'), 'w').write('class Thing:\\n    n = 3\\n')"
    )
    result = fresh.ok(R + "import only_there\nthing = only_there.Thing(); plain = [1, 2]; things = [thing]\nthing")
    shown = str(result.outputs)
    assert "thing stays remote" in shown and "needs only_there" in shown and "Traceback" not in shown
    assert fresh.value("(plain, type(thing).__name__, things.type, 'only_there' in repr(only_there))") == "([1, 2], 'Handle', 'list', True)"
    assert fresh.ok(R + "print(thing.n, things[0] is thing, len(plain))").text() == "3 True 2\n"
    error = fresh.run("thing.fetch()").error
    assert error is not None and "only_there" in error["evalue"] and "install" in error["evalue"]
    error = fresh.run("only_there.Thing").error
    assert error is not None and "not installed here" in error["evalue"]
    assert fresh.value("'Thing' in repr(_)") == "True"


def test_large_displayed_value_is_a_handle_in_out(fresh: Notebook) -> None:
    fresh.ok(R + "import numpy as np\nnp.arange(2_000_000.0)")
    assert fresh.value("type(_).__name__") == "Handle"
    fresh.ok("h = Out[2]; number = max(Out)")
    assert fresh.value("(h.shape, h.dtype, float(h.fetch()[7]))") == "((2000000,), 'float64', 7.0)"
    fresh.ok(R + "b = np.zeros(2_000_000)\nb")
    assert fresh.value("(Out[max(Out)] is b, type(b).__name__)") == "(True, 'ndarray')", "a value that comes back anyway is no handle"
    fresh.ok(R + "b")
    assert fresh.value("Out[max(Out)] is b") == "True"
    assert fresh.value("float(h.fetch()[8])") == "8.0", "another cell's result is another value"


def test_random_generators(fresh: Notebook) -> None:  # hazard 26
    """As docs/variables.md has it: a generator moves with its state, the global ones belong to their process."""
    fresh.ok("import random, numpy as np\nr = random.Random(0); g = np.random.default_rng(0)")
    fresh.ok(
        "a = random.Random(0); want = [a.random() for _ in range(3)]; b = np.random.default_rng(0); want_g = [float(b.random()) for _ in range(3)]"
    )
    fresh.ok("got = [r.random()]; got_g = [float(g.random())]")
    fresh.ok(R + "got.append(r.random()); got_g.append(float(g.random()))")
    fresh.ok("got.append(r.random()); got_g.append(float(g.random()))")
    assert fresh.value("(got == want, got_g == want_g)") == "(True, True)"
    fresh.ok("random.seed(0); np.random.seed(0)")
    fresh.ok(R + "import random, numpy as np\nrandom.seed(7); np.random.seed(7)\n[random.random() for _ in range(9)]; np.random.rand(9)")
    fresh.ok("first = random.random() == random.Random(0).random(), float(np.random.rand()) == float(np.random.RandomState(0).rand())")
    assert fresh.value("first") == "(True, True)", "what the worker draws moves nothing here"
