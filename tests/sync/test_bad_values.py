"""What bad input gets: clear words, nothing half done, and a process that lives."""

from __future__ import annotations

import itertools
import mmap
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import numpy as np
import pytest
from hostile import call, dumped, named, pickled, snapshot_of, text

from jupyter_gpu.sync import pickler as pickling
from jupyter_gpu.sync.chunks import ChunkStore, pack, unpack
from jupyter_gpu.sync.replica import Replica
from jupyter_gpu.wire import codec
from jupyter_gpu.wire.errors import SnapshotRefused, UntrustedValue
from jupyter_gpu.wire.messages import RunCell

pytestmark = pytest.mark.timeout(120)

DEEP = 100_000
KINDS = {
    "list": "x = [x]",
    "tuple": "x = (x,)",
    "dict": "x = {'k': x}",
    "frozenset": "x = frozenset([x])",
    "deque": "x = collections.deque([x])",
    "object": "n = Node(); n.next = x; x = n",
    "slots": "n = Slim(); n.next = x; x = n",
    "closure": "x = (lambda y: lambda: y)(x)",
    "partial": "x = functools.partial(print, x)",
    "default": "x = (lambda y: lambda z=y: z)(x)",
    "exception": "e = ValueError(x); x = e",
    "ordered": "x = collections.OrderedDict(k=x)",
}
BUILD = """
import collections, functools
class Node: pass
class Slim:
    __slots__ = ('next',)
x = None
for _ in range({deep}):
    {step}
"""


def alone(code: str, timeout: float = 60, **limits: int) -> str:
    """Run in a process of its own, which must end by itself: what it prints. ``memory``: bytes of address space."""
    head = ""
    if "memory" in limits:
        head = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limits['memory']},) * 2)\n"
    body = "import numpy\nfrom jupyter_gpu.sync.replica import Replica\n" + head + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", body], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout


# ---------------------------------------------------------------- depth


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_thousand_levels_are_told_and_let_go(kind: str) -> None:
    """In a process of its own, since the failure is a crash: at pickling, at the search for the culprit, at freeing."""
    code = f"""
ns = {{'__name__': '__main__', 'kept': [1]}}
exec({BUILD.format(deep=DEEP, step=KINDS[kind])!r}, ns)
replica = Replica(ns, 'client')
export = replica.export(replica.needed(['x', 'kept']))
print([(s.path, s.reason) for s in export.stuck], list(export.sent))
replica.confirm(export); replica.adopt(['x']); replica.mark()
del ns['x'], export
replica.prune()
print('freed')
"""
    assert alone(code).splitlines() == ["[('x', 'it is nested too deeply to be pickled')] ['kept']", "freed"]


def test_a_chain_of_causes_is_cut(tmp_path: Any) -> None:
    code = """
from jupyter_gpu.sync.exceptions import dump_exception, load_exception
error = None
for n in range(100_000):
    new = ValueError(n); new.__cause__ = error; error = new
print(len(dump_exception(error)) < 100_000, load_exception(dump_exception(error)))
del error, new
print('freed')
"""
    assert alone(code).splitlines() == ["True 99999", "freed"]


@pytest.mark.parametrize("trust", ["code", "data"])
@pytest.mark.parametrize("kind", ["list", "tuple", "dict"])
def test_depth_that_arrives(trust: Any, kind: str) -> None:
    """A pickle goes on level by level, and may be as deep as it is long: it is taken over, looked at and let go."""
    levels = 1_000_000
    start, step = {"list": (b"]" * levels, b"a"), "tuple": (b")", b"\x85"), "dict": ((b"}" + text("k")) * levels, b"s")}[kind]
    end = step * (levels - 1) if kind != "dict" else b"N" + b"s" * levels
    here: dict[str, Any] = {}
    client = Replica(here, "client", trust=trust)
    client.apply(*snapshot_of([(["x"], pickled(start, end))]))
    assert len(here["x"]) == 1 and client.knows("x")
    assert "deeply" in client.export(["x"]).stuck[0].reason
    del here["x"]
    client.prune()


def test_arrays_within_arrays_are_refused_where_they_would_crash() -> None:
    """numpy lets go of an array of objects by recursion, without a limit."""
    head = named("numpy._core.multiarray", "_reconstruct") + b"\x940" + named("numpy", "ndarray") + b"\x940"
    head += call("numpy", "dtype", text("O8"), b"\x89", b"\x88") + b"\x940N\x94"
    layer = b"0h\x00(h\x01K\x00\x85C\x01btR\x94(K\x01K\x01\x85h\x02\x89]j%satb\x94"
    stream = pickled(head, *(layer.replace(b"%s", (3 + 2 * i).to_bytes(4, "little")) for i in range(1000)))
    with pytest.raises(UntrustedValue, match="nested too deeply"):
        Replica({}, "client", trust="data").apply(*snapshot_of([(["x"], stream)]))


