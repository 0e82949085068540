"""Small plain values, which are told apart without a pickler and travel in one pickle."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpu.sync.chunks import ChunkStore, pack, unpack
from jupyter_gpu.sync.fingerprint import Prober, Simple, probe
from jupyter_gpu.sync.replica import Replica
from jupyter_gpu.sync.segments import read
from jupyter_gpu.sync.simple import SIZE, marshalled, parts_of

atoms = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5), st.complex_numbers())
hashable = st.recursive(atoms, lambda inner: st.tuples(inner, inner), max_leaves=4)
plain = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(hashable, inner, max_size=4), st.tuples(inner, inner), st.sets(hashable, max_size=4)
    ),
    max_leaves=12,
)


def told(value: Any) -> str:
    """Kinds and values, all the way down: 1, 1.0 and True are three things, and so are 0.0 and -0.0."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{told(k)}:{told(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({','.join(map(told, value))})"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}({','.join(sorted(map(told, value)))})"
    return f"{type(value).__name__} {value!r}"


@settings(max_examples=300, deadline=None)
@given(plain, plain)
def test_equal_values_have_one_fingerprint_and_others_have_another(a: Any, b: Any) -> None:
    looked = [probe(value, "v", {}) for value in (a, copy.deepcopy(a), b)]
    if not all(isinstance(found, Simple) for found in looked):
        return
    assert looked[0].fingerprint == looked[1].fingerprint
    assert (looked[0].fingerprint == looked[2].fingerprint) == (told(a) == told(b))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), plain, max_size=6))
def test_they_arrive_as_they_were(values: dict[str, Any]) -> None:
    here, there = Replica(dict(values), "client"), Replica({}, "kernel")
    export = here.export(here.needed(values))
    parcel = pack(export)
    there.apply(parcel.snapshot, *unpack(parcel.snapshot, [memoryview(b) for b in parcel.inline], ChunkStore()))
    here.confirm(export)
    assert {n: told(there.namespace[n]) for n in values} == {n: told(v) for n, v in values.items()}
    assert not here.export(here.needed(values)).sent, "the other end has them"
    assert not there.export(there.needed(values)).sent, "and knows that they came from there"


class Own(list[Any]):
    pass


@pytest.mark.parametrize(
    "value",
    [
        Own([1]),
        [Own()],
        {"a": print},
        [lambda: 1],
        [range(3)],
        [bytearray(b"a")],
        [memoryview(b"a")],
        (1, [..., object()]),
        {1: [2, {3: print}]},
    ],
    ids=repr,
)
def test_what_is_not_plain_is_looked_at_by_the_pickler(value: Any) -> None:
    assert parts_of(value) is None


def test_an_array_in_a_list_is_no_bytes_of_it() -> None:
    np = pytest.importorskip("numpy")
    assert parts_of([np.arange(3)]) is None and parts_of({"a": np.float64(1)}) is None


def test_code_objects_are_none() -> None:
    assert parts_of([told.__code__]) is None


def test_what_is_shared_or_cyclic_is_no_tree() -> None:
    inner: list[Any] = [1]
    assert parts_of([inner, inner]) is None
    inner.append(inner)
    assert parts_of(inner) is None
    laughs: list[Any] = ["ha"]
    for _ in range(50):
        laughs = [laughs, laughs]
    assert parts_of(laughs) is None


def test_what_is_deep_or_large_is_not_small() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert parts_of(deep) is None and parts_of([0] * 1001) is None
    assert marshalled("x" * SIZE) is None and marshalled(["x" * 1000] * 5) is None
    while deep:
        deep = deep.pop()


def test_what_stays_at_this_end_is_no_plain_data() -> None:
    stays = ["large"]
    for value in (stays, [stays], {"a": (1, stays)}, {1: [2, {3: stays}]}):
        assert parts_of(value, {id(stays): "key"}) is None
        assert parts_of(value, {id(value) + 1: "key"}) is not None
    text = "stays" * 2
    assert parts_of([text], {id(text): "key"}) is None and parts_of(text, {id(text): "key"}) is None


def test_they_travel_in_one_pickle(pair: Any) -> None:
    pair.here.update({f"n{i}": [i, {"i": i}] for i in range(100)}, f=lambda: 1)
    export = pair.client.export(pair.client.needed([f"n{i}" for i in range(100)] + ["f"]))
    segments, _ = read(export.stream)
    assert [each.names for each in segments] == [100, 1]


def test_they_are_what_a_later_value_reads_while_it_is_rebuilt(pair: Any) -> None:
    pair.local("""
class Reads:
    def __getstate__(self): return {}
    def __setstate__(self, state): self.found = setting[0]
setting, reads = [7], Reads()
reads.found = 0""")
    pair.send("reads", "setting")
    assert pair.there["reads"].found == 7


