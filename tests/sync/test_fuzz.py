"""Whatever bytes arrive: the typed error or a value, and never half of a snapshot."""

from __future__ import annotations

import collections
import datetime
import os
import pickle
import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hostile import CANARY, named, snapshot_of, text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyter_gpu.sync.chunks import ChunkStore, digest, pack, unpack
from jupyter_gpu.sync.exceptions import dump_exception, load_exception
from jupyter_gpu.sync.plain.machine import Machine
from jupyter_gpu.sync.replica import Replica
from jupyter_gpu.sync.segments import Segment, read, written
from jupyter_gpu.wire import codec
from jupyter_gpu.wire.errors import FrameGarbled, SnapshotRefused, TravelError
from jupyter_gpu.wire.messages import BufferRef, CellDone, HandleInfo, Snapshot

#: More of them by JUPYTER_GPU_FUZZ=20000, for a night.
EXAMPLES = int(os.environ.get("JUPYTER_GPU_FUZZ", "250"))
fuzzed = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
pytestmark = [pytest.mark.timeout(max(180, EXAMPLES)), pytest.mark.filterwarnings("ignore")]

SHARED = [1, 2]
REAL: dict[str, Any] = {
    "plain": {"a": [1, 2.5, "é", b"x", None, True, (1, (2,)), {3}, frozenset({4})], 5: {"k": SHARED}, "again": SHARED, "big": 1 << 70},
    "times": [datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc), datetime.date(2020, 1, 1)],
    "containers": [
        collections.OrderedDict(a=1),
        collections.deque([1, 2], 5),
        collections.Counter("aab"),
        collections.defaultdict(list, a=[1]),
    ],
    "arrays": [
        np.arange(6.0).reshape(2, 3),
        np.array(["a", None], object),
        np.array(["2020"], "M8[D]"),
        np.float32(1),
        np.random.default_rng(1),
    ],
    "structures": np.zeros(2, np.dtype([("a", "i4"), ("b", "f8")])),
    "frame": pd.DataFrame({"a": [1, 2], "c": pd.Categorical(["x", "y"]), "n": pd.array([1, None], dtype="Int64")}),
    "index": pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]),
}


def export_of(value: Any) -> tuple[Snapshot, bytes, list[bytes]]:
    export = Replica({"x": value, "y": SHARED}, "kernel").export(["x", "y"])
    return export.snapshot, export.stream, [bytes(b) for b in export.buffers]


EXPORTS = [export_of(value) for value in REAL.values()]


class Client:
    """Trusts with data alone, and has an object that both ends know."""

    def __init__(self) -> None:
        self.kept, self.table = [1], {"k": 1}
        self.here: dict[str, Any] = {"kept": self.kept, "table": self.table, "array": np.arange(3.0)}
        self.replica = Replica(self.here, "client", trust="data")
        self.replica.confirm(self.replica.export(list(self.here)))

    def picture(self) -> Any:
        return repr(self.kept), repr(self.table), repr(self.here), {n: id(v) for n, v in self.here.items()}

    def tokens(self) -> list[int]:
        return sorted(self.replica.objects.tokens.values())

    def take(self, snapshot: Snapshot, stream: bytes, buffers: list[bytes]) -> bool:
        """Whether it was taken over. If not, all is as it was."""
        before = self.picture()
        try:
            self.replica.apply(snapshot, stream, [memoryview(bytearray(b)) for b in buffers])
        except TravelError:
            assert self.picture() == before
            return False
        finally:
            assert CANARY == []
        return True


edits = st.lists(
    st.tuples(st.integers(0, 1 << 30), st.integers(0, 255), st.sampled_from(["set", "insert", "delete", "copy"])), min_size=1, max_size=6
)


def edited(data: bytes, changes: list[tuple[int, int, str]], first: int = 0) -> bytes:
    found = bytearray(data)
    for where, value, how in changes:
        at = first + where % max(1, len(found) - first)
        if how == "set" and found:
            found[at : at + 1] = bytes([value])
        elif how == "insert":
            found[at:at] = bytes([value])
        elif how == "delete":
            del found[at : at + 1 + value % 4]
        else:
            found[at:at] = found[where % (len(found) + 1) :][: value % 40]
    return bytes(found)


# ---------------------------------------------------------------- snapshots


@fuzzed
@given(st.sampled_from(EXPORTS), edits)
def test_damaged_streams(export: tuple[Snapshot, bytes, list[bytes]], changes: list[tuple[int, int, str]]) -> None:
    snapshot, stream, buffers = export
    client = Client()
    client.take(snapshot, edited(stream, changes), buffers)