def test_types_within_types_are_refused_where_they_would_crash() -> None:
    pa = pytest.importorskip("pyarrow")
    from jupyter_gpu.sync.plain import arrays, arrow

    lists, kind = arrow.TABLE["pyarrow.lib", "list_"].make, pa.int8()
    assert lists is not None
    with pytest.raises(ValueError, match="nested too deeply"):
        for _ in range(1000):
            kind = lists(kind)
    dtype: Any = np.dtype("i4")
    with pytest.raises(ValueError, match="nested too deeply"):
        for _ in range(1000):
            dtype = arrays._structured(("a",), {"a": (dtype, 0)}, 4, False)


def test_cycles_of_every_kind(pair: Any) -> None:
    pair.local(
        "import collections\nclass N: pass\n"
        "a = []; a.append(a); d = {}; d['d'] = d; n = N(); n.me = n; q = collections.deque(); q.append(q); t = ([],); t[0].append(t)\n"
        "def f(): return f\nf.me = f\ns = N(); s.all = {'s': [s, (s,)]}; o = collections.OrderedDict(); o['o'] = o"
    )
    pair.run(
        "ok = [a[0] is a, d['d'] is d, n.me is n, q[0] is q, t[0][0] is t, f.me is f and f() is f, s.all['s'][1][0] is s, o['o'] is o]\n"
        "a.append(d); n.also = s; q.append(a)"
    )
    here = pair.here
    assert here["ok"] == [True] * 8 and here["a"][1] is here["d"] and here["n"].also is here["s"] and here["q"][1] is here["a"]


# ---------------------------------------------------------------- __reduce__


class By:
    """Reduced as ``how`` says."""

    def __init__(self, how: Any) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return self.how(self)


def _raise(error: BaseException) -> Any:
    def how(_: Any) -> Any:
        raise error

    return how


class Fresh:
    def __reduce__(self) -> Any:
        return list, (), None, iter([Fresh()])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (By(_raise(ValueError("not today"))), "not today"),
        (By(_raise(SystemExit(3))), "SystemExit: 3"),
        (By(_raise(GeneratorExit())), "GeneratorExit"),
        (By(_raise(MemoryError())), "not enough memory"),
        (By(_raise(RecursionError("deep"))), "too deeply"),
        (By(lambda self: self), "string or tuple"),
        (By(lambda self: (list, (self,))), "too deeply"),
        (Fresh(), "too deeply"),
        (By(lambda self: None), "string or tuple"),
        (By(lambda self: 5), "string or tuple"),
        (By(lambda self: ()), "2 through 6"),
        (By(lambda self: (list,)), "2 through 6"),
        (By(lambda self: (list, (), 1, [], [], touch_nothing, 7)), "2 through 6"),
        (By(lambda self: (5, ())), "callable"),
        (By(lambda self: (list, 5)), "tuple"),
        (By(lambda self: "no.such.name"), "no.such.name"),
        (By(lambda self: (list, (), None, 5)), "iterable"),
        (By(lambda self: (dict, (), None, None, [1])), ""),
    ],
)
def test_reductions_that_are_nonsense(value: Any, words: str) -> None:
    here = {"x": [value], "y": [1]}
    export = Replica(here, "client").export(["x", "y"])
    assert [s.name for s in export.stuck] == ["x"] and list(export.sent) == ["y"]
    assert words in export.stuck[0].reason


def touch_nothing(*args: Any) -> None: ...


@pytest.mark.parametrize("endless", ["itertools.count()", "itertools.repeat((1, 2))", "iter(int, 1)", "numbers()"])
def test_a_reduction_without_an_end_has_one(monkeypatch: pytest.MonkeyPatch, endless: str) -> None:
    monkeypatch.setattr(pickling, "_MOST_ITEMS", 1 << 18)

    def numbers() -> Any:
        while True:
            yield 1

    scope = {"itertools": itertools, "numbers": numbers}
    stuck = Replica({"x": {"deep": By(lambda self: (list, (), None, eval(endless, scope)))}}, "client").export(["x"]).stuck
    assert len(stuck) == 1 and "seems not to end" in stuck[0].reason and stuck[0].path == "x['deep']"


@pytest.mark.parametrize("endless", ["itertools.count()", "loop()"])
def test_an_interrupt_ends_it(endless: str) -> None:
    """Even where the endless iterator is C's, within which no signal is looked at."""
    began = threading.Event()

    def loop() -> Any:
        while True:
            began.set()
            yield 1

    def how(_: Any) -> Any:
        began.set()
        return list, (), None, eval(endless, {"itertools": itertools, "loop": loop})

    def press() -> None:
        began.wait(30)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    here = {"x": By(how), "y": [1]}
    replica = Replica(here, "client")
    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        replica.export(["x", "y"])
    presser.join()
    assert list(replica.export(["y"]).sent) == ["y"]


