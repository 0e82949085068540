"""All or nothing, whatever goes wrong and wherever; and what memory a replica holds on to."""

from __future__ import annotations

import signal
import weakref
from typing import Any

import numpy as np
import pytest

from jupyter_gpu.sync import apply as applying
from jupyter_gpu.wire.errors import SnapshotRefused

pytestmark = pytest.mark.timeout(60)

SETUP = """
import numpy as np, collections
class P: pass
class S:
    __slots__ = ('x',)
xs = [1]; d = {'a': xs}; s = {1}; b = bytearray(b'a'); q = collections.deque([1]); od = collections.OrderedDict(a=1, b=2); dd = collections.defaultdict(int)
p = P(); p.v = 1; sl = S(); sl.x = 1; arr = np.zeros(3); n = 5
def f(): return 1
f.note = 'old'
def make():
    c = 0
    def inc():
        nonlocal c
        c += 1
        return c
    return inc
inc = make()
"""
CHANGE = """
xs.append(2); d['b'] = 2; s.add(2); b += b'b'; q.append(2); od.move_to_end('a'); dd['k'] += 1; dd.default_factory = list
p.v = 2; p.w = 3; sl.x = 2; arr[0] = 9; n = 6; f.note = 'new'; inc(); made = 1
"""
NAMES = ["xs", "d", "s", "b", "q", "od", "dd", "p", "sl", "arr", "n", "f", "inc"]


def picture(ns: dict[str, Any]) -> list[Any]:
    order = list(ns["od"])
    flat = [ns[k] if not hasattr(ns[k], "copy") else ns[k].copy() for k in ("xs", "d", "s", "b", "q", "dd", "n")]
    return [
        *flat, order, ns["dd"].default_factory, dict(vars(ns["p"])), ns["sl"].x, ns["arr"].tolist(), ns["f"].note, ns["inc"].__closure__[0].cell_contents,
        sorted(k for k in ns if not k.startswith("__")), [id(ns[k]) for k in NAMES if k != "n"],
    ]  # fmt: skip


class Bomb:
    def __init__(self) -> None:
        self.armed = True

    def __setstate__(self, state: Any) -> None:
        raise RuntimeError("boom")


@pytest.fixture
def changed(pair: Any) -> Any:
    """Every kind of object is known at both ends, and changed at the kernel."""
    pair.local(SETUP)
    pair.send(*NAMES)
    exec(CHANGE, pair.there)
    pair.names = [*NAMES, "made"]
    return pair


@pytest.mark.parametrize("at", ["first", "last"])
def test_29_a_setstate_that_raises_leaves_everything_as_it_was(changed: Any, at: str) -> None:
    changed.there["a_bomb" if at == "first" else "z_bomb"] = Bomb()
    changed.names.insert(0 if at == "first" else len(changed.names), "a_bomb" if at == "first" else "z_bomb")
    before = picture(changed.here)
    with pytest.raises(SnapshotRefused, match="boom"):
        changed.carry(changed.kernel.export(changed.names), changed.kernel, changed.client)
    assert picture(changed.here) == before


def test_29_it_can_be_applied_after_that(changed: Any) -> None:
    changed.there["z_bomb"] = Bomb()
    with pytest.raises(SnapshotRefused):
        export = changed.kernel.export([*changed.names, "z_bomb"])
        changed.carry(export, changed.kernel, changed.client)
    changed.kernel.abandon(export)
    ids = [id(changed.here[k]) for k in NAMES if k != "n"]
    changed.carry(changed.kernel.export(changed.names), changed.kernel, changed.client)
    here = changed.here
    assert (
        here["xs"] == [1, 2]
        and here["d"]["a"] is here["xs"]
        and here["p"].w == 3
        and here["f"].note == "new"
        and here["inc"]() == 2
        and here["made"] == 1
    )
    assert list(here["od"]) == ["b", "a"] and here["dd"].default_factory is list and here["sl"].x == 2 and here["arr"][0] == 9
    assert [id(here[k]) for k in NAMES if k != "n"] == ids


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("step", range(0, 40, 3))
def test_29_raising_at_any_step_leaves_everything_as_it_was(
    changed: Any, monkeypatch: pytest.MonkeyPatch, step: int, error: type[BaseException]
) -> None:
    """The journal itself raises: each entry is made right before a change."""

    class Failing(list[Any]):
        armed = True

        def append(self, undo: Any) -> None:
            super().append(undo)
            if self.armed and len(self) > step:
                self.armed = False
                raise error

    original = applying.Load.__init__

    def init(self: Any, *args: Any) -> None:
        original(self, *args)
        self.journal = Failing()

    monkeypatch.setattr(applying.Load, "__init__", init)
    before = picture(changed.here)
    export = changed.kernel.export(changed.names)
    try:
        changed.carry(export, changed.kernel, changed.client)
        assert step > 20, "it should have raised"
    except (SnapshotRefused, KeyboardInterrupt):
        assert picture(changed.here) == before


