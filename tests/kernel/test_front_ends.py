"""Programs that run kernels, each in its own way: ``jupyter console``, nbclient, papermill, and VS Code, which starts argv itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
import pexpect
import pytest
from notebook_driver import DEADLINE, wait_for
from whole_driver import sessions

NAME = "jupyter-gpu-h100"
SOURCE = "import os\nprint('CUDA', os.environ['CUDA_VISIBLE_DEVICES'] != '', n + 1)"


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "in.ipynb"
    cells = [
        nbformat.v4.new_code_cell("n = 1", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(SOURCE),
    ]
    metadata = {"kernelspec": {"name": NAME, "display_name": "", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


def nothing_is_left() -> None:
    wait_for(lambda: not sessions(), lambda: f"sessions are left: {sessions()}")


def test_nbclient(home: Path, book: Path) -> None:
    from nbclient import NotebookClient

    read = nbformat.read(book, as_version=4)
    NotebookClient(read, timeout=60, resources={"metadata": {"path": str(book.parent)}}).execute()
    assert read.cells[1].outputs[0].text == "CUDA True 2\n"
    nothing_is_left()


def test_papermill(home: Path, book: Path) -> None:
    import papermill

    papermill.execute_notebook(str(book), str(book.parent / "out.ipynb"), parameters={"n": 41}, cwd=str(book.parent), progress_bar=False)
    assert "CUDA True 42" in str(nbformat.read(book.parent / "out.ipynb", as_version=4))
    nothing_is_left()


def test_jupyter_console(home: Path, tmp_path: Path) -> None:
    """25: its loop runs during calls alone; and a stop at the keyboard reaches the cell."""
    command = ["-m", "jupyter_console", "--simple-prompt", "--kernel", NAME]
    env = {**os.environ, "TERM": "dumb"}
    child = pexpect.spawn(sys.executable, command, env=env, cwd=str(tmp_path), timeout=DEADLINE, encoding="utf-8")
    try:
        child.expect(r"In \[1\]: ")
        child.sendline("n = 1; import os; print('CUDA', os.environ['CUDA_VISIBLE_DEVICES'] != '', n + 1)")
        child.expect("CUDA True 2")
        child.expect(r"In \[2\]: ")
        child.sendline("print('given:', input('? '))")
        child.expect(r"\? ")
        child.sendline("yes")
        child.expect("given: yes")
        child.expect(r"In \[3\]: ")
        child.sendline("import time; print('spin' + 'ning', flush=True); time.sleep(600)")
        child.expect("spinning")
        child.sendintr()
        child.expect("KeyboardInterrupt")
        child.expect(r"In \[4\]: ")
        child.sendline("exit")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
    nothing_is_left()
