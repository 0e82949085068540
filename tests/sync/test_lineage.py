"""What both ends had last, and what is made of it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from jupyter_gpu.sync import lineage as module
from jupyter_gpu.sync.chunks import pack
from jupyter_gpu.sync.copies import Copies
from jupyter_gpu.sync.delta import STALE_BYTES
from jupyter_gpu.sync.lineage import Lineage, lacking, spans_of
from jupyter_gpu.sync.pieces import cut, digest, names_of
from jupyter_gpu.sync.replica import Replica
from jupyter_gpu.wire.errors import SnapshotRefused
from jupyter_gpu.wire.messages import BufferRef, Offer, Snapshot

SIZE = 1 << 18  # elements
rng = np.random.default_rng(3)


def small(pair: Any, memory: int = 0) -> None:
    """Budgets of both ends."""
    for each in (pair.client, pair.kernel):
        each.lineage.copies.clear()
        each.lineage.copies.memory = memory


def test_spans_are_those_of_the_stream() -> None:
    replica = Replica({"a": rng.random(SIZE), "b": [1], "c": rng.random(3)}, "client")
    export = replica.export(["a", "b", "c"])
    spans = spans_of(export.snapshot, export.stream)
    assert sorted(n for span in spans for n in span.names) == ["a", "b", "c"]
    assert spans[-1].start + spans[-1].length == len(export.stream) and sum(s.count for s in spans) == len(export.buffers)


@pytest.mark.parametrize("stream", [b"", b"\x05", b"\xff\xff\xff\xff", b"\x04\0\0\0abcd", b"\x12\0\0\0\x80\x05cbuiltins\neval\n."])
def test_a_stream_that_makes_no_sense_has_no_spans(stream: bytes) -> None:
    snapshot = Snapshot(serial=1, names=["a"], stream=BufferRef(digest(stream), len(stream)))
    assert spans_of(snapshot, stream) == []


def test_nothing_is_known_of_what_was_not_agreed() -> None:
    replica = Replica({"a": rng.random(SIZE)}, "client")
    export = replica.export(["a"])
    assert pack(export, 0, replica.lineage).chunks.keys() == {export.snapshot.buffers[0].digest}
    replica.abandon(export)
    assert len(replica.lineage) == 0 and len(replica.lineage.copies) == 0


def test_forgetting_gives_back_the_copies(pair: Any) -> None:
    pair.here["a"] = pair.here["b"] = rng.random(SIZE)
    pair.here["c"] = rng.random(SIZE)
    pair.send("a", "b")
    pair.send("c")
    for replica in (pair.client, pair.kernel):
        assert len(replica.lineage) == len(replica.lineage.copies) == 2
        replica.forget(["a"])
        assert len(replica.lineage.copies) == 2
        replica.forget(["b"])
        assert len(replica.lineage.copies) == 1
        replica.reset()
        assert len(replica.lineage) == len(replica.lineage.copies) == 0


def test_the_older_bytes_are_dropped(pair: Any) -> None:
    pair.here["a"] = rng.random(SIZE)
    for i in range(5):
        pair.here["a"][i] = i
        pair.send("a")
        for replica in (pair.client, pair.kernel):
            assert len(replica.lineage.copies) == 1 and replica.lineage.copies.size == SIZE * 8


def test_memory_is_bounded(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 3)
    for name in "abcdef":
        pair.here[name] = rng.random(SIZE)
        pair.send(name)
    assert len(pair.client.lineage) == len(pair.kernel.lineage) == 3
    pair.here["a"][0] = 1
    pair.send("a")
    assert pair.there["a"][0] == 1


@pytest.mark.parametrize("memory", [64 << 20, 0], ids=["copies", "no copies"])
@pytest.mark.parametrize(
    "change", ["a[5] = 1", "a = np.concatenate([rng.random(10), a])", "a = a[1000:]", "b = a.copy(); b[7] = 1", "pass"]
)
def test_a_live_value_serves_where_nothing_was_kept(pair: Any, change: str, memory: int) -> None:
    small(pair, memory)
    pair.local("import numpy as np\nrng = np.random.default_rng(0)")
    pair.here["a"] = rng.random(SIZE * 4)
    pair.send("a")
    for end in ("kernel", "client"):
        if end == "kernel":
            pair.local(change)
            pair.send(*(n for n in "ab" if n in pair.here))
        else:
            pair.run("import numpy as np\nrng = np.random.default_rng(0)")
            pair.run(change)
        assert pair.travelled < SIZE * 8 or "b" in pair.here
        for name in (n for n in "ab" if n in pair.here):
            assert np.array_equal(pair.here[name], pair.there[name])


def test_a_name_with_bytes_that_are_known_by_another(pair: Any) -> None:
    pair.here["a"] = rng.random(SIZE)
    pair.send("a")
    pair.here["b"] = pair.here["a"].copy()
    pair.send("b")
    assert pair.travelled < 1000 and np.array_equal(pair.there["b"], pair.here["a"]) and pair.there["b"] is not pair.there["a"]


def test_who_has_forgotten_says_so_and_both_ends_stay_as_they_are(pair: Any) -> None:
    pair.here["a"] = rng.random(SIZE)
    pair.send("a")
    before = pair.there["a"].copy()
    pair.kernel.lineage.reset()
    pair.here["a"][3] = 5
    export = pair.client.export(["a"])
    with pytest.raises(SnapshotRefused) as caught:
        pair.carry(export, pair.client, pair.kernel)
    assert caught.value.reason.startswith(STALE_BYTES) and np.array_equal(pair.there["a"], before)
    pair.client.abandon(export)
    pair.client.recover(str(caught.value))
    held = pair.there["a"]
    pair.send("a")
    assert pair.travelled > SIZE * 8 and pair.there["a"] is held and held[3] == 5


def test_which_pieces_are_lacking() -> None:
    old = rng.bytes(1 << 20)
    names = names_of(old, cut(old, 8))
    assert lacking(memoryview(old), Offer(id=1, digests=[names[3], b"x" * 16, names[0]], base=b"b", step=8)) == [1]
    assert lacking(None, Offer(id=1, digests=names, base=b"b", step=8)) == list(range(len(names)))
    assert lacking(memoryview(old), Offer(id=1, digests=names, base=b"b", step=0)) == list(range(len(names)))


def test_lineages_share_nothing() -> None:
    one, other = Lineage(), Lineage()
    assert one.copies is not other.copies
    assert Lineage(shared := Copies()).copies is shared


@pytest.mark.parametrize("seed", range(4))
def test_two_hundred_cells_with_faults(pair: Any, seed: int) -> None:
    """Whatever happens in the middle: the next sync puts it right, and nothing grows."""
    rolls = random.Random(seed)
    setup = "import numpy as np\nrng = np.random.default_rng(0)\na = rng.random(40_000)\nb = rng.random(40_000)\nc = list(range(50_000))\nd = [a, b]"
    pair.local(setup)
    small(pair, 1 << 20)
    pair.send("np", "rng", "a", "b", "c", "d")
    cells = [
        "a[rng.integers(0, len(a), 9)] = 1",
        "b = np.concatenate([rng.random(8), b])",
        "c.append(len(c))",
        "d = [a, b, c]",
        "a = rng.random(40_000)",
        "b = b[: 40_000]",
        "c = c[100:] + [1, 2]",
        "d[0][5] += 1",
    ]
    for _ in range(200):
        code = rolls.choice(cells)
        fault = rolls.random()
        if fault < 0.1:
            rolls.choice([pair.client, pair.kernel]).lineage.reset()
        elif fault < 0.2:
            rolls.choice([pair.client, pair.kernel]).lineage.copies.clear()
        for attempt in range(3):
            try:
                if rolls.random() < 0.5:
                    pair.local(code)
                    pair.send("rng", "a", "b", "c", "d")
                else:
                    pair.run(code)
                break
            except SnapshotRefused as error:
                assert error.reason.startswith(STALE_BYTES) and attempt < 2
                code = "pass"
                for each in (pair.client, pair.kernel):
                    each.recover(str(error))
                resend(pair)
        for each in (pair.client, pair.kernel):
            assert len(each.lineage) <= 20 and each.lineage.copies.size <= 1 << 20
    for name in "abcd":
        assert repr(pair.here[name]) == repr(pair.there[name])
        assert np.array_equal(pair.here["a"], pair.there["a"]) and np.array_equal(pair.here["b"], pair.there["b"])


def resend(pair: Any) -> None:
    """What was under way when an end refused: the kernel's changes come back whole, as the worker does it."""
    export = pair.kernel.export([n for n in ("rng", "a", "b", "c", "d") if n in pair.there])
    try:
        pair.carry(export, pair.kernel, pair.client)
    except SnapshotRefused:
        pair.kernel.abandon(export)