@fuzzed
@given(st.sampled_from(EXPORTS), edits)
def test_damaged_pickles_in_a_whole_envelope(export: tuple[Snapshot, bytes, list[bytes]], changes: list[tuple[int, int, str]]) -> None:
    """The table of contents is right: the machine itself meets the damage."""
    snapshot, stream, buffers = export
    segments, start = read(stream)
    parts = []
    for _, _, _, length in segments:
        parts.append(stream[start : start + length])
        start += length
    parts[0] = edited(parts[0], changes)
    head = written(each._replace(length=len(part)) for each, part in zip(segments, parts))
    client = Client()
    if not client.take(snapshot, head + b"".join(parts), buffers):
        whole = Client()
        assert whole.take(*export)  # the same snapshot, undamaged


@fuzzed
@given(st.binary(max_size=200), st.sampled_from(["code", "data"]))
def test_tables_of_contents(head: bytes, trust: Any) -> None:
    """Nothing of the table is code's, whatever is trusted: it is read before anything else."""
    here: dict[str, Any] = {"x": 1}
    with pytest.raises(SnapshotRefused):
        Replica(here, "client", trust=trust).apply(
            Snapshot(serial=1, names=["y"], stream=BufferRef(b"", 0)), len(head).to_bytes(4, "little") + head, []
        )
    assert here == {"x": 1}


numbers = st.one_of(st.integers(0, 5), st.sampled_from([1 << 31, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]))


@fuzzed
@given(st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=4))
def test_tables_that_do_not_add_up(segments: list[tuple[int, int, int, int]]) -> None:
    body = pickle.dumps(7, 5)
    client = Client()
    stream = written(Segment(*each) for each in segments) + body
    taken = client.take(Snapshot(serial=1, names=["x"], stream=BufferRef(b"", 0)), stream, [])
    assert taken == (len(segments) == 1 and (segments[0][0], segments[0][1], segments[0][3]) == (1, 0, len(body)))


# ---------------------------------------------------------------- streams made of opcodes

_SIMPLE = [bytes([op]) for op in sorted(Machine.dispatch)]
_VALUES = [
    b"N",
    b"\x88",
    b"K\x05",
    b"M\x01\x02",
    text("a"),
    text("state"),
    b"C\x02ab",
    b"]",
    b")",
    b"}",
    b"\x8f",
    b"(",
    b"G" + b"\x00" * 8,
    b"h\x00",
    b"h\x01",
    b"h\x03",
]
_NAMES = [
    named(module, name)
    for module, name in [
        ("builtins", "list"), ("builtins", "range"), ("builtins", "slice"), ("builtins", "getattr"), ("builtins", "type"), ("builtins", "ValueError"),
        ("builtins", "bytearray"), ("collections", "OrderedDict"), ("collections", "deque"), ("collections", "defaultdict"), ("collections", "Counter"),
        ("collections", "ChainMap"), ("datetime", "date"), ("datetime", "timezone"), ("decimal", "Decimal"), ("fractions", "Fraction"), ("uuid", "UUID"),
        ("re", "_compile"), ("re", "RegexFlag"), ("random", "Random"), ("_io", "BytesIO"), ("array", "_array_reconstructor"), ("array", "array"),
        ("numpy", "dtype"), ("numpy", "ndarray"), ("numpy._core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"), ("numpy.random._pickle", "__bit_generator_ctor"), ("numpy.random._pickle", "__generator_ctor"),
        ("pandas", "DataFrame"), ("pandas", "Series"), ("pandas", "CategoricalDtype"), ("pandas._libs.internals", "_unpickle_block"),
        ("pandas.core.indexes.base", "_new_Index"), ("pandas", "Index"), ("pandas", "RangeIndex"), ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"),
        ("pandas.core.internals.managers", "BlockManager"), ("jupyter_gpu.sync.codecs", "_view"), ("jupyter_gpu.sync.codecs", "_load_flat"),
        ("jupyter_gpu.sync.loading", "named_module"), ("os", "system"), ("hostile", "touch"),
    ]
]  # fmt: skip
_ARRAYS = [
    pickle.dumps(value, 5)[2:-1] for value in (np.arange(4.0), np.dtype("i4"), np.array([None]), pd.RangeIndex(3), pd.array([1, None]))
]
_CALLS = [b")R", b")\x81", b"\x85R", b"\x86R", b"\x87R", b"tR", b"}b", b"Nb", b"\x94", b"0", b"Q", b"a", b"e", b"s", b"u"]
piece = st.one_of(
    st.sampled_from(_SIMPLE),
    st.sampled_from(_VALUES),
    st.sampled_from(_NAMES),
    st.sampled_from(_ARRAYS),
    st.sampled_from(_CALLS),
    st.binary(max_size=4),
)


