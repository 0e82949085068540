"""JupyterLab and Notebook 7 in a real browser: what a person sees and does."""

from __future__ import annotations

import re
from typing import Any

import pytest
from front_ends import CHROMIUM, NO_BROWSER, Book, Site

pytestmark = [pytest.mark.timeout(240), pytest.mark.skipif(not CHROMIUM, reason=NO_BROWSER)]

CELLS = [
    "%load_ext jupyter_gpu",
    "%%remote gpu=H100\nimport matplotlib.pyplot as plt\nprint('streamed from there')\nplt.figure(figsize=(4, 1.6)); plt.plot([1, 3, 2]); plt.show()",
    "%%remote gpu=H100\nimport ipywidgets as w\ns = w.IntSlider(value=3, description='pick')\nl = w.Label('nothing heard')\n"
    "s.observe(lambda c: setattr(l, 'value', f'heard {c[\"new\"]} there'), 'value')\ndisplay(w.VBox([s, l]))",
    "%%remote gpu=H100\nprint('spinning', flush=True)\nwhile True: pass",
]


def check_figure_widget_and_interrupt(site: Site, page: Any) -> None:
    book = Book(page, site, CELLS, "look.ipynb")
    book.run_all()
    book.see(3, "spinning")
    text = book.output(1).inner_text()
    assert "streamed from there" in text and "H100 (simulated)" in text and "ran" in text
    assert book.output(1).locator("img").count() == 1
    book.press_stop()
    book.see(3, "KeyboardInterrupt", timeout=10)
    track = book.output(2).locator(".noUi-base")
    track.wait_for(timeout=30000)
    track.click()  # in its middle
    book.output(2).get_by_text(re.compile(r"heard (49|50|51) there")).wait_for(timeout=15000)


def test_jupyterlab(lab: Site, page: Any) -> None:
    check_figure_widget_and_interrupt(lab, page)


def test_notebook_7(notebook7: Site, page: Any) -> None:
    check_figure_widget_and_interrupt(notebook7, page)
