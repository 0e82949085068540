"""JupyterLab in a real browser: what a person sees and does."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or ""
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(not CHROMIUM, reason="NO BROWSER: chromium is not installed, and JupyterLab was not looked at"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(address of a JupyterLab, its folder)."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "runtime").mkdir(mode=0o700)
    (folder / "work").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER_", "JPY_"))}
    env |= {
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_GPU_SIMULATE": "H100:2",
        "HOME": str(folder),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=t",
               "--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", f"--ServerApp.root_dir={folder / 'work'}"]  # fmt: skip
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=folder)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=t", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < end, (folder / "log").read_text()[-2000:]
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", folder / "work"
    finally:
        server.terminate()
        server.wait(20)
        subprocess.run([sys.executable, "-m", "jupyter_gpu.cli", "stop", "--gateway"], env=env, check=False, capture_output=True)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        opened = browser.new_page(viewport={"width": 1280, "height": 860})
        yield opened
        opened.screenshot(path=str(tmp_path / "last.png"))
        browser.close()


def open_notebook(page: Any, lab: tuple[str, Path], cells: list[str], name: str) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    book.metadata["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    nbformat.write(book, lab[1] / name)
    page.goto(f"{lab[0]}/lab/tree/{name}?token=t&reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60000)
    page.wait_for_function("document.querySelector('#jp-main-statusbar')?.innerText.includes('Idle')", timeout=60000)


def run_all(page: Any) -> None:
    """By the keyboard, cell after cell, as a person does."""
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    cells.first.locator(".cm-content").click()
    for _ in range(cells.count()):
        page.keyboard.press("Shift+Enter")


def output(page: Any, number: int) -> Any:
    return page.locator(".jp-Notebook .jp-CodeCell").nth(number).locator(".jp-OutputArea")


def test_outputs_figure_widget_and_interrupt(lab: tuple[str, Path], page: Any, tmp_path: Path) -> None:
    cells = [
        "%load_ext jupyter_gpu",
        "%%remote gpu=H100\nimport matplotlib.pyplot as plt\nprint('streamed from there')\nplt.figure(figsize=(4, 1.6)); plt.plot([1, 3, 2]); plt.show()",
        "%%remote gpu=H100\nimport ipywidgets as w\ns = w.IntSlider(value=3, description='pick')\nl = w.Label('nothing heard')\n"
        "s.observe(lambda c: setattr(l, 'value', f'heard {c[\"new\"]} there'), 'value')\ndisplay(w.VBox([s, l]))",
        "%%remote gpu=H100\nprint('spinning', flush=True)\nwhile True: pass",
    ]
    open_notebook(page, lab, cells, "look.ipynb")
    run_all(page)
    output(page, 3).get_by_text("spinning").wait_for(timeout=60000)
    assert "streamed from there" in output(page, 1).inner_text()
    assert "H100 (simulated)" in output(page, 1).inner_text() and "ran" in output(page, 1).inner_text()
    assert output(page, 1).locator("img").count() == 1
    page.click("button[data-command='notebook:interrupt-kernel'], jp-button[data-command='notebook:interrupt-kernel'] >> nth=0")
    output(page, 3).get_by_text("KeyboardInterrupt").first.wait_for(timeout=10000)
    slider = output(page, 2).locator(".noUi-handle")
    slider.wait_for(timeout=30000)
    slider.focus()
    page.keyboard.press("ArrowRight")
    output(page, 2).get_by_text("heard 4 there").wait_for(timeout=15000)
    page.screenshot(path=str(tmp_path / "lab.png"))
