"""Fingerprints tell every change, and mostly that there was none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from jupyter_gpu.sync.fingerprint import probe


def of(value: Any) -> bytes:
    found = probe(value, "v", {})
    assert found.stuck is None
    return found.fingerprint


def frame() -> pd.DataFrame:
    return pd.DataFrame({"a": [1, 2], "s": ["x", "y"]}, index=["p", "q"])


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ([1, [2]], lambda v: v[1].append(3)),
        ({"a": 1}, lambda v: v.update(b=2)),
        (np.zeros(4), lambda v: v.__setitem__(0, 1)),
        (np.zeros(40_000), lambda v: v.__setitem__(39_999, 1)),
        (np.zeros((2, 3)), lambda v: setattr(v, "shape", (3, 2))),
        (frame(), lambda v: v.loc.__setitem__(("p", "a"), 5)),
        (frame(), lambda v: v.__setitem__("c", 1)),
        (frame(), lambda v: setattr(v, "columns", ["a", "z"])),
        (bytearray(b"abc"), lambda v: v.append(1)),
    ],
)
def test_a_change_shows(value: Any, change: Any) -> None:
    before = of(value)
    assert of(value) == before
    change(value)
    assert of(value) != before


def test_order_of_buffers_matters() -> None:
    a, b = np.zeros(5000), np.ones(5000)
    assert of([a, b]) != of([b, a])


def test_a_memo_is_empty_for_atoms_and_for_what_is_stuck() -> None:
    assert probe(5, "v", {}).memo == {}
    found = probe((i for i in [1]), "v", {})
    assert found.stuck is not None and found.memo == {} and found.size == 0
