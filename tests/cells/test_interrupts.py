from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from jupyter_gpu.cells import interrupts
from jupyter_gpu.cells.interrupts import Interrupts


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(interrupts, "monotonic", found)
    return found


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def presses(said: list[str], clock: Clock) -> Iterator[Interrupts]:
    with Interrupts(lambda: said.append("interrupt"), lambda: said.append("kill")) as found:
        yield found


def press(clock: Clock, later: float = 1.0) -> None:
    clock.now += later
    signal.raise_signal(signal.SIGINT)


def test_first_interrupts_then_kills_and_then_nothing_more(presses: Interrupts, said: list[str], clock: Clock) -> None:
    press(clock)
    assert said == ["interrupt"] and not presses.killed
    press(clock)
    assert said == ["interrupt", "kill"] and presses.killed
    press(clock)
    assert said == ["interrupt", "kill"] and presses.presses == 3


def test_a_signal_and_a_message_for_one_press_are_one(presses: Interrupts, said: list[str], clock: Clock) -> None:
    press(clock)
    press(clock, 0.2)
    assert said == ["interrupt"], "the session was not killed by one press"
    press(clock, 0.26)
    assert said == ["interrupt", "kill"]


def test_while_input_is_asked_for_a_press_raises_once(presses: Interrupts, said: list[str], clock: Clock) -> None:
    with pytest.raises(KeyboardInterrupt):
        with presses.raising():
            press(clock)
    assert said == ["interrupt"]
    press(clock)  # raises nothing
    with presses.raising():
        pass
    press(clock)


def test_a_bounce_while_input_is_asked_for_raises_all_the_same(presses: Interrupts, said: list[str], clock: Clock) -> None:
    press(clock)
    with pytest.raises(KeyboardInterrupt):
        with presses.raising():
            press(clock, 0.1)
    assert said == ["interrupt"]


@pytest.mark.parametrize("raised", [None, ValueError, KeyboardInterrupt])
def test_what_was_there_before_is_there_afterwards(raised: type[BaseException] | None) -> None:
    def mine(number: int, frame: Any) -> None: ...

    before = signal.signal(signal.SIGINT, mine)
    try:
        try:
            with Interrupts(lambda: None, lambda: None):
                assert signal.getsignal(signal.SIGINT) is not mine
                if raised is not None:
                    raise raised
        except BaseException as error:
            assert type(error) is raised
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


def test_nested_as_the_way_back_of_a_cell_is(said: list[str], clock: Clock) -> None:
    with Interrupts(lambda: said.append("outer"), lambda: None):
        with Interrupts(lambda: said.append("inner"), lambda: None) as inner:
            press(clock)
        press(clock)
    assert said == ["inner", "outer"] and inner.presses == 1


def test_on_another_thread_it_leaves_signals_alone(said: list[str]) -> None:
    before, inside = signal.getsignal(signal.SIGINT), []

    def run() -> None:
        with Interrupts(lambda: said.append("interrupt"), lambda: None) as found:
            inside.append(signal.getsignal(signal.SIGINT))
            found.press()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert inside == [before] and signal.getsignal(signal.SIGINT) is before
    assert said == ["interrupt"]
