"""SYNC-HAZARDS 28: somebody else changes a value while it is looked at, pickled or sent; and 18, 19, 30, on which its answer rests.

What is promised: a container that changed its size is pickled again. Bytes of an array that change between its digest and its way
out are refused by the receiver, who compares. What changed while the digest itself was taken is seen at the next sync, since the
digest of what is there then is another one.
"""

from __future__ import annotations

import copyreg
import threading
from collections import OrderedDict, deque
from itertools import count
from typing import Any

import numpy as np
import pytest

from jupyter_gpu.sync.fingerprint import probe, undisturbed
from jupyter_gpu.wire.errors import SnapshotRefused
from jupyter_gpu.wire.messages import CellNames


class Meddler:
    """While it is pickled, another thread does something to what holds it: the first ``times`` times."""

    def __init__(self, change: Any, times: int = 1) -> None:
        self.change = change
        self.left = times
        self.calls = 0

    def __reduce__(self) -> Any:
        self.calls += 1
        self.meddle()
        return str, ("meddled",)

    def meddle(self) -> None:
        if self.left:
            self.left -= 1
            thread = threading.Thread(target=self.change)
            thread.start()
            thread.join()


class Each(Meddler):
    """Every pickle meets it, since there is no ``__reduce__`` whose answer is kept."""

    def __init__(self, change: Any, times: int) -> None:
        super().__init__(change, times)
        copyreg.pickle(Each, Each.reduced)

    def reduced(self) -> Any:
        return Meddler.__reduce__(self)

    __reduce__ = object.__reduce__


@pytest.fixture(autouse=True)
def no_reducer_is_left() -> Any:
    yield
    copyreg.dispatch_table.pop(Each, None)


def containers() -> dict[str, tuple[Any, Any]]:
    """name -> (container, how to put one thing more into it)."""
    made: dict[str, tuple[Any, Any]] = {}
    fresh = count(100)
    d: dict[Any, Any] = {i: i for i in range(50)}
    made["dict"] = d, lambda: d.__setitem__(next(fresh), 1)
    o: OrderedDict[Any, Any] = OrderedDict((i, i) for i in range(50))
    made["OrderedDict"] = o, lambda: o.__setitem__(next(fresh), 1)
    s: set[Any] = set(range(50))
    made["set"] = s, lambda: s.add(next(fresh))
    q: deque[Any] = deque(range(50))
    made["deque"] = q, lambda: q.append(1)
    return made


def put(container: Any, thing: Any) -> None:
    if isinstance(container, dict):
        container["meddler"] = thing
        container["after"] = 1
    elif isinstance(container, set):
        container.add(thing)
    else:
        container.append(thing)
        container.append(1)


@pytest.mark.parametrize("kind", ["dict", "OrderedDict", "set", "deque"])
def test_28_a_container_that_changes_its_size_is_pickled_again(kind: str) -> None:
    container, grow = containers()[kind]
    meddler = Meddler(grow)
    put(container, meddler)
    before = len(container)
    found = probe(container, "v", {})
    assert found.stuck is None and len(container) == before + 1
    assert found.fingerprint == probe(container, "v", {}).fingerprint, "what was pickled is what is there now"


def test_28_the_persons_code_runs_once_all_the_same(pair: Any) -> None:
    shared: dict[str, Any] = {}
    meddler = Meddler(lambda: shared.update(more=1))
    put(shared, meddler)
    pair.here["v"] = shared
    export = pair.send("v")
    assert meddler.calls == 1 and list(export.sent) == ["v"] and pair.there["v"] == {"meddler": "meddled", "after": 1, "more": 1}


def test_28_what_never_holds_still_is_named_and_left(pair: Any) -> None:
    shared: dict[Any, Any] = {}
    counter = iter(range(1000))
    put(shared, Each(lambda: shared.__setitem__(next(counter), 1), 1000))
    pair.here |= {"v": shared, "quiet": [1]}
    export = pair.client.export(["quiet", "v"])
    assert [(s.name, s.reason) for s in export.stuck] == [("v", "another thread changed it each time that it was pickled")]
    assert list(export.sent) == ["quiet"]