def test_what_a_reduction_does_besides_happens_once(pair: Any) -> None:
    """Also where it fails, and is looked for afterwards."""
    pair.local(
        "calls = []\n"
        "class Counted:\n    def __init__(self): self.n = 0\n"
        "    def __getstate__(self):\n        calls.append('state'); self.n += 1; return {'n': self.n}\n"
        "class Fails:\n    def __reduce__(self):\n        calls.append('reduce'); raise ValueError('no')\n"
        "good = [Counted()]; bad = [Counted(), Fails()]"
    )
    (stuck,) = pair.client.export(pair.client.needed(["bad"])).stuck
    assert stuck.path == "bad[1]" and pair.here["calls"] == ["state", "reduce"]
    pair.here["calls"].clear()
    export = pair.client.export(pair.client.needed(["good"]))
    assert pair.here["calls"] == ["state"] and pair.here["good"][0].n == 1
    pair.carry(export, pair.client, pair.kernel)
    assert pair.here["calls"] == ["state"]


def test_keys_whose_repr_is_code_are_not_shown() -> None:
    class Key:
        def __repr__(self) -> str:
            raise SystemExit(1)

    (stuck,) = Replica({"x": {Key(): threading.Lock()}}, "client").export(["x"]).stuck
    assert "Key" in stuck.path and stuck.type == "_thread.lock"


# ---------------------------------------------------------------- size

MIB = 1 << 20


def test_a_value_larger_than_memory_is_told_and_nothing_is_done() -> None:
    """Bytes within a pickle are copied: there is room for one, and not for another."""
    code = """
ns = {'big': bytes(600 << 20), 'small': [1]}
replica = Replica(ns, 'client')
export = replica.export(['big', 'small'])
print([(s.name, s.reason) for s in export.stuck], list(export.sent), len(ns['big']))
"""
    out = alone(code, memory=1100 * MIB)
    assert out.splitlines() == [f"[('big', 'there is not enough memory here for a pickle of it')] ['small'] {600 * MIB}"]


@pytest.mark.parametrize("trust", ["code", "data"])
def test_a_snapshot_larger_than_memory_is_refused_and_nothing_is_done(trust: str) -> None:
    code = f"""
from jupyter_gpu.wire.errors import SnapshotRefused
there = Replica({{'kept': [1, 2], 'data': bytes(300 << 20)}}, 'kernel')
export = there.export(['kept', 'data'])
kept = [1]
here = {{'kept': kept}}
client = Replica(here, 'client', trust={trust!r})
import resource
free = 64 << 20
now = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + free, now + free))
try:
    client.apply(export.snapshot, export.stream, export.buffers)
    print('taken')
except SnapshotRefused as error:
    print('memory' in str(error), here == {{'kept': [1]}} and here['kept'] is kept)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
"""
    assert alone(
        code.replace("setrlimit(resource.RLIMIT_AS, (now + free, now + free))", "setrlimit(resource.RLIMIT_AS, (now + free, -1))")
    ).splitlines() == ["True True"]


def _zeros(size: int) -> mmap.mmap:
    """Private memory that is only read is the system's one page of zeros, here a large one: it costs nothing."""
    made = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        made.madvise(mmap.MADV_HUGEPAGE)
    return made


def test_a_buffer_of_more_than_four_gib() -> None:
    """Lengths are 64 bits wide everywhere."""
    size = (4 << 30) + 8
    room, more = _zeros(size), _zeros(size)
    there: dict[str, Any] = {}
    client, kernel = Replica({"x": np.frombuffer(room, np.uint8), "y": 1}, "client"), Replica(there, "kernel")
    export = client.export(["x", "y"])
    assert [b.nbytes for b in export.buffers] == [size] and export.snapshot.buffers[0].size == size and export.sent["x"] > size
    parcel = pack(export)
    assert [len(data) for data in parcel.chunks.values()] == [size]
    message = RunCell(run_id="r", code="", execution_count=1, snapshot=parcel.snapshot)
    parts = codec.encode(message, [memoryview(room)])
    assert sum(len(memoryview(p)) for p in parts) > size
    decoded, buffers = codec.decode(parts)
    assert decoded == message and buffers[0].nbytes == size
    kernel.apply(parcel.snapshot, export.stream, [memoryview(more)])
    assert there["x"].nbytes == size and there["y"] == 1


# ---------------------------------------------------------------- cuts and damage


def _state(replica: Replica, namespace: dict[str, Any]) -> Any:
    return {n: (id(v), repr(v)) for n, v in namespace.items() if n != "__builtins__"}, sorted(replica._baseline)


