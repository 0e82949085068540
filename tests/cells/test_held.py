from __future__ import annotations

import gc
from typing import Any

from jupyter_gpu.cells.held import Held
from jupyter_gpu.wire.messages import HandleInfo


def info(name: str, key: str, **more: Any) -> HandleInfo:
    return HandleInfo(name=name, key=key, type="T", text="text", **more)


def test_one_value_is_one_handle_that_shows_what_is_told_last() -> None:
    namespace: dict[str, Any] = {}
    held = Held(namespace, lambda key: lambda: key)
    a, b, c = held.meet([info("a", "k1", why="keep="), info("b", "k1"), info("c", "k2")])
    assert a is b is held.of("k1") and a is not c and a.fetch() == "k1" and held.of("k3") is None
    namespace["a"] = a
    (again,) = held.meet([info("b", "k1", shape=[2])])
    assert again is a and (a.shape, a.info.name, a.info.why) == ((2,), "a", "keep=")
    del namespace["a"]
    held.meet([info("b", "k1")])
    assert a.info.name == "b", "the name that it had is another's now"


def test_what_nobody_holds_is_released_but_not_under_a_running_cell() -> None:
    held = Held({}, lambda key: lambda: key)
    handles = held.meet([info("a", "k1"), info("b", "k2")])
    assert held.begin() == []
    del handles
    gc.collect()
    assert held.of("k1") is not None, "the cell may return something that holds it"
    held.over([])
    assert held.of("k1") is None
    assert held.begin() == ["k1", "k2"] == held.begin(), "until the kernel has heard of it"
    held.over(["k1", "k2"])
    assert held.begin() == []


def test_one_without_a_key_is_its_name() -> None:
    held = Held({}, lambda key: lambda: key)
    one, two = held.meet([info("a", ""), info("a", "")])
    assert one is not two and one.fetch() == "a" and held.begin() == []
