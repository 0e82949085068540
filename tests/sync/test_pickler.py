"""What the pickler notes on its way, and what it does not let slip."""

from __future__ import annotations

import gc
import pickle
import weakref
from typing import Any

import numpy as np
import pytest

from jupyter_gpu.sync.loading import Unpickler
from jupyter_gpu.sync.pickler import Pickler


def through(value: Any, namespace: dict[str, Any] | None = None) -> tuple[Any, Pickler]:
    scope: dict[str, Any] = {} if namespace is None else namespace
    pickler = Pickler(scope)
    pickler.dump(value)
    return Unpickler(pickler.file.getvalue(), [b.raw() for b in pickler.buffers], scope, lambda pid: pid).load(), pickler


def notebook(code: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, "<nb>", "exec", dont_inherit=True), namespace)
    return namespace


def test_names_that_nested_code_reads() -> None:
    ns = notebook(
        "def f():\n    class In:\n        def g(self): return [deep for _ in 'a'], (lambda: deeper)\n    global written\n    written = 1\n    return In"
    )
    assert through(ns["f"], ns)[1].globals_seen >= {"deep", "deeper", "written"}


def test_modules_of_what_goes_by_reference() -> None:
    import decimal

    _, pickler = through([np.float64(1), decimal.Decimal(1), np, np.add, len])
    assert {"numpy", "decimal"} <= {m.partition(".")[0] for m in pickler.modules}


def test_small_buffers_stay_in_the_stream_and_large_ones_do_not() -> None:
    (small, large), pickler = through([np.zeros(10), np.ones(10_000)])
    assert len(pickler.buffers) == 1 and small.flags.writeable and large.sum() == 10_000


def test_recursive_closures_and_empty_cells() -> None:
    ns = notebook(
        "def make():\n    def fact(n): return 1 if n < 2 else n * fact(n - 1)\n    def broken(): return late\n    if False: late = 1\n    return fact, broken\nfact, broken = make()"
    )
    (fact, broken), _ = through((ns["fact"], ns["broken"]), ns)
    assert fact(5) == 120 and fact.__closure__[0].cell_contents is fact
    with pytest.raises(NameError):
        broken()


def test_functions_of_libraries_go_by_reference() -> None:
    import json

    assert through(json.dumps)[0] is json.dumps


def test_a_pickler_is_gone_as_soon_as_nobody_wants_it() -> None:
    class Big:
        pass

    big = Big()
    ref = weakref.ref(big)
    gc.disable()
    try:
        pickler = Pickler({})
        pickler.dump({"a": [big, np.zeros(9)], "c": Big, "f": lambda: 1})
        del pickler, big
        assert ref() is None
    finally:
        gc.enable()


def test_memoryviews_are_memoryviews() -> None:
    data = bytearray(range(12))
    (there, view, cast), _ = through([data, memoryview(data), memoryview(bytes(12)).cast("i", (3, 1))])
    view[0] = 99
    assert there[0] == 99 and view.obj is there and (cast.format, cast.shape, cast.readonly) == ("i", (3, 1), True)
    part, _ = through(memoryview(data)[2:4])
    assert bytes(part) == b"\x02\x03" and not part.readonly
    for odd in (memoryview(b"abcd")[::2], memoryview(b"")):
        with pytest.raises(TypeError, match="memoryview"):
            Pickler({}).dump(odd)


def test_a_read_only_view_of_a_dict_goes_on_showing_it_and_one_of_a_class_does_not_drag_it_along() -> None:
    from types import MappingProxyType

    d = {"a": 1}
    (there, proxy), _ = through([d, MappingProxyType(d)])
    there["b"] = 2
    assert proxy["b"] == 2 and isinstance(proxy, MappingProxyType)


def test_weak_dictionaries_hold_what_else_is_held() -> None:
    class M:
        pass

    m = M()
    (there, values, keys), _ = through([m, weakref.WeakValueDictionary(a=m, b=M()), weakref.WeakKeyDictionary({m: 1})])
    assert dict(values) == {"a": there} and keys[there] == 1


def test_routes_of_libraries_last_until_copyreg_hears_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import copyreg
    import fractions

    from jupyter_gpu.sync import pickler as module

    kind = fractions.Fraction
    one = Pickler({})
    one.dump(kind(1, 3))
    assert kind in module._lasting.fresh()
    monkeypatch.setitem(copyreg.dispatch_table, kind, lambda value: (str, ("registered",)))
    other = Pickler({})
    other.dump(kind(1, 3))
    assert pickle.loads(other.file.getvalue()) == "registered" and kind not in module._lasting


def test_routes_of_classes_of_the_notebook_do_not_last() -> None:
    from jupyter_gpu.sync import pickler as module

    namespace = {"__name__": "__main__"}
    exec("class C: pass", namespace)
    one = Pickler(namespace)
    one.dump(namespace["C"]())
    assert namespace["C"] not in module._lasting
