"""The objects that the benchmarks of the sync engine move and watch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any


@dataclass(frozen=True)
class Watched:
    """``change`` alters one element; ``factor``: how many times as fast as the published systems the decision should be."""

    make: Callable[[], Any]
    change: Callable[[Any], None]
    factor: float


def array(size: int = 256 << 20) -> Any:
    """``size`` bytes of random float64."""
    import numpy as np

    return np.random.default_rng(1).random(size // 8)


def frame() -> Any:
    import numpy as np
    import pandas as pd

    return pd.DataFrame(np.random.default_rng(2).random((1_000_000, 10)), columns=list("abcdefghij"))


def strings(dtype: str = "object", rows: int = 1_000_000) -> Any:
    """Three columns of strings, no two alike in a column."""
    import pandas as pd

    return pd.DataFrame({c: pd.Series([f"{c} {i} of many" for i in range(rows)], dtype=dtype) for c in "abc"})


def words() -> list[str]:
    return [f"word {i} of many" for i in range(1_000_000)]


def dicts() -> list[dict[str, Any]]:
    return [{"id": i, "name": f"name {i}", "score": i * 0.5, "tags": ["a", str(i)]} for i in range(200_000)]


_numbers = count(2)


def _set(frame: Any, value: Any) -> None:
    """Another value each time."""
    frame.iat[len(frame) // 2, 1] = value * next(_numbers)


DETECTION = {
    "array of 256 MiB": Watched(array, lambda v: v.__setitem__(len(v) // 2, next(_numbers)), 100),
    "frame 1e6 x 10 floats": Watched(frame, lambda v: _set(v, 9.0), 100),
    "frame 1e6 x 3 strings, dtype object": Watched(strings, lambda v: _set(v, "other"), 100),
    "frame 1e6 x 3 strings, dtype str": Watched(lambda: strings("str"), lambda v: _set(v, "other"), 100),
    "list of 1e6 strings": Watched(words, lambda v: v.__setitem__(len(v) // 2, f"other {next(_numbers)}"), 3),
    "2e5 dicts": Watched(dicts, lambda v: v[len(v) // 2].update(id=-next(_numbers)), 3),
}
