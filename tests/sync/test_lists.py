"""Long lists that are known by the addresses of their items: a change may never go unseen."""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from jupyter_gpu.sync import addresses as module
from jupyter_gpu.sync.addresses import can_tell, pointers_of
from jupyter_gpu.sync.fingerprint import Pickled, Probe, Recalled, probe
from jupyter_gpu.sync.flat import LONG, PIECE, Flats
from jupyter_gpu.sync.lists import Lists

pytestmark = pytest.mark.skipif(not can_tell(), reason="no lists whose layout is known")


def words(n: int = 3000) -> list[Any]:
    return [f"row {i}" for i in range(n)]


def look(value: Any, lists: Lists) -> Probe:
    return probe(value, "v", {}, flats=Flats(), lists=lists)


def known(value: Any) -> tuple[Lists, bytes]:
    lists = Lists()
    return lists, look(value, lists).fingerprint


def test_the_same_items_are_not_pickled_again() -> None:
    value = words()
    lists, before = known(value)
    again = look(value, lists)
    assert type(again) is Recalled and again.abridged and not again.stream and again.memo == {id(value): (0, value)}
    assert again.fingerprint == before == probe(value, "v", {}).fingerprint and again.size == probe(value, "v", {}).size


def test_another_list_of_the_same_items_is_the_same() -> None:
    value = words()
    lists, before = known(value)
    assert look(list(value), lists).fingerprint == before


@pytest.mark.parametrize("value", ["other", "".join(["row ", "7"]), 7, 7.0, True, None, b"row 7", np.str_("row 7"), [1]])
def test_another_object_shows(value: Any) -> None:
    held = words()
    lists, before = known(held)
    held[7] = value
    assert (look(held, lists).fingerprint == before) is (type(value) is str and value == "row 7")


@pytest.mark.parametrize(("old", "new"), [(1, True), (1, 1.0), (0.0, -0.0), ("1", b"1"), (None, False), (2, 2 + 0j)])
def test_equal_is_not_the_same(old: Any, new: Any) -> None:
    value = words()
    value[5] = old
    lists, before = known(value)
    value[5] = new
    assert look(value, lists).fingerprint != before