def test_29_a_truncated_stream_is_refused(changed: Any) -> None:
    before = picture(changed.here)
    export = changed.kernel.export(changed.names)
    for cut in (0, 3, 40, len(export.stream) // 2, len(export.stream) - 1):
        with pytest.raises(SnapshotRefused):
            changed.client.apply(export.snapshot, export.stream[:cut], export.buffers)
        assert picture(changed.here) == before


def test_29_a_class_is_restored(far: Any) -> None:
    far.local("class A:\n    n = 0\n    def f(self): return 1\na = A()")
    far.run("r = a.f()")
    A = far.here["A"]
    before = dict(vars(A))
    error, _, packed, stream, buffers, _ = far.ask(
        "run",
        "A = type(a); A.n = 5; del A.f; A.g = 1\nclass Z:\n    def __init__(self): self.x = 1\n    def __setstate__(self, s): raise RuntimeError('boom')\nz = [a, Z()]",
    )
    import msgspec

    from jupyter_gpu.wire.messages import Snapshot

    assert not error, error
    with pytest.raises(SnapshotRefused, match="boom"):
        far.client.apply(msgspec.msgpack.decode(packed, type=Snapshot), stream, [memoryview(bytearray(b)) for b in buffers])
    assert (
        A.n == 0
        and far.here["a"].f() == 1
        and not hasattr(A, "g")
        and {k: v for k, v in vars(A).items() if k != "__slotnames__"} == {k: v for k, v in before.items() if k != "__slotnames__"}
    )


def test_10_an_interrupt_waits_for_the_end_of_a_critical_part() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), applying.uninterrupted():
        signal.raise_signal(signal.SIGINT)
        steps.append("done")
    assert steps == ["done"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_large_is_kept_alive(pair: Any) -> None:
    pair.here["big"], pair.here["held"] = np.zeros(1000), [np.zeros(2000)]
    pair.send("big", "held")
    refs = [weakref.ref(pair.here["big"]), weakref.ref(pair.there["big"])]
    mark = pair.kernel.mark()
    del pair.here["big"], pair.there["big"]
    assert [r() for r in refs] == [None, None] and mark.bindings
    inner = weakref.ref(pair.here["held"][0])
    del pair.here["held"]
    pair.client.prune()
    assert inner() is None


def test_an_abandoned_export_is_sent_again_as_a_whole(pair: Any) -> None:
    pair.local("x = [1]; y = {'x': x}")
    export = pair.client.export(["x", "y"])
    pair.client.abandon(export)
    again = pair.client.export(["x", "y"])
    assert list(again.sent) == ["x", "y"] and again.snapshot.serial > export.snapshot.serial
    pair.carry(again, pair.client, pair.kernel)
    assert pair.there["y"]["x"] is pair.there["x"]


def test_a_name_bound_anew_meanwhile_is_told(pair: Any) -> None:
    pair.local("x = [1]")
    pair.send("x")
    pair.there["x"].append(2)
    export = pair.kernel.export(["x"])
    pair.here["x"] = "mine"
    change = pair.carry(export, pair.kernel, pair.client)
    assert pair.here["x"] == [1, 2] and "x was bound anew" in change.warnings[0]


def test_a_name_bound_anew_before_the_cell_is_nothing_to_tell(pair: Any) -> None:
    """A loop's variable: the cell does not read it, so it is not sent, and binds it itself."""
    pair.local("i = 1000")
    pair.send("i")
    pair.local("i = 2000")
    pair.send()
    pair.there["i"] = 3000
    change = pair.carry(pair.kernel.export(["i"]), pair.kernel, pair.client)
    assert pair.here["i"] == 3000 and not change.warnings