def test_28_aliases_survive_the_second_attempt(pair: Any) -> None:
    inner = [1]
    shared: dict[Any, Any] = {"inner": inner}
    counter = iter(range(1000))
    put(shared, Each(lambda: shared.__setitem__(next(counter), inner), 2))  # once in the probe, once among the others
    pair.here |= {"v": shared, "inner": inner}
    export = pair.client.export(["inner", "v"])
    assert not export.stuck and not export.warnings
    pair.carry(export, pair.client, pair.kernel)
    there = pair.there
    assert there["v"]["inner"] is there["inner"] and there["v"][0] is there["inner"]


def test_28_other_errors_are_not_tried_again() -> None:
    tries: list[int] = []

    def work() -> None:
        tries.append(1)
        raise RuntimeError("iteration is not for you")

    with pytest.raises(RuntimeError, match="not for you"):
        undisturbed(work)
    assert len(tries) == 1


@pytest.mark.parametrize("size", [1_000, 100_000])  # inside of the message, and apart from it
def test_28_an_array_that_changes_on_its_way_is_refused(pair: Any, size: int) -> None:
    pair.here |= {"v": np.zeros(size), "w": [1]}
    export = pair.client.export(pair.client.needed(["v", "w"]))
    pair.here["v"][size // 2] = 1  # a thread of the person's, after the digest was taken
    with pytest.raises(SnapshotRefused, match="damaged"):
        pair.carry(export, pair.client, pair.kernel)
    assert not {"v", "w"} & pair.there.keys(), "nothing of it was taken over"
    pair.client.abandon(export)
    assert sorted(pair.send("v", "w").sent) == ["v", "w"] and pair.there["v"][size // 2] == 1


def test_28_an_array_that_changed_since_is_seen_at_the_next_sync(pair: Any) -> None:
    pair.here["v"] = np.zeros(100_000)
    export = pair.client.export(pair.client.needed(["v"]))
    there = pair.carry(export, pair.client, pair.kernel)
    pair.here["v"][7] = 1
    assert there.bound == ["v"] and list(pair.send("v").sent) == ["v"] and pair.there["v"][7] == 1


def test_30_a_change_at_either_end_is_a_version_of_its_own(pair: Any) -> None:
    pair.here["v"] = {"n": 0}
    pair.send("v")
    mark = pair.kernel.mark()
    pair.there["v"]["n"] = 1
    pair.here["v"]["n"] = 2  # a thread, while the cell runs: what the cell made is taken, and the copy here is no version apart
    pair.back(mark, CellNames(loads=["v"]))
    assert pair.here["v"] == {"n": 1} and list(pair.send("v").unchanged) == ["v"]


def test_30_a_name_bound_anew_while_the_cell_ran_is_told(pair: Any) -> None:
    pair.here["v"] = [0]
    pair.send("v")
    mark = pair.kernel.mark()
    pair.there["v"].append(1)
    pair.here["v"] = [9]
    export = pair.kernel.export(pair.kernel.touched(mark, CellNames(loads=["v"])))
    change = pair.carry(export, pair.kernel, pair.client)
    assert pair.here["v"] == [0, 1] and "v was bound anew here" in change.warnings[0]


def test_18_19_a_set_is_the_same_however_it_came_to_be_so() -> None:
    """Order depends on history: a needless send at worst, and never a change that goes unseen."""
    one, other = {f"k{i}" for i in range(100)}, {f"k{i}" for i in range(100)}
    assert probe(one, "v", {}).fingerprint == probe(one, "v", {}).fingerprint
    other.remove("k5")
    assert probe(one, "v", {}).fingerprint != probe(other, "v", {}).fingerprint
