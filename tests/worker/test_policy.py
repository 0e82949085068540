"""What stays without being asked to, and that nothing is pickled to find out."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from client_end import KernelEnd
from jupyter_gpu_worker.policy import why_it_stays, why_its_size_stays

from jupyter_gpu.wire.records import CellTerms

MB = 1_000_000


def test_sizes() -> None:
    big = np.zeros(2 * MB, "uint8")
    assert why_it_stays(big, MB) == "2 MB, more than keep_above=1 MB; `.fetch()` brings it"
    assert why_it_stays(big, 2 * MB) == "" == why_it_stays(big, -1) and why_it_stays([big], 2 * MB) != ""
    assert why_its_size_stays(5, 4) and not why_its_size_stays(5, 5) and not why_its_size_stays(5, -1)
    assert why_it_stays(1, 0) and why_it_stays([], 0), "everything"


@pytest.mark.parametrize("code", [len, math, json.dumps, int, functools.reduce, [].append])
def test_code_comes(code: Any) -> None:
    assert why_it_stays(code, 0) == ""


def test_devices() -> None:
    torch = pytest.importorskip("torch")
    assert why_it_stays(torch.zeros(3, device="meta"), -1) == "stays on meta" and why_it_stays(torch.zeros(3), MB) == ""


@pytest.fixture
def kernel(new_kernel: Callable[[], KernelEnd]) -> KernelEnd:
    found = new_kernel()
    found.hello()
    return found


GUARDED = """
import numpy as np
class Guarded:
    def __init__(self, n): self.data = np.ones(n)
    def __reduce_ex__(self, protocol): raise RuntimeError("pickled")
"""


def test_what_stays_is_never_pickled(kernel: KernelEnd) -> None:
    terms = CellTerms(keep_above=MB)
    cell = kernel.ok(GUARDED + "large = Guarded(500_000); small = Guarded(1)", terms=terms)
    why = {h.name: h.why for h in cell.done.handles}
    assert "more than keep_above=1 MB" in why["large"] and "pickled" in why["small"]
    assert [s.name for s in cell.done.stuck] == ["small"]
    cell = kernel.ok("print(large.data.size); large.data[0] = 2", terms=terms)
    assert [h.name for h in cell.done.handles] == ["large"] and cell.done.stuck == [] and cell.text() == "500000\n"
    cell = kernel.ok("large\n", terms=terms, take=False)
    assert cell.done.stuck == [] and cell.done.has_result and cell.done.snapshot is not None, "the result is its handle"


def test_names_that_the_client_has(kernel: KernelEnd) -> None:
    terms = CellTerms(keep_above=MB, held=["theirs"])
    cell = kernel.ok(
        "theirs = bytes(2_000_000); mine = bytes(2_000_000); stubbed = bytes(2_000_000)", terms=terms, stubs=["stubbed"], take=False
    )
    assert [h.name for h in cell.done.handles] == ["mine"] and cell.done.snapshot is not None
    assert set(cell.done.snapshot.names) == {"theirs", "stubbed"}


def test_keys_are_let_go(kernel: KernelEnd) -> None:
    # Not a variable, which would come along and refer to it.
    cell = kernel.ok("import builtins, weakref\nclass C: pass\nc = C(); builtins.ref = weakref.WeakValueDictionary(c=c)", keep=["c"])
    (handle,) = (h for h in cell.done.handles if h.name == "c")
    kernel.ok("del c")
    assert kernel.ok("print('c' in ref)").text() == "True\n", "its handle stands for it"
    assert kernel.ok("print('c' in ref)", terms=CellTerms(released=[handle.key])).text() == "False\n"


def test_what_grows_in_a_library_is_seen_when_it_is_pickled(kernel: KernelEnd) -> None:
    code = "class Lazy:\n    def __reduce__(self): return bytes, (b'x' * 2_000_000,)\nlazy = Lazy()"
    cell = kernel.ok(code, terms=CellTerms(keep_above=MB))
    assert [h.name for h in cell.done.handles] == ["lazy"] and "2 MB, more than" in cell.done.handles[0].why
