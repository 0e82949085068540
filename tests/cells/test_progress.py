"""The one display that tells of phases and then sums up."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from jupyter_gpu.cells import progress
from jupyter_gpu.cells.progress import Progress


class Screen:
    live = True

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bool]] = []
        self.came = threading.Event()

    def display(self, data: dict[str, Any], metadata: Any, transient: dict[str, Any], update: bool) -> None:
        self.seen.append((data["text/plain"], transient.get("display_id", ""), update))
        self.came.set()


def test_quick_shows_only_the_end() -> None:
    screen = Screen()
    shown = Progress(screen)  # type: ignore[arg-type]
    shown.phase("starting")
    shown.stop()
    shown.finish(["done"])
    assert screen.seen == [("done", "", False)]


def test_slow_is_one_display_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    screen = Screen()
    shown = Progress(screen)  # type: ignore[arg-type]
    shown.phase("H100: starting")
    assert screen.came.wait(5)
    shown.phase("sending 120 MB")
    shown.stop()
    shown.finish(["done"])
    texts = [text for text, _, _ in screen.seen]
    assert texts[0].startswith("H100: starting") and "sending 120 MB" in texts[-3] and texts[-1] == "done"
    assert len({name for _, name, _ in screen.seen}) == 1 and [u for _, _, u in screen.seen] == [False] + [True] * (len(texts) - 1)


def test_nothing_moves_where_displays_cannot_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    screen = Screen()
    screen.live = False
    shown = Progress(screen)  # type: ignore[arg-type]
    shown.phase("starting")
    assert shown._thread is None
    shown.finish([])
    assert not screen.seen


def test_news_of_a_phase_do_not_begin_it_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    screen = Screen()
    shown = Progress(screen)  # type: ignore[arg-type]
    shown.phase("sending 1.1 GB")
    since = shown._since
    assert screen.came.wait(5)
    shown.goes_on("sending 45 MB of 1.1 GB")
    assert screen.seen[-1][0].startswith("sending 45 MB of 1.1 GB") and shown._since == since
    count = len(screen.seen)
    shown.goes_on("sending 45 MB of 1.1 GB")
    assert len(screen.seen) == count
    shown.finish([])
