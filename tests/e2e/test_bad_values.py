"""Bad values that a remote cell makes, and that the notebook has: words, and a session that lives."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from notebook_driver import Notebook, Result, wait_for

R = "%%remote gpu=cpu\n"

MADE = {
    "deep": ("deep = []\nfor _ in range(100_000): deep = [deep]", "nested too deeply"),
    "chain": (
        "class N: pass\nhead = None\nfor _ in range(100_000):\n    n = N(); n.next = head; head = n\ndel n\nchain = head; del head",
        "nested too deeply",
    ),
    "raises": ("class V:\n    def __reduce__(self): raise ValueError('not today')\nraises = [V()]", "not today"),
    "ends": ("import sys\nclass E:\n    def __reduce__(self): sys.exit(3)\nends = E()", "SystemExit"),
    "fresh": ("class F:\n    def __reduce__(self): return list, (), None, iter([F()])\nfresh = F()", "nested too deeply"),
    "nonsense": ("class X:\n    def __reduce__(self): return 5\nnonsense = X()", "string or tuple"),
}


@pytest.mark.parametrize("name", MADE)
def test_made_remotely_it_stays_there_with_the_reason(notebook: Notebook, name: str) -> None:
    code, words = MADE[name]
    notebook.ok("beside = [1]")
    result = notebook.ok(R + code + "\nbeside.append(2)")
    shown = str(result.outputs)
    assert f"{name} stays remote" in shown and words in shown, shown
    assert notebook.value(f"(beside, type({name}).__name__)") == "([1, 2], 'Handle')"
    error = notebook.run(f"{name}.fetch()").error
    assert error is not None and words in error["evalue"]
    assert notebook.ok(R + f"print(type({name}).__name__)").text().strip() not in ("", "Handle")
    notebook.ok(R + f"del {name}")


@pytest.mark.parametrize("name", MADE)
def test_of_the_notebook_it_is_named_before_the_cell_runs(notebook: Notebook, name: str) -> None:
    code, words = MADE[name]
    notebook.ok(code + "\nran = 0")
    error = notebook.run(R + f"ran = 1; {name}").error
    assert error is not None and error["ename"] == "ValueCannotTravel" and repr(name) in error["evalue"] and words in error["evalue"]
    assert notebook.value("ran") == "0"
    notebook.ok(f"del {name}")


ENDLESS = (
    "import itertools, pathlib\n"
    "class Endless:\n    def __reduce__(self):\n        pathlib.Path('started').touch()\n        return list, (), None, {items}\n"
    "endless = Endless()"
)
ITEMS = {"an iterator of C's": "itertools.count()", "a loop": "next(1 for _ in iter(int, 1) if _)"}


def interrupted(book: Notebook, tmp_path: Path, code: str) -> Result:
    """The stop button, as soon as the value is asked for what it is made of."""
    ended = threading.Event()

    def press() -> None:
        wait_for(lambda: (tmp_path / "started").exists() or ended.is_set(), "it is being pickled", timeout=40)
        book.interrupt()

    presser = threading.Thread(target=press)
    presser.start()
    try:
        return book.run(code)
    finally:
        ended.set()
        presser.join()


@pytest.mark.parametrize("items", ITEMS.values(), ids=ITEMS)
def test_the_stop_button_ends_a_reduction_of_the_notebooks(fresh: Notebook, tmp_path: Path, items: str) -> None:
    fresh.ok(ENDLESS.format(items=items) + "\nkept = [1]")
    result = interrupted(fresh, tmp_path, R + "kept.append(endless)")
    assert result.error is not None and result.error["ename"] == "KeyboardInterrupt", result.outputs
    assert fresh.value("kept") == "[1]"
    assert fresh.ok(R + "print(kept)").text() == "[1]\n"


@pytest.mark.parametrize("items", ITEMS.values(), ids=ITEMS)
def test_the_stop_button_ends_a_reduction_of_the_workers(fresh: Notebook, tmp_path: Path, items: str) -> None:
    fresh.ok("kept = [1]")
    result = interrupted(fresh, tmp_path, R + ENDLESS.format(items=items) + "\nkept.append(2)")
    shown = str(result.outputs)
    assert "Traceback" not in shown and "endless stays remote" in shown
    assert "stop button" in shown or "seems not to end" in shown
    assert fresh.value("(type(endless).__name__, kept)") == "('Handle', [1, 2])"
    assert fresh.ok(R + "print(kept)").text() == "[1, 2]\n", "a cell that does not name it is none the slower"
    assert fresh.ok(R + "del endless\nprint('alive')").text() == "alive\n"
