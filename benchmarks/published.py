"""How two published systems tell whether a variable changed: their methods, written anew from the papers.

Kishu (Li et al., "Kishu: Time-Traveling for Computational Notebooks", VLDB 2025): an id graph of what is reachable, made by visiting it
with pickle's Python implementation (dill's, which it subclasses), and a hash of the bytes, arrays in band. The whole is made anew after
each cell and compared.

ElasticNotebook (Li et al., "ElasticNotebook: Enabling Live Migration for Computational Notebooks", VLDB 2023): a graph of the ids of
containers and attributes, and a representation of the value: a hash of an array's bytes, the columns' `writeable` flags for a frame,
a deep copy to compare with for all else.

Neither file of theirs is copied. ``python published.py`` under an interpreter that has the package ``kishu`` measures the real one:
see ``--kishu`` of ``sync.py``.
"""

from __future__ import annotations

import copy
import io
import pickle
import sys
from types import ModuleType
from typing import Any

try:
    from dill import Pickler as _PythonPickler
except ImportError:  # dill's is a subclass of it, and slower
    _PythonPickler = pickle._Pickler  # type: ignore[misc]


class Kishu:
    """``baseline(value)`` before a cell, ``changed(value)`` after it."""

    def __init__(self) -> None:
        self.before: tuple[bytes, set[int]] = (b"", set())

    def baseline(self, value: Any) -> None:
        self.before = self._graph(value)

    def changed(self, value: Any) -> bool:
        return self._graph(value)[0] != self.before[0]

    @staticmethod
    def _graph(value: Any) -> tuple[bytes, set[int]]:
        import xxhash

        file = io.BytesIO()
        pickler = _PythonPickler(file, 5)
        pickler.dump(value)
        return xxhash.xxh3_128_digest(file.getvalue()), set(pickler.memo)


_PRIMITIVE = (type(None), int, float, bool, str)


class Elastic:
    """``baseline(value)`` before a cell, ``changed(value)`` after it."""

    def __init__(self) -> None:
        self.graph: Any = None
        self.kept: Any = None

    def baseline(self, value: Any) -> None:
        self.graph = _reachable(value, {})
        self.kept = self._represent(value)
        if self.kept is None:
            self.kept = copy.deepcopy(value)

    def changed(self, value: Any) -> bool:
        if _reachable(value, {}) != self.graph:
            return True
        now = self._represent(value)
        return bool(now != self.kept) if now is not None else bool(value != self.kept)

    @staticmethod
    def _represent(value: Any) -> Any:
        """None: by deep copy."""
        import xxhash

        if hasattr(value, "__array_interface__"):
            return xxhash.xxh3_128_digest(memoryview(value).cast("B"))
        if hasattr(value, "iterrows"):
            return tuple(bool(column.__array__().flags.writeable) for _, column in value.items())
        return None


def _reachable(value: Any, seen: dict[int, int]) -> Any:
    """Ids and types, in the order of the visit."""
    if id(value) in seen:
        return seen[id(value)]
    seen[id(value)] = len(seen)
    parts: list[Any] = []
    if type(value) in (list, tuple, set):
        parts = [_reachable(v, seen) for v in value if type(v) not in _PRIMITIVE]
    elif type(value) is dict:
        parts = [_reachable(v, seen) for pair in value.items() for v in pair if type(v) not in _PRIMITIVE]
    elif hasattr(value, "__dict__") and not isinstance(value, (type, ModuleType)):
        parts = [_reachable(v, seen) for k, v in vars(value).items() if k[:1] != "_" and type(v) not in _PRIMITIVE]
    return id(value), type(value).__name__, parts


class RealKishu:
    """The package's own, at its default settings."""

    def __init__(self) -> None:
        from kishu.planning.idgraph import IdGraph  # type: ignore[import-not-found]

        self._make = IdGraph.from_object
        self.before: Any = None

    def baseline(self, value: Any) -> None:
        self.before = self._make(value)

    def changed(self, value: Any) -> bool:
        return bool(self.before != self._make(value))


def main() -> None:
    """Name and runs on the command line; seconds, one a line, on stdout."""
    import time

    from objects import DETECTION

    name, runs = sys.argv[1], int(sys.argv[2])
    value = DETECTION[name].make()
    way = RealKishu()
    way.baseline(value)
    for _ in range(runs):
        began = time.perf_counter()
        changed = way.changed(value)
        print(time.perf_counter() - began, changed, flush=True)


if __name__ == "__main__":
    main()