def test_a_table_that_is_cut_short() -> None:
    from jupyter_gpu.sync.segments import Segment, read, written

    table = written([Segment(1, 2, 3, 4)])
    assert read(table + b"more") == ([Segment(1, 2, 3, 4)], len(table))
    for damaged in (table[:-1], table[:4], b"\x05\0\0\0abcde"):
        with pytest.raises(ValueError, match="damaged"):
            read(damaged)


@pytest.mark.parametrize("way", ["to the kernel", "to the client"])
@pytest.mark.parametrize(
    ("value", "change", "most"),
    [
        pytest.param("list(range(10**6))", "v.insert(0, 5)", 0.02, id="numbers"),
        pytest.param("list(range(10**6))", "v.insert(0, 5); v.pop()", 0.02, id="as long as before"),
        pytest.param("list(range(10**6))", "v.insert(1000, 5); del v[500_000:500_007]; v.append(1)", 0.02, id="several places"),
        pytest.param("__import__('random').Random(0).choices(range(100), k=10**6)", "v.insert(0, 5)", 0.25, id="small numbers"),
        pytest.param("[i / 7 for i in range(500_000)]", "v[:] = [0.5] + v", 0.02, id="floats"),
        pytest.param("[f'row {i}' for i in range(300_000)]", "v.insert(3, 'x')", 0.02, id="text"),
        pytest.param(
            "{i: str(i) for i in range(300_000)}", "old = dict(v); v.clear(); v[-1] = 'first'; v.update(old); del old", 0.02, id="dict"
        ),
    ],
)
def test_what_is_put_into_a_long_container_is_what_travels(pair: Any, way: str, value: str, change: str, most: float) -> None:
    """Pickle marks every thousand elements, so that all of its marks are elsewhere among them afterwards. Of numbers below 256, of which a
    thousand are 2 KB, not every piece lies between two of them."""
    pair.local(f"v = {value}")
    pair.send("v")
    first, there = pair.travelled, pair.there["v"]
    if way == "to the kernel":
        pair.local(change)
        pair.send("v")
    else:
        pair.run(change)
    assert pair.travelled < most * first + 4096
    assert pair.there["v"] == pair.here["v"] and pair.there["v"] is there
    assert list(pair.there["v"]) == list(pair.here["v"])
