"""The first notebook, run by those who run notebooks without a screen: the same file, no special casing by its author."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pexpect
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "01-first-cell.ipynb"
pytestmark = pytest.mark.timeout(180)
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def check(book: Any) -> None:
    """Not only that nothing failed: what a person should see is there."""
    cells = [c for c in book.cells if c.cell_type == "code"]
    texts = [str(c.outputs) for c in cells]
    everything = "\n".join(texts)
    assert "accuracy 0.9" in everything and "still the same object: True and 1 entry in history" in everything
    assert "threshold is 0.5 here, too" in everything
    assert any("image/png" in t for t in texts) and any("application/vnd.jupyter.widget-view+json" in t for t in texts)
    remote = [c for c in cells if c.source.startswith("%%remote gpu")]
    for cell in remote:
        lines = [o.data.get("text/plain", "") for o in cell.outputs if o.output_type == "display_data"]
        assert sum(" · ran " in line and "H100 (simulated)" in line for line in lines) == 1, cell.source
    (failed,) = [c for c in cells if any(o.output_type == "error" for o in c.outputs)]
    (error,) = [o for o in failed.outputs if o.output_type == "error"]
    assert error.ename == "KeyError" and "jupyter_gpu" not in ANSI.sub("", "\n".join(error.traceback))


def test_nbclient(place: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    for name, value in place.items():
        monkeypatch.setenv(name, value)
    book = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    check(book)


def test_papermill(place: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import papermill

    for name, value in place.items():
        monkeypatch.setenv(name, value)
    book = nbformat.read(NOTEBOOK, as_version=4)
    # papermill stops at the first error, whatever its tags say: the cell with the deliberate one is left out.
    book.cells = [c for c in book.cells if "raises-exception" not in c.metadata.get("tags", [])]
    book.cells.insert(1, nbformat.v4.new_code_cell("trees = 1", metadata={"tags": ["parameters"]}))
    for cell in book.cells:
        cell.source = cell.source.replace("n_estimators=60", "n_estimators=trees")
    nbformat.write(book, tmp_path / "in.ipynb")
    papermill.execute_notebook(
        str(tmp_path / "in.ipynb"),
        str(tmp_path / "out.ipynb"),
        parameters={"trees": 60},
        kernel_name="python3",
        cwd=str(tmp_path),
        progress_bar=False,
    )
    text = str(nbformat.read(tmp_path / "out.ipynb", as_version=4))
    assert "accuracy 0.97" in text and "H100 (simulated)" in text


@pytest.mark.parametrize("command", [["-m", "IPython", "--simple-prompt", "--no-banner"], ["-m", "jupyter_console", "--simple-prompt"]])
def test_terminals(place: dict[str, str], tmp_path: Path, command: list[str]) -> None:
    """Plain IPython has no kernel at all; jupyter console shows no updates of displays."""
    env = {**place, "TERM": "dumb", "PATH": f"{Path(sys.executable).parent}:{place.get('PATH', '')}"}
    child = pexpect.spawn(sys.executable, command, env=env, cwd=str(tmp_path), timeout=60, encoding="utf-8")
    try:
        child.expect(r"In \[1\]: ")
        child.sendline("%load_ext jupyter_gpu")
        child.expect(r"In \[2\]: ")
        child.sendline("x = [1]; get_ipython().run_cell_magic('remote', 'gpu=H100', 'x.append(2); print(\"sum\", sum(x))')")
        child.expect("sum 3")
        child.expect(r"H100 \(simulated\) · .*ran ")
        child.expect(r"In \[3\]: ")
        child.sendline("print('here', x)")
        child.expect(r"here \[1, 2\]")
        child.sendline("exit()")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
