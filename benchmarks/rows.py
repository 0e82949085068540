"""What the table moves. Each row is code that runs in ``__main__``, as a cell does, with ``seed`` bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    code: str
    runs: int = 0  #: 0: as many as asked for


_DEFINITIONS = """
for i in range(32):
    exec(f"def function_{i}(v, k={i}):\\n    '''Number {i}.'''\\n    return [each + k + base for each in v]\\n")
for i in range(16):
    exec(f"class Class_{i}:\\n    rate = {i}\\n    def __init__(self, v): self.v = v\\n    def get(self): return self.v * self.rate\\n")
base, settings, numbers = seed, {"a": 1, "b": [1, 2]}, list(range(50))
del i
"""

ROWS = {
    "array of 256 MiB": Case("import objects\nvalue = objects.array() + seed"),
    "frame with strings (1e6 x 3, dtype str) and floats": Case(
        "import objects, numpy as np\nvalue = objects.strings('str')\nvalue['x'] = np.random.default_rng(seed).random(len(value))"
    ),
    "scikit-learn model (100 trees)": Case(
        "import numpy as np\nfrom sklearn.ensemble import RandomForestClassifier\nrng = np.random.default_rng(seed); X = rng.random((4000, 8))\n"
        "value = RandomForestClassifier(100, random_state=0).fit(X, (X.sum(axis=1) > 4) + (X[:, 0] > 0.5)); del X, rng, RandomForestClassifier"
    ),
    "200 small things": Case(
        "for i in range(50): globals().update({f'n{i}': i + seed, f's{i}': f'text {i} {seed}', f'l{i}': [i, seed, 'x'], f'd{i}': {'a': i, 'b': [seed]}})\ndel i"
    ),
    "48 definitions and small data": Case(_DEFINITIONS),
    "frame of objects (3e5 x 3) and an array of 100 MiB": Case(
        "import objects\ntable = objects.strings(rows=300_000); data = objects.array(100 << 20) + seed"
    ),
}
LARGE = {"array of 1 GiB": Case("import objects\nvalue = objects.array(1 << 30) + seed", runs=3)}
ROWS |= LARGE


def same(a: Any, b: Any) -> bool:
    """Whether what came back is what went."""
    if type(a).__name__ != type(b).__name__:
        return False
    if hasattr(a, "equals"):
        return bool(a.equals(b))
    if hasattr(a, "__array_interface__"):
        return bool((a == b).all())
    if hasattr(a, "estimators_"):
        return len(a.estimators_) == len(b.estimators_) and a.get_params() == b.get_params()
    if isinstance(a, type):
        return bool(a(2).get() == b(2).get())
    if callable(a):
        return bool(a.__code__.co_code == b.__code__.co_code and a.__defaults__ == b.__defaults__)
    return bool(a == b)
