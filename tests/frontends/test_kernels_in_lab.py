"""A whole kernel on remote hardware, picked as a person picks it: in JupyterLab's launcher, and in a notebook that asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from front_ends import CHROMIUM, NO_BROWSER, Book, Site

pytestmark = [pytest.mark.timeout(240), pytest.mark.skipif(not CHROMIUM, reason=NO_BROWSER)]
NAME = "Python 3 (H100, simulated)"


def install(site: Site) -> str:
    """What `jupyter gpu install --user` says to the person of this site."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER_", "JPY_"))} | {
        "HOME": str(site.folder),
        "JUPYTER_RUNTIME_DIR": str(site.folder / "runtime"),
        "JUPYTER_CONFIG_DIR": str(site.folder / "config"),
        "JUPYTER_GPU_SIMULATE": "H100:2",
    }
    done = subprocess.run(
        [sys.executable, "-m", "jupyter_gpu.cli", "install", "--user"], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_kernel_is_picked_in_the_launcher(lab: Site, page: Any, tmp_path: Path) -> None:
    assert NAME in install(lab)
    page.goto(f"{lab.url}/lab?token=t&reset")
    card = page.locator(".jp-LauncherCard", has_text=NAME).first
    card.wait_for(timeout=60000)
    page.screenshot(path=str(tmp_path / "launcher.png"))
    card.click()
    book = Book.opened(page)
    book.cells.first.locator(".cm-content").click()
    page.keyboard.type("import os; print('on', os.environ['CUDA_VISIBLE_DEVICES'] != '' or 'nothing')\nx = 41\nx + 1")
    book.run(0)
    book.see(0, "42")
    book.see(0, "on True")
    page.screenshot(path=str(tmp_path / "kernel.png"))
    assert NAME in page.locator(".jp-NotebookPanel-toolbar").first.inner_text()


def test_a_live_kernel_moves_under_the_notebook(lab: Site, page: Any, tmp_path: Path) -> None:
    install(lab)
    page.goto(f"{lab.url}/lab?token=t&reset")
    page.locator(".jp-LauncherCard", has_text="Python 3 (remote CPU)").first.click()
    book = Book.opened(page)
    for number, code in enumerate(["x = [1, 2]; y = x", "%remote move H100", "y.append(3); x"]):
        book.cells.nth(number).locator(".cm-content").click()
        page.keyboard.type(code)
        book.run(number)
    book.see(1, "moved to H100")
    book.see(2, "[1, 2, 3]")
    page.screenshot(path=str(tmp_path / "moved.png"))
