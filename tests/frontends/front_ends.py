"""Jupyter servers of a person who has configured nothing, and notebooks in their browser."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from notebook_driver import descendants_in, wait_for

CHROMIUM = shutil.which("chromium") or ""
NO_BROWSER = "NO BROWSER: chromium is not installed, and no page was looked at"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Tests ask the page's own application object whether its kernel is there; nothing asks other machines for news.
OPTIONS = {
    "jupyterlab": [
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ],
    "notebook": ["--JupyterNotebookApp.expose_app_in_browser=True"],
    "jupyter_server": [],
}
#: A page shows a kernel as idle before it has one, and drops what is run until then.
READY = """(() => { const context = window.jupyterapp?.shell?.currentWidget?.sessionContext; const kernel = context?.session?.kernel;
    return context?.isReady && kernel?.connectionStatus === "connected" && kernel?.status === "idle"; })()"""
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"


def configured_nothing(folder: Path) -> dict[str, str]:
    """Environment of a person whose home is ``folder``, with two simulated H100."""
    (folder / "runtime").mkdir(mode=0o700)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER_", "JPY_"))}
    return env | {
        "HOME": str(folder),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_GPU_SIMULATE": "H100:2",
    }


def stop_gateway(env: dict[str, str]) -> None:
    """End the embedded gateway, if there is one; nothing of this person's may be left running."""
    subprocess.run([sys.executable, "-m", "jupyter_gpu.cli", "stop", "--gateway"], env=env, check=False, capture_output=True)
    runtime = Path(env["JUPYTER_RUNTIME_DIR"])
    wait_for(lambda: not descendants_in(runtime), f"all processes gone: {descendants_in(runtime)}")


@dataclass
class Site:
    """A running server. ``application``: the module that was started."""

    application: str
    url: str
    folder: Path

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def set(self, name: str, **values: str) -> None:
        """Settings of the person's, for pages that are opened from now on."""
        file = self.folder / f"config/lab/user-settings/@jupyterlab/apputils-extension/{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))


@contextlib.contextmanager
def serve(application: str, folder: Path) -> Iterator[Site]:
    """``python -m application`` with its defaults, for the time of a block."""
    (folder / "work").mkdir(parents=True)
    env = configured_nothing(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    site = Site(application, f"http://127.0.0.1:{port}", folder)
    command = [sys.executable, "-m", application, "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0",
               "--IdentityProvider.token=t", f"--ServerApp.root_dir={site.work}", *OPTIONS[application]]  # fmt: skip
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=folder)
    try:
        _wait_until_up(site, server)
        site.set("notification", fetchNews="false")
        yield site
    finally:
        server.terminate()
        server.wait(20)
        stop_gateway(env)


def _wait_until_up(site: Site, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{site.url}/api?token=t", timeout=5).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < end, (site.folder / "log").read_text()[-2000:]
            time.sleep(0.1)


@contextlib.contextmanager
def browser_page() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser.new_page(viewport={"width": 1280, "height": 860})
        finally:
            browser.close()


class Book:
    """A notebook that is open in a browser."""

    def __init__(self, page: Any, site: Site, cells: list[str], name: str) -> None:
        self.page = page
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        book.metadata["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
        nbformat.write(book, site.work / name)
        path = f"notebooks/{name}?token=t" if site.application == "notebook" else f"lab/tree/{name}?token=t&reset"
        page.goto(f"{site.url}/{path}")
        self.wait()

    @classmethod
    def opened(cls, page: Any) -> Book:
        """One that the page has opened by itself."""
        book = cls.__new__(cls)
        book.page = page
        book.wait()
        return book

    def wait(self) -> None:
        """Until its kernel is there."""
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60000)
        self.page.wait_for_function(READY, timeout=60000)

    @property
    def cells(self) -> Any:
        return self.page.locator(".jp-Notebook .jp-CodeCell")

    def run_all(self) -> None:
        """By the keyboard, cell after cell, as a person does."""
        self.cells.first.locator(".cm-content").click()
        for _ in range(self.cells.count()):
            self.page.keyboard.press("Shift+Enter")

    def output(self, number: int) -> Any:
        return self.cells.nth(number).locator(".jp-OutputArea")

    def see(self, number: int, text: str, timeout: float = 60) -> Any:
        """Wait until the cell's output contains the text; the innermost element that does."""
        found = self.output(number).get_by_text(text).last
        found.wait_for(timeout=timeout * 1000)
        return found

    def run(self, number: int, timeout: float = 60) -> None:
        """Run one cell to its end."""
        before = self.prompt(number)
        self.cells.nth(number).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")
        wait_for(lambda: self.prompt(number) not in {before, "[*]:"}, f"the end of cell {number}", timeout)

    def prompt(self, number: int) -> str:
        """``[3]:``, while it runs ``[*]:``."""
        return str(self.cells.nth(number).locator(".jp-InputPrompt").inner_text())

    def press_stop(self) -> None:
        self.page.locator("[data-command='notebook:interrupt-kernel']").first.click()