def test_a_digest_that_does_not_match_its_bytes(pair: Any) -> None:
    pair.local("import numpy as np\nx = [1]; a = np.arange(100_000)")
    pair.send("x")
    pair.here["x"].append(2)
    export = pair.client.export(["x", "a"])
    parcel = pack(export)
    before = _state(pair.kernel, pair.there)
    store = ChunkStore()
    for name, data in parcel.chunks.items():
        wrong = bytearray(data)
        wrong[5] ^= 1
        with pytest.raises(SnapshotRefused, match="not what its digest says"):
            store.put(name, wrong)
    with pytest.raises(SnapshotRefused, match="is not here"):
        unpack(parcel.snapshot, [memoryview(bytes(b)) for b in parcel.inline], store)
    for name, data in parcel.chunks.items():
        store.put(name, bytearray(data))
    for i, data in enumerate(parcel.inline):
        wrong = bytearray(data)
        wrong[len(wrong) // 2] ^= 1
        damaged = [memoryview(wrong if j == i else bytes(b)) for j, b in enumerate(parcel.inline)]
        with pytest.raises(SnapshotRefused, match="arrived damaged"):
            unpack(parcel.snapshot, damaged, store)
    assert _state(pair.kernel, pair.there) == before
    pair.kernel.apply(parcel.snapshot, *unpack(parcel.snapshot, [memoryview(bytes(b)) for b in parcel.inline], store))
    assert pair.there["x"] == [1, 2] and pair.there["a"][-1] == 99_999


@pytest.mark.parametrize("there_first", [True, False])
def test_a_cut_before_the_answer_leaves_both_ends_agreed_on_the_next_sync(pair: Any, there_first: bool) -> None:
    """Whether the other end took it or not is not known: what goes next must do in either case."""
    pair.local("x = [1]; d = {'x': x}")
    pair.send("x", "d")
    x = pair.there["x"]
    pair.here["x"].append(2)
    export = pair.client.export(["x", "d"])
    if there_first:
        pair.kernel.apply(export.snapshot, export.stream, [memoryview(bytearray(b)) for b in export.buffers])
    pair.client.abandon(export)
    pair.here["x"].append(3)
    pair.carry(pair.client.export(["x", "d"]), pair.client, pair.kernel)
    assert pair.there["x"] == [1, 2, 3] and pair.there["x"] is x and pair.there["d"]["x"] is x


def test_a_class_that_was_defined_anew_between_two_syncs(pair: Any) -> None:
    pair.local("class A:\n    n = 1\na = A()")
    pair.run("first = a.n")
    pair.local("class A:\n    n = 2\nb = A()")
    pair.run("second = (a.n, b.n, isinstance(b, A), isinstance(a, A)); a.mark = b.mark = 1")
    assert pair.here["second"] == (1, 2, True, False) and (pair.here["a"].mark, pair.here["b"].mark) == (1, 1)


def test_every_cut_of_a_stream_is_refused_and_nothing_is_done() -> None:
    there = {"a": [1, {"k": (2, "x")}], "b": np.arange(5.0), "c": [3]}
    export = Replica(there, "kernel").export(list(there))
    for trust in ("code", "data"):
        kept = [0]
        here: dict[str, Any] = {"a": kept}
        client = Replica(here, "client", trust=trust)  # type: ignore[arg-type]
        for cut in range(len(export.stream)):
            with pytest.raises(SnapshotRefused):
                client.apply(export.snapshot, export.stream[:cut], [memoryview(bytearray(b)) for b in export.buffers])
        assert here == {"a": [0]} and here["a"] is kept


def test_names_and_values_that_do_not_match() -> None:
    for names, stream in (
        (["a", "b"], dumped([1])),
        (["a", "b"], dumped([1, 2, 3])),
        (["a", "b"], dumped((1, 2))),
        (["a", "b"], dumped({1, 2})),
    ):
        for trust in ("code", "data"):
            here: dict[str, Any] = {}
            with pytest.raises(SnapshotRefused, match="not the values of 2 names"):
                Replica(here, "client", trust=trust).apply(*snapshot_of([(names, stream)]))  # type: ignore[arg-type]
            assert here == {}
    snapshot, stream, buffers = snapshot_of([(["a"], dumped(1)), (["a"], dumped(2))])
    with pytest.raises(SnapshotRefused, match="names"):
        Replica({}, "client").apply(snapshot, stream, buffers)


def test_a_slow_value_does_not_hold_up_the_answer_to_an_interrupt() -> None:
    """A loop in Python is ended like any other."""

    class Slow:
        def __reduce__(self) -> Any:
            deadline = time.monotonic() + 60
            signal.raise_signal(signal.SIGINT)
            while time.monotonic() < deadline:
                pass
            return list, ()

    with pytest.raises(KeyboardInterrupt):
        Replica({"x": Slow()}, "client").export(["x"])
