"""How it looks in JupyterLab, in its light and its dark theme: progress, the line that sums up, tables, handles, errors."""

from __future__ import annotations

import re
from typing import Any

import pytest
from front_ends import CHROMIUM, DARK, LIGHT, NO_BROWSER, Book, Site

pytestmark = [pytest.mark.timeout(240), pytest.mark.skipif(not CHROMIUM, reason=NO_BROWSER)]

CELLS = {
    "load": "%load_ext jupyter_gpu\nimport numpy as np, threading\nbig = np.random.default_rng(0).random(18_750_000)\nbad = {'inner': [1, threading.Lock()]}",
    "send": "%%remote gpu=H100\nprint(big.shape)",
    "keep": "%%remote gpu=H100 keep=df\nimport pandas as pd\ndf = pd.DataFrame({'city': ['Oslo', 'Bergen'], 'temperature': [3.5, -1.0]})",
    "handle": "df",
    "status": "%remote status",
    "plan": "%%remote plan gpu=H100\nprint(big, bad)",
    "help": "%remote?",
    "hardware": "%%remote gpu=H101\n1",
    "option": "%%remote gup=H100\n1",
    "stuck": "%%remote gpu=H100\nprint(bad)",
    "use": "df + 1",
}
NUMBER = {name: i for i, name in enumerate(CELLS)}
TEXTS = {
    "handle": ["remote df", "pandas.DataFrame", ".fetch() brings it here", "Bergen", "-1.0"],
    "status": ["jupyter-gpu", "your own", "Hardware", "86 GB", "in use by H100 (simulated)", "free", "Sessions", "idle"],
    "plan": ["Plan for H100 (simulated)", "150 MB are already there", "cannot travel: bad['inner'][1]"],
    "help": ["Run a cell on a GPU elsewhere", "keep=model", "%remote status"],
    "hardware": ["NoSuchHardware", "The gateway has no H101", "2 × H100 (simulated)"],
    "option": ["UnknownOption", "Did you mean 'gpu'?"],
    "stuck": ["ValueCannotTravel", "bad['inner'][1]", "Nothing ran."],
    "use": ["HandleError", "df.fetch()"],
}

#: Keeps each text that the output of cell N shows, however briefly.
WATCH = """n => { window.seen = []; const area = document.querySelectorAll(".jp-Notebook .jp-CodeCell")[n];
    new MutationObserver(() => { const text = area.querySelector(".jp-Cell-outputArea").innerText.trim();
        if (text && text !== window.seen.at(-1)) window.seen.push(text); }).observe(area, {childList: true, subtree: true, characterData: true}); }"""

#: [text, contrast by WCAG 2, whether it is clipped] of each element in rendered HTML that has text of its own.
INSPECT = """n => { const cell = document.querySelectorAll(".jp-Notebook .jp-CodeCell")[n];
    const parse = css => { const [r, g, b, a = 1] = css.match(/[\\d.]+/g).map(Number); return {rgb: [r, g, b], a}; };
    const over = (top, a, below) => top.map((x, i) => a * x + (1 - a) * below[i]);
    const luminance = rgb => { const [r, g, b] = rgb.map(x => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const ground = e => { if (!e) return [255, 255, 255]; const {rgb, a} = parse(getComputedStyle(e).backgroundColor);
        return a === 0 ? ground(e.parentElement) : over(rgb, a, ground(e.parentElement)); };
    const opacity = e => e ? Number(getComputedStyle(e).opacity) * opacity(e.parentElement) : 1;
    const own = e => [...e.childNodes].some(c => c.nodeType === 3 && c.textContent.trim());
    return [...cell.querySelectorAll(".jp-RenderedHTMLCommon, .jp-RenderedHTMLCommon *")].filter(own).map(e => {
        const {rgb, a} = parse(getComputedStyle(e).color), below = ground(e);
        const [dark, light] = [luminance(below), luminance(over(rgb, a * opacity(e), below))].sort((x, y) => x - y);
        return [e.textContent.trim(), (light + 0.05) / (dark + 0.05), e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0]; }); }"""


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_look(lab: Site, page: Any, theme: str) -> None:
    lab.set("themes", theme=theme)
    page.set_viewport_size({"width": 1280, "height": 2600})
    book = Book(page, lab, list(CELLS.values()), "look.ipynb")
    assert page.evaluate("document.body.dataset.jpThemeLight") == ("true" if theme == LIGHT else "false")
    book.run(NUMBER["load"])
    check_progress(book)
    for name in list(CELLS)[2:]:
        book.run(NUMBER[name])
    for name, texts in TEXTS.items():
        for text in texts:
            book.see(NUMBER[name], text, timeout=10) if name == "help" else None
            assert text in book.output(NUMBER[name]).inner_text(), (name, text)
    check_readable(book)
    page.screenshot(path=str(lab.folder / f"{theme.split()[-1].lower()}.png"))


def check_progress(book: Book) -> None:
    """A cold start, and 150 MB to send: each phase is seen while it lasts, and the one line replaces them all."""
    number = NUMBER["send"]
    book.page.evaluate(WATCH, number)
    book.run(number)
    book.see(number, " · ran ", timeout=10)
    seen = book.page.evaluate("window.seen")
    assert any(re.match(r"H100( \(simulated\))?: (connecting|starting|ready) …", text) for text in seen), seen
    assert any(text.startswith("sending 150 MB …") for text in seen), seen
    lines = book.output(number).inner_text().strip().splitlines()
    assert sorted(lines)[0] == "(18750000,)" and len(lines) == 2, lines
    assert re.fullmatch(r"H100 \(simulated\) · started [\d.]+ m?s · sent 150 MB · ran [\d.]+ m?s( · back \d+ B)?", sorted(lines)[1]), lines


def check_readable(book: Book) -> None:
    for name, number in NUMBER.items():
        found = book.page.evaluate(INSPECT, number)
        assert found or name not in {"send", "keep", "handle", "status", "plan"}, f"nothing was looked at in {name}"
        for text, contrast, clipped in found:
            assert contrast >= 4.5, (name, text, contrast)
            assert not clipped, (name, text)
            assert not re.search(r"</?\w+|&\w+;", text), (name, text)
