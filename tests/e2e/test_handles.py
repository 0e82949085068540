"""Values that stay remote, seen from the notebook."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from notebook_driver import Notebook

pytestmark = pytest.mark.timeout(180)
R = "%%remote gpu=H100\n"
MB = 1_000_000


@pytest.fixture(scope="module")
def book(place: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """Its results stay from 1 MB on."""
    found = Notebook(place | {"JUPYTER_GPU_KEEP_ABOVE": "1MB"}, tmp_path_factory.mktemp("work"))
    found.ok("import numpy as np, pandas as pd")
    yield found
    found.close()


def notes(book: Notebook, code: str) -> str:
    return "\n".join(str(d["data"]["text/plain"]) for d in book.ok(code).displays)


def test_a_large_result_stays_and_is_used_there_for_no_bytes(book: Notebook) -> None:
    said = notes(book, R + "import numpy as np\nbig = np.ones(1_000_000); small = np.ones(10)")
    assert "big stays remote: 8 MB, more than keep_above=1 MB; `.fetch()` brings it" in said and "small" not in said
    assert book.value("(type(big).__name__, big.shape, big.dtype, big.size, type(small).__name__)") == (
        "('Handle', (1000000,), 'float64', 8000000, 'ndarray')"
    )
    assert "numpy.ndarray, 1000000, float64, cpu, 8 MB" in book.value("repr(big)")
    book.ok(R + "there = id(big)")
    said = notes(book, R + "print(big.sum(), id(big) == there); big[0] = 5")
    assert re.search(r"already there\)|sent \d+ B", said) and not re.search(r"sent [\d.]+ [KMG]B", said), said
    assert "stays" not in said, "said once"
    assert book.value("float(big.fetch()[0])") == "5.0"


def test_what_the_notebook_had_comes_back(book: Notebook) -> None:
    book.ok("mine = np.zeros(1_000_000); before = id(mine)")
    book.ok(R + "mine[3] = 7; other = mine; mine_too = {'it': mine}")
    assert book.value("(float(mine[3]), id(mine) == before, other is mine, type(mine_too).__name__)") == "(7.0, True, True, 'Handle')"
    book.ok(R + "mine = mine + 1")
    assert book.value("(type(mine).__name__, float(mine[3]))") == "('ndarray', 8.0)"


def test_out_overrides_and_keep_forces(book: Notebook) -> None:
    book.ok("%%remote gpu=H100 out=wanted\nimport numpy as np\nwanted = np.full(500_000, 2.0); unwanted = np.ones(500_000)")
    assert book.value("(type(wanted).__name__, 'unwanted' in globals())") == "('ndarray', False)"
    book.ok("%%remote gpu=H100 keep=few\nfew = [1, 2]")
    book.ok("%%remote gpu=H100\nfew.append(3)")
    assert book.value("(type(few).__name__, few.fetch())") == "('Handle', [1, 2, 3])"
    book.ok("%%remote gpu=H100 out=few\nfew.append(4)")
    assert book.value("few") == "[1, 2, 3, 4]"
    book.ok(R + "few.append(5)")
    assert book.value("few") == "[1, 2, 3, 4, 5]", "it is the notebook's now"


def test_aliases_are_one_handle(book: Notebook) -> None:
    book.ok(R + "one = np.ones(500_000); two = one; third = [one]")
    assert book.value("one is two") == "True"
    assert book.ok(R + "print(one is two, third[0] is one)").text() == "True True\n"
    book.ok("again = one; held = {'deep': [one, 1]}\ndef read(x=two):\n    return float(x.sum())")
    assert book.ok(R + "print(again is one, held['deep'][0] is one, read())").text() == "True True 500000.0\n"
    book.ok(R + "held['deep'].append(two); held['new'] = one")
    assert book.value("(held['deep'][2] is one, held['new'] is one, held['deep'][1])") == "(True, True, 1)", "they come back as handles"
    book.ok(R + "one = 1")
    assert book.ok(R + "print(again is two, again.shape)").text() == "True (500000,)\n", "a handle is of a value, and not of a name"
    assert book.value("(one, float(again.fetch().sum()))") == "(1, 500000.0)"


def test_the_worker_lets_go_of_what_no_handle_stands_for(book: Notebook) -> None:
    book.ok(
        R
        + "import weakref\nclass Big:\n    def __init__(self): self.data = np.ones(500_000)\nlarge = Big(); gone = weakref.WeakValueDictionary(x=large)"
    )
    assert book.value("type(large).__name__") == "Handle"
    book.ok("copy_of = large; del large")
    assert book.ok(R + "print('x' in gone, copy_of.data.size)").text() == "True 500000\n"
    book.ok("del copy_of")
    book.ok(R + "pass")
    assert book.ok(R + "print('x' in gone)").text() == "False\n"


def test_a_frame_shows_its_table_and_a_display_its_handle(book: Notebook) -> None:
    result = book.ok(R + "import pandas as pd\nframe = pd.DataFrame({'col': np.arange(200_000)}); column = frame['col']\nframe")
    assert book.value("(type(frame).__name__, _ is frame)") == "('Handle', True)" and "200000 rows" in str(result.outputs)
    assert "<table" in book.value("frame._repr_html_()") and "<table" in book.value("column._repr_html_()")
    book.ok(R + "np.arange(300_000.0)")
    assert book.value("(type(_).__name__, float(_.fetch()[7]))") == "('Handle', 7.0)"
    assert book.ok(R + "print(_.shape)").text() == "(300000,)\n"


def test_names_that_the_code_of_a_kept_value_uses(book: Notebook) -> None:
    book.ok("log = []\nclass Trainer:\n    def __init__(self): self.weights = np.ones(500_000)\n    def step(self): log.append(len(log))")
    book.ok(R + "trainer = Trainer()")
    book.ok(R + "trainer.step()")
    book.ok(R + "trainer.step()")
    assert book.value("(type(trainer).__name__, log)") == "('Handle', [0, 1])"


def test_everything_stays_or_nothing_does(book: Notebook) -> None:
    book.ok("import os; os.environ['JUPYTER_GPU_KEEP_ABOVE'] = '0'")
    book.ok(R + "tiny = [1]\ndef code(): pass")
    assert book.value("(type(tiny).__name__, type(code).__name__)") == "('Handle', 'function')"
    book.ok("os.environ['JUPYTER_GPU_KEEP_ABOVE'] = 'off'")
    book.ok(R + "huge = np.ones(40_000_000)")
    assert book.value("type(huge).__name__") == "ndarray"
    book.ok("del huge; os.environ['JUPYTER_GPU_KEEP_ABOVE'] = 'much'")
    assert "keep_above" in book.run(R + "pass").error["evalue"]  # type: ignore[index]
    book.ok("os.environ['JUPYTER_GPU_KEEP_ABOVE'] = '1MB'")


def test_using_it_here_and_after_the_end(fresh: Notebook) -> None:
    fresh.ok("%%remote gpu=H100 keep=it\nit = [1, 2, 3]")
    for use in ("it + 1", "it == 1", "len(it)", "it.append", "list(it)", "import pickle; pickle.dumps(it)", "import copy; copy.copy(it)"):
        error = fresh.run(use).error
        assert error is not None and error["ename"] == "HandleError" and "it.fetch()" in error["evalue"], use
    fresh.ok("%remote stop")
    assert "session has ended" in fresh.value("repr(it)")
    error = fresh.run("it + 1").error
    assert error is not None and "session has ended" in error["evalue"]
    error = fresh.run(R + "it").error
    assert error is not None and "ended" in error["evalue"]
    assert "SessionLost" in fresh.run("it.fetch()").error["ename"]  # type: ignore[index]


def test_tensors_of_a_device(fresh: Notebook, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    said = notes(
        fresh,
        R + "import torch\nw = torch.zeros(3, device='meta'); layer = torch.nn.Linear(2, 2, device='meta'); ws = [w]; x = torch.ones(2)",
    )
    assert "w stays on meta" in said and "layer stays on meta" in said and "ws stays on meta" in said
    assert fresh.value("(w.device, w.dtype, w.shape, type(x).__name__)") == "('meta', 'torch.float32', (3,), 'Tensor')"
    assert fresh.ok(R + "print(ws[0] is w, layer(torch.zeros(1, 2, device='meta')).shape)").text() == "True torch.Size([1, 2])\n"


def test_a_handle_is_fetched_where_only_data_is_trusted(place: dict[str, str], tmp_path: Path) -> None:
    book = Notebook(place | {"JUPYTER_GPU_KEEP_ABOVE": "1MB", "JUPYTER_GPU_TRUST": "data"}, tmp_path)
    try:
        book.ok("import numpy as np; box = []")
        book.ok(R + "import numpy as np\nbig = np.arange(500_000.0); box.append(big)")
        assert book.value("(type(big).__name__, box[0] is big, float(big.fetch()[7]))") == "('Handle', True, 7.0)"
    finally:
        book.close()
