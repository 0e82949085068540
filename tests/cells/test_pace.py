"""jupyter_server counts messages, and bytes of stream, over the last three seconds, and drops what exceeds three times its limits."""

from __future__ import annotations

import json
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpu.cells.pace import Pace, size_of_text

WINDOW, MESSAGES, BYTES = 3.0, 3 * 1000, 3 * 1_000_000


class World:
    """A clock that goes on when somebody waits, and the server's counts."""

    def __init__(self) -> None:
        self.now = 0.0
        self.recent: deque[tuple[float, int]] = deque()
        self.bytes = 0

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def arrived(self, size: int) -> None:
        self.recent.append((self.now, size))
        self.bytes += size
        while self.recent[0][0] <= self.now - WINDOW:
            self.bytes -= self.recent.popleft()[1]
        assert len(self.recent) <= MESSAGES and self.bytes <= BYTES, f"{len(self.recent)} messages, {self.bytes} bytes"


TEXTS = {size: "x" * size for size in (10, 1000, 50_000, 256_000)}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(TEXTS)), st.sampled_from([0.0, 0.001, 0.03, 1.0, 5.0]), st.integers(1, 400)), max_size=8))
def test_never_more_than_the_server_takes(runs: list[tuple[int, float, int]]) -> None:
    world = World()
    pace = Pace(True, lambda: world.now, world.pause)
    for size, gap, count in runs:
        weight = size_of_text(TEXTS[size])
        for _ in range(min(count, 4_000_000 // size)):
            world.now += gap / count
            pace.before(TEXTS[size])
            world.arrived(weight)
    for _ in range(5000):  # small ones at once
        pace.before()
        world.arrived(0)


def test_a_long_cell_is_slowed_down_to_no_less_than_half_of_what_the_server_takes() -> None:
    world = World()
    pace = Pace(True, lambda: world.now, world.pause)
    for _ in range(100):
        pace.before("x" * 100_000)
    assert world.now < 10_000_000 / (0.5 * BYTES / WINDOW)


def test_where_no_server_limits_nothing_waits() -> None:
    world = World()
    pace = Pace(False, lambda: world.now, world.pause)
    for _ in range(10_000):
        pace.before("x" * 10_000)
    assert world.now == 0.0


@given(st.text())
def test_the_size_of_a_message_is_not_taken_for_smaller_than_it_is(text: str) -> None:
    usual = "".join(c for c in text if c >= " " or c in "\n\r\t\x1b")
    escaped = json.dumps({"name": "stdout", "text": usual}, ensure_ascii=False).encode(errors="replace")
    assert size_of_text(usual) >= len(escaped)