CHANGES: dict[str, Callable[[list[Any]], object]] = {
    "item": lambda v: v.__setitem__(5, "x"),
    "last": lambda v: v.__setitem__(-1, "x"),
    "sort": lambda v: v.sort(reverse=True),
    "reverse": lambda v: v.reverse(),
    "append": lambda v: v.append("x"),
    "append and pop": lambda v: (v.pop(), v.append("y")),
    "slice": lambda v: v.__setitem__(slice(10, 20), ["z"] * 10),
    "shorter": lambda v: v.__setitem__(slice(10, 20), []),
    "insert": lambda v: v.insert(0, "x"),
    "pop": lambda v: v.pop(),
    "swap": lambda v: v.__setitem__(slice(0, 2), [v[1], v[0]]),
    "clear": lambda v: v.clear(),
    "twice": lambda v: v.extend(v),
    "itself": lambda v: v.append(v),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("length", [LONG + 1, 3000, PIECE, 2 * PIECE + 7])
def test_a_change_shows(name: str, length: int) -> None:
    value = words(length)
    lists, before = known(value)
    CHANGES[name](value)
    now = look(value, lists)
    assert now.fingerprint != before
    assert look(value, lists).fingerprint == now.fingerprint, "and what is told once stays so"


def test_few_new_items_are_not_looked_at_with_all_others() -> None:
    value = words(3 * PIECE)
    lists, before = known(value)
    value[PIECE + 5] = "new"
    value.append("more")
    first = look(value, lists)
    assert type(first) is Recalled and first.fingerprint != before
    value[PIECE + 6] = [1]
    assert type(look(value, lists)) is Pickled and len(lists) == 0, "it is not flat any more"


def test_an_address_is_never_another_items() -> None:
    value = words()
    lists, before = known(value)
    seen = {before}
    for turn in range(20):
        value[:] = [f"new {i} {turn}" for i in range(len(value))]
        gc.collect()
        now = look(value, lists).fingerprint
        assert now not in seen
        seen.add(now)


@pytest.mark.parametrize("seed", range(8))
def test_no_change_is_ever_missed(seed: int) -> None:
    """Beside a look at everything: types and content."""
    rng = random.Random(seed)
    value: list[Any] = words(rng.choice([LONG + 5, PIECE - 1, PIECE + 3, 2 * PIECE]))
    lists, before = known(value)
    content = [(type(v), v) for v in value]

    def other() -> Any:
        return rng.choice(
            [f"new {rng.random()}", rng.randrange(10**6), 1, True, 1.0, 0.0, -0.0, "1", b"1", None, f"row {rng.randrange(9)}"]
        )

    for _ in range(40):
        at = rng.randrange(len(value))
        kind = rng.randrange(14)
        if kind < 4:
            value[at] = other()
        elif kind == 4:
            value[at] = "".join(list(value[at])) if type(value[at]) is str else value[at]
        elif kind == 5:
            value[at : at + rng.randrange(50)] = [other() for _ in range(rng.randrange(50))]
        elif kind == 6:
            value.append(other())
        elif kind == 7 and len(value) > LONG + 2:
            value.pop(rng.choice([-1, at]))
        elif kind == 8:
            value.reverse()
        elif kind == 9:
            value.sort(key=lambda v: (type(v).__name__, repr(v)), reverse=rng.random() < 0.5)
        elif kind == 10:
            value = list(value)
        elif kind == 11:
            other_place = rng.randrange(len(value))
            value[at], value[other_place] = value[other_place], value[at]
        elif kind == 12:
            value.extend(value[: rng.randrange(100)])
        now = look(value, lists).fingerprint
        pairs = [(type(v), repr(v)) for v in value]
        if pairs != [(kind, repr(v)) for kind, v in content]:
            assert now != before
        before, content = now, [(type(v), v) for v in value]


def test_who_writes_meanwhile_is_seen_in_the_end() -> None:
    """Another thread makes the list longer and shorter all the time: nothing breaks, and its last state is told."""
    value, stop = words(20_000), threading.Event()
    lists, before = known(value)

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            value[turn % 1000] = f"w{turn}"
            value.extend([f"m{turn}"] * 5000)
            del value[15_000:]
            value.extend([f"n{turn}"] * 5000)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    other = threading.Thread(target=write)
    other.start()
    try:
        for _ in range(300):
            before = look(value, lists).fingerprint
    finally:
        stop.set()
        other.join()
        sys.setswitchinterval(interval)
    settled = look(value, lists).fingerprint
    value[3] = "the end"
    assert look(value, lists).fingerprint not in (before, settled)


def test_pointers_are_the_addresses_of_the_items() -> None:
    for value in ([], [1], words(10), [None] * 5):
        assert pointers_of(value) == b"".join(id(v).to_bytes(8, sys.byteorder) for v in value)
    assert gc.isenabled()
    gc.disable()
    pointers_of([1])
    assert not gc.isenabled()
    gc.enable()


def test_where_it_is_not_known_what_a_list_looks_like(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in [("pointers_of", lambda _: b""), ("pointers_of", lambda _: 1 / 0), ("_List", Lists)]:
        with monkeypatch.context() as patched:
            patched.setattr(module, name, value)
            assert not can_tell.__wrapped__()
    monkeypatch.setattr(module.sysconfig, "get_config_var", lambda _: 1)
    assert not can_tell.__wrapped__()


def test_both_ends(pair: Any) -> None:
    pair.here["v"] = words()
    pair.send("v")
    assert list(pair.send("v").unchanged) == ["v"] and len(pair.client._lists) == 1
    pair.here["v"][9] = "new"
    assert list(pair.send("v").sent) == ["v"] and pair.there["v"] == pair.here["v"]
    assert list(pair.send("v").unchanged) == ["v"]
    pair.run("v[5] = 'there'")
    assert pair.here["v"][5] == "there" and list(pair.send("v").unchanged) == ["v"]
    pair.run("n = len(v)")
    pair.here["v"][7] = "again"
    pair.client.abandon(pair.client.export(pair.client.needed(["v"])))
    assert list(pair.send("v").sent) == ["v"] and pair.there["v"] == pair.here["v"]
    pair.here["v"] = 5
    pair.client.prune()
    assert len(pair.client._lists) == 0
    pair.client.reset()


def test_what_is_kept_elsewhere_is_looked_at_each_time() -> None:
    value, lists = words(), Lists()
    probe(value, "v", {}, flats=Flats(), kept={id(value[5]): "key"}, lists=lists)
    assert len(lists) == 0
