"""A notebook whose gateway is trusted with data alone: the whole way, with real workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from notebook_driver import Notebook

R = "%%remote gpu=cpu\n"


@pytest.fixture
def wary(place: dict[str, str], tmp_path: Path) -> Iterator[Notebook]:
    book = Notebook({**place, "JUPYTER_GPU_TRUST": "data"}, tmp_path)
    yield book
    book.close()


def test_plain_data_comes_and_code_stays(wary: Notebook) -> None:
    wary.ok("import numpy as np\nmine = [1, 2]; alias = mine; grid = np.zeros((300, 300))")
    result = wary.ok(
        R + "import datetime, pandas as pd\nclass Thing:\n    n = 3\n"
        "def double(x): return 2 * x\n"
        "mine.append(double(2)); grid += 1; thing = Thing(); when = datetime.date(2020, 1, 1)\n"
        "frame = pd.DataFrame({'a': [1, 2], 's': ['x', 'y']}); both = [mine, thing]; words = {'k': (1, 2.5, b'x')}"
    )
    shown = str(result.outputs)
    assert "thing stays remote" in shown and "double stays remote" in shown and "plain data" in shown
    assert wary.value("(mine, alias is mine, float(grid.sum()), str(when), words)") == (
        "([1, 2, 4], True, 90000.0, '2020-01-01', {'k': (1, 2.5, b'x')})"
    )
    assert wary.value("(frame.shape, frame['s'].tolist(), [type(v).__name__ for v in (thing, double, both)])") == (
        "((2, 2), ['x', 'y'], ['Handle', 'Handle', 'Handle'])"
    )
    assert wary.ok(R + "print(thing.n, double(21), both[0] is mine)").text() == "3 42 True\n"
    error = wary.run("thing.fetch()").error
    assert error is not None and "'thing' was refused" in error["evalue"] and "JUPYTER_GPU_TRUST=code" in error["evalue"]


def test_a_hostile_value_runs_nothing_here(wary: Notebook, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    wary.ok("before = [1]")
    result = wary.ok(
        R + "class Bomb:\n    def __reduce__(self):\n        import os\n"
        f"        return os.system, ('touch {canary}',)\n"
        "bomb = Bomb(); before.append(2)\nbomb"
    )
    assert "bomb stays remote" in str(result.outputs) and "system" in str(result.outputs)
    assert wary.value("(before, type(bomb).__name__)") == "([1, 2], 'Handle')"
    error = wary.run("bomb.fetch()").error
    assert error is not None and "system" in error["evalue"] and not canary.exists()


def test_exceptions_are_shown_and_only_pythons_own_are_rebuilt(wary: Notebook) -> None:
    result = wary.run(R + "class Mine(ValueError):\n    pass\nraise Mine('of the cell')")
    assert result.error is not None and result.error["ename"] == "Mine" and result.error["evalue"] == "of the cell"
    assert "Cell" in "".join(result.error["traceback"]) and "Mine" in "".join(result.error["traceback"])
    result = wary.run(R + "{}['k']")
    assert result.error is not None and result.error["ename"] == "KeyError"


def test_a_handle_shows_no_html_of_the_workers(wary: Notebook) -> None:
    wary.ok("%%remote gpu=cpu keep=frame\nimport pandas as pd\nframe = pd.DataFrame({'a': [1]})")
    assert wary.value("('<table' in frame._repr_html_(), frame.info.html)") == "(False, '')"


def test_modules_are_bound_where_they_are_known(wary: Notebook) -> None:
    wary.ok(R + "import numpy as np, antigravity as odd")
    assert wary.value("(np.__name__, type(odd).__name__, 'antigravity' in __import__('sys').modules)") == "('numpy', 'Handle', False)"


def test_status_says_what_is_in_force(wary: Notebook, notebook: Notebook) -> None:
    def status(book: Notebook) -> str:
        result = book.ok("%remote status")
        return result.text() + str([o.get("data") for o in result.outputs])

    assert "trust=data" in status(wary) and "HTML and JavaScript included" in status(wary)
    assert "trust=code" in status(notebook)


def test_another_gateway_is_not_trusted_with_code_by_itself(notebook: Notebook, place: dict[str, str], tmp_path: Path) -> None:
    """Whatever the gateway says of itself: it is the same one here, reached by its address."""
    notebook.ok(R + "pass")
    (file,) = (Path(place["JUPYTER_RUNTIME_DIR"]) / "jupyter_gpu").glob("gateway*.json")
    info = json.loads(file.read_text())
    book = Notebook({**place, "JUPYTER_GPU_GATEWAY": info["url"], "JUPYTER_GPU_TOKEN": info["token"]}, tmp_path)
    try:
        book.ok(R + "f = lambda: 1\nn = 1")
        assert book.value("(type(f).__name__, n)") == "('Handle', 1)"
    finally:
        book.close()


def test_a_setting_that_is_none_is_refused(place: dict[str, str], tmp_path: Path) -> None:
    book = Notebook({**place, "JUPYTER_GPU_TRUST": "daat"}, tmp_path)
    try:
        error = book.run(R + "ran = 1").error
        assert error is not None and "trust=daat" in error["evalue"] and "data" in error["evalue"]
    finally:
        book.close()
