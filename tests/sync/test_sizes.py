"""What is told of a value must hold without pickling it, whatever it is."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jupyter_gpu.sync.sizes import device_of, size_of


class Holder:
    """Of a library's kind: its module is neither builtins nor the notebook's."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise AssertionError("pickled")


MB = 1_000_000
BIG = np.zeros(MB, "uint8")
SIZES: dict[str, tuple[Any, float, float]] = {
    "array": (BIG, MB, MB),
    "view": (BIG[::2], MB / 2, MB / 2),
    "bytes": (bytes(MB), MB, 1.01 * MB),
    "bytearray": (bytearray(MB), MB, 1.01 * MB),
    "text": ("x" * MB, MB, 1.01 * MB),
    "numbers": (list(range(100_000)), 2 * MB, 5 * MB),
    "dict of arrays": ({i: np.zeros(1000) for i in range(1000)}, 7.9 * MB, 9 * MB),
    "nested": ([[[[BIG]]]], MB, 1.01 * MB),
    "shared counts once": ([BIG, BIG, BIG], MB, 1.01 * MB),
    "object": (Holder(weights=BIG, deep=Holder(weights=np.zeros(MB, "uint8"))), 2 * MB, 2.1 * MB),
    "frame": (pd.DataFrame({"x": np.zeros(MB // 8)}), MB, 1.1 * MB),
    "strings": (pd.Series(["x" * 100] * 10_000, dtype=object), 1.2 * MB, 2 * MB),
    "array of strings": (np.array(["x" * 100] * 10_000, dtype=object), 1.2 * MB, 2 * MB),
    "small": ([1, 2], 1, 300),
}


@pytest.mark.parametrize(("value", "least", "most"), SIZES.values(), ids=SIZES)
def test_sizes(value: Any, least: float, most: float) -> None:
    assert least <= size_of(value) <= most


def test_a_part_that_tells_nothing_leaves_the_others() -> None:
    class Bad:
        nbytes = property(lambda self: 1 / 0)

    assert size_of(Bad()) == -1
    assert size_of([Bad(), BIG]) >= MB


def test_cycles_and_depth_end() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert size_of(loop) < 1000
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert size_of(deep) < 100_000


def test_what_lives_in_memory_lives_on_no_device() -> None:
    assert {device_of(v) for v in (BIG, 1, [BIG], {"x": BIG}, pd.DataFrame({"x": [1]}), None, Holder(x=BIG))} == {""}


def test_torch() -> None:
    torch = pytest.importorskip("torch")
    there = torch.zeros(3, device="meta")
    layer = torch.nn.Linear(1000, 1000)
    assert device_of(torch.zeros(3)) == "" == device_of(layer) and device_of(there) == "meta"
    assert device_of([1, there]) == device_of({"w": there}) == device_of((there,)) == "meta"
    assert device_of({"far": {"deeper": there}}) == "", "directly, and no deeper"
    assert device_of(torch.optim.Adam(layer.parameters())) == ""
    assert size_of(layer) == 4 * 1_001_000 and size_of(there) == 12
    layer.to("meta")
    assert device_of(layer) == "meta" and device_of(torch.optim.SGD(torch.nn.Linear(2, 2, device="meta").parameters(), 0.1)) == "meta"


def test_polars() -> None:
    polars = pytest.importorskip("polars")
    assert size_of(polars.DataFrame({"x": np.zeros(MB // 8)})) == MB == size_of(polars.Series(np.zeros(MB // 8)))


class Array:
    """An array of a library that needs hardware which is not here."""

    nbytes = 8

    def __init__(self, platform: str) -> None:
        self.device = SimpleNamespace(id=1)
        self._platform = platform

    def devices(self) -> list[Any]:
        if self._platform == "gone":
            raise RuntimeError("Array has been deleted.")
        return [SimpleNamespace(platform=self._platform, id=1)]


def test_libraries_whose_hardware_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(Array=Array))  # type: ignore[arg-type]
    assert [device_of(Array(p)) for p in ("cpu", "tpu", "gone")] == ["", "tpu:1", ""]
    monkeypatch.delitem(sys.modules, "jax")
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(ndarray=Array))  # type: ignore[arg-type]
    assert device_of(Array("")) == "cuda:1"
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setitem(sys.modules, "cudf", SimpleNamespace(DataFrame=Array, Series=int, Index=int))  # type: ignore[arg-type]
    assert device_of(Array("")) == "cuda"