def test_an_alias_made_later_is_seen(pair: Any) -> None:
    """Equal values that are tied anew."""
    pair.local("a = [1]; b = [[1]]")
    pair.send("a", "b")
    pair.local("b[0] = a")
    pair.run("a.append(2); b")
    assert pair.here["b"][0] is pair.here["a"] and pair.here["b"] == [[1, 2]]
    pair.local("b[0] = list(a)")
    pair.run("a.append(3); b")
    assert pair.here["b"] == [[1, 2]] and pair.here["a"] == [1, 2, 3]


def test_an_alias_with_what_is_not_simple(pair: Any) -> None:
    pair.local("class C: pass\nshared = [1]; c = C(); c.held = shared")
    pair.run("c.held.append(2)")
    assert pair.here["shared"] == [1, 2] and pair.here["c"].held is pair.here["shared"]


def test_one_pickler_looks_at_many_values_and_mixes_up_nothing() -> None:
    np = pytest.importorskip("numpy")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("def reads(): return base\ndef other(): import json; return 1\nclass C: pass", namespace)
    prober = Prober(namespace)
    values = [namespace["reads"], [np.arange(10_000)], namespace["other"], (i for i in "a"), {"c": namespace["C"]()}, [np.zeros(3)]]
    together = [prober.look(value, "v") for value in values]
    apart = [probe(value, "v", namespace) for value in values]
    for one, other in zip(together, apart):
        assert (one.stream, one.digests, one.fingerprint, one.identity) == (other.stream, other.digests, other.fingerprint, other.identity)
        assert (one.globals_seen, one.imports, one.modules) == (other.globals_seen, other.imports, other.modules)
        assert set(one.memo or {}) >= {id(one.value)} or one.stuck
        assert one.has_arrays == other.has_arrays and bool(one.stuck) == bool(other.stuck)
    assert set(together[0].globals_seen) == {"base"} and not together[2].globals_seen and together[3].stuck is not None


# ---------------------------------------------------------------- copies


def test_copies_are_pickled_once_and_known_as_objects(pair: Any) -> None:
    pair.local("""
calls = []
class C:
    def __getstate__(self): calls.append(1); return {"v": 1}
c, a = C(), [1]
both = [a, a]""")
    export = pair.client.export_copies(["c", "a", "both"])
    assert len(pair.here["calls"]) == 1 and set(export.sent) == {"c", "a", "both"} and not export.fingerprints
    pair.carry(export, pair.client, pair.kernel)
    assert pair.there["both"][0] is pair.there["both"][1] is pair.there["a"] and pair.there["c"].v == 1
    pair.local("a.append(2)")
    pair.carry(pair.client.export_copies(["both"]), pair.client, pair.kernel)
    assert pair.there["a"] == [1, 2], "an object that the other end has is updated where it is"


def test_copies_that_cannot_be_made_in_one_go(pair: Any) -> None:
    pair.local("""
import threading
class Ends:
    def __reduce__(self): raise SystemExit(3)
lock, ends, fine = [threading.Lock()], Ends(), [1]""")
    export = pair.client.export_copies(["lock", "ends", "fine"])
    assert {each.name for each in export.stuck} == {"lock", "ends"} and set(export.sent) == {"fine"}


def test_copies_keep_views(pair: Any) -> None:
    pytest.importorskip("numpy")
    pair.local("import numpy as np; base = np.arange(20000.0); view = base[100:]")
    pair.carry(pair.client.export_copies(["base", "view"]), pair.client, pair.kernel)
    pair.there["view"][0] = -1
    assert pair.there["base"][100] == -1


# ---------------------------------------------------------------- settling later


def test_a_change_after_an_answer_that_came_first(pair: Any) -> None:
    pair.local("a, b = [1], {'x': [2]}")
    export = pair.client.export(pair.client.needed(["a", "b"]))
    parcel = pack(export)
    store = pair.stores[id(pair.kernel)]
    pair.kernel.apply(parcel.snapshot, *unpack(parcel.snapshot, [memoryview(b) for b in parcel.inline], store), settle=False)
    pair.client.confirm(export)
    pair.kernel.settle()
    pair.there["b"]["x"].append(3)
    assert set(pair.kernel.export(["a", "b"]).sent) == {"b"}


def test_whatever_comes_next_settles(pair: Any) -> None:
    pair.local("a = [1]")
    for again in (
        lambda: pair.kernel.mark(),
        lambda: pair.kernel.needed(["a"]),
        lambda: pair.kernel.export([]),
        lambda: pair.kernel.adopt([]),
    ):
        pair.client.forget(["a"])
        pair.client.objects.clear()
        export = pair.client.export(pair.client.needed(["a"]))
        parcel = pack(export)
        arrived = unpack(parcel.snapshot, [memoryview(b) for b in parcel.inline], pair.stores[id(pair.kernel)])
        pair.kernel.apply(parcel.snapshot, *arrived, settle=False)
        pair.client.confirm(export)
        again()
        assert pair.kernel.knows("a") and not pair.kernel.export(["a"]).sent
