"""Order, merging, and the right cell: what the publisher does with remote messages."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from jupyter_gpu.cells.envelope import Envelope
from jupyter_gpu.cells.outputs import FULL, MERGE, Publisher
from jupyter_gpu.cells.pace import Pace


def envelope(kind: str, content: dict[str, Any], parent: str = "run-1", buffers: tuple[bytes, ...] = ()) -> Envelope:
    parts = [{"msg_type": kind, "msg_id": "m"}, {"msg_id": parent, "session": "s"}, {}, content]
    return Envelope.of([memoryview(json.dumps(p).encode()) for p in parts] + [memoryview(b) for b in buffers])


def text(name: str, what: str, parent: str = "run-1") -> Envelope:
    return envelope("stream", {"name": name, "text": what}, parent)


class Screen:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def stream(self, name: str, what: str) -> None:
        self.seen.append((name, what))

    def message(self, message: Envelope) -> None:
        self.seen.append(message.kind)

    def display(self, *args: Any) -> None:
        self.seen.append(args)

    live = True

    def ended(self) -> None:
        pass


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def publisher(clock: Clock) -> Publisher:
    return Publisher(SimpleNamespace(), Pace(limited=False), clock)


def test_first_line_at_once_then_merged(publisher: Publisher, clock: Clock) -> None:
    screen = Screen()
    publisher.begin("run-1", screen)
    publisher.publish(text("stdout", "first\n"))
    assert screen.seen == [("stdout", "first\n")]
    for i in range(1000):
        publisher.publish(text("stdout", f"{i}\n"))
    assert len(screen.seen) == 1 and publisher.due() == pytest.approx(MERGE)
    clock.now += MERGE
    publisher.flush_if_due()
    assert screen.seen[1] == ("stdout", "".join(f"{i}\n" for i in range(1000))) and publisher.due() is None


def test_order_across_streams_and_displays(publisher: Publisher) -> None:
    screen = Screen()
    publisher.begin("run-1", screen)
    for i in range(3):
        publisher.publish(text("stdout", f"out {i}"))
        publisher.publish(text("stderr", f"err {i}"))
        publisher.publish(envelope("display_data", {}))
    publisher.end("run-1")
    assert screen.seen == [x for i in range(3) for x in (("stdout", f"out {i}"), ("stderr", f"err {i}"), "display_data")]


def test_much_text_does_not_wait(publisher: Publisher) -> None:
    screen = Screen()
    publisher.begin("run-1", screen)
    publisher.publish(text("stdout", "x"))
    publisher.publish(text("stdout", "y" * FULL))
    assert len(screen.seen) == 2


def test_cells_keep_their_own_outputs(publisher: Publisher) -> None:
    one, two = Screen(), Screen()
    publisher.begin("run-1", one)
    publisher.end("run-1")
    publisher.begin("run-2", two)
    publisher.publish(text("stdout", "late", "run-1"))
    publisher.publish(text("stdout", "now", "run-2"))
    publisher.end("run-2")
    assert one.seen == [("stdout", "late")] and two.seen == [("stdout", "now")]


def test_late_text_is_flushed_by_a_timer() -> None:
    publisher = Publisher(SimpleNamespace(), Pace(limited=False))
    came = threading.Event()

    class Late(Screen):
        def stream(self, name: str, what: str) -> None:
            super().stream(name, what)
            if "two" in what:
                came.set()

    screen = Late()
    publisher.begin("run-1", screen)
    publisher.end("run-1")
    publisher.publish(text("stdout", "one\n"))
    publisher.publish(text("stdout", "two\n"))
    assert came.wait(5) and "".join(t for _, t in screen.seen) == "one\ntwo\n"


def test_error_that_a_cell_shows_and_goes_on(publisher: Publisher) -> None:
    screen = Screen()
    publisher.begin("run-1", screen)
    publisher.publish(text("stdout", "before"))
    publisher.publish(envelope("error", {}))
    assert screen.seen == [("stdout", "before"), "error"]


def test_pace_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert Pace()._limited is False
    monkeypatch.setenv("JPY_SESSION_NAME", "/nb.ipynb")
    assert Pace()._limited is True