@fuzzed
@given(st.lists(piece, max_size=40), st.lists(st.binary(max_size=16), max_size=2))
def test_streams_of_opcodes(pieces: list[bytes], buffers: list[bytes]) -> None:
    client = Client()
    client.take(*_with(snapshot_of([(["x"], b"\x80\x05" + b"".join(pieces) + b".")], buffers)))


def _with(found: tuple[Snapshot, bytes, list[memoryview]]) -> tuple[Snapshot, bytes, list[bytes]]:
    return found[0], found[1], [bytes(b) for b in found[2]]


@fuzzed
@given(st.data(), st.sampled_from(["list", "dict", "set", "twin", "same", "cell", "bytearray", "list!", "dict!", "odd"]))
def test_persistent_ids(data: st.DataObject, kind: str) -> None:
    client = Client()
    token = data.draw(st.one_of(st.sampled_from(client.tokens()), st.integers(-(1 << 60), 1 << 60)))
    content = data.draw(st.sampled_from([*_VALUES, *_ARRAYS, *_NAMES]))
    pid = text(kind) + b"\x8a\x08" + token.to_bytes(8, "little", signed=True) + content + b"\x87"
    more = data.draw(st.lists(piece, max_size=6))
    client.take(*_with(snapshot_of([(["x"], b"\x80\x05" + pid + b"Q" + b"".join(more) + b".")])))


@fuzzed
@given(st.lists(piece, max_size=40))
def test_memory_follows_the_bytes_that_came(pieces: list[bytes]) -> None:
    """No short stream makes anything large."""
    stream = b"\x80\x05" + b"".join(pieces) + b"."
    tracemalloc.start()
    try:
        Machine(stream, []).load()
    except Exception:  # which one is the business of the others
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 64 << 20


# ---------------------------------------------------------------- buffers, exceptions, messages


refs = st.builds(
    BufferRef,
    st.one_of(st.binary(max_size=16), st.just(digest(b"abc"))),
    st.one_of(st.integers(-5, 5), st.just(3), st.just(1 << 62)),
    st.integers(-3, 3),
)


@fuzzed
@given(st.one_of(st.none(), refs), st.lists(refs, max_size=4), st.lists(st.sampled_from([b"abc", b"", b"abcd"]), max_size=3))
def test_references_to_buffers(stream: BufferRef | None, buffers: list[BufferRef], held: list[bytes]) -> None:
    store = ChunkStore()
    store.put(digest(b"abc"), bytearray(b"abc"))
    before = store.size
    try:
        found, views = unpack(Snapshot(serial=1, names=["x"], stream=stream, buffers=buffers), [memoryview(b) for b in held], store)
    except SnapshotRefused:
        assert store.size == before
        return
    assert all(bytes(v) == b"abc" or v.nbytes == ref.size for v, ref in zip(views, buffers)) and found is not None


def _error() -> bytes:
    try:
        try:
            {}["k"]
        except KeyError as error:
            raise ValueError("x", 1) from error
    except ValueError as error:
        found = dump_exception(error)
        assert found is not None
        return found


@fuzzed
@given(edits)
def test_exceptions(changes: list[tuple[int, int, str]]) -> None:
    found = load_exception(edited(_error(), changes), {}, "data")
    assert found is None or isinstance(found, Exception)


def _messages() -> list[bytes]:
    export = Replica({"x": REAL["plain"]}, "kernel").export(["x"])
    parcel = pack(export)
    done = CellDone(
        run_id="r", status="ok", execution_count=1, snapshot=parcel.snapshot, handles=[HandleInfo(name="h", type="t", text="x")]
    )
    return [b"".join(bytes(p) for p in codec.encode(done, parcel.inline))]


@fuzzed
@given(st.sampled_from(_messages()), edits)
def test_messages(payload: bytes, changes: list[tuple[int, int, str]]) -> None:
    try:
        message, buffers = codec.decode(bytearray(edited(payload, changes)))
    except FrameGarbled:
        return
    client = Client()
    if isinstance(message, CellDone) and message.snapshot is not None:
        try:
            stream, found = unpack(message.snapshot, buffers, ChunkStore())
        except SnapshotRefused:
            return
        client.take(message.snapshot, bytes(stream), [bytes(b) for b in found])
    assert msgspec.to_builtins(message) is not None
