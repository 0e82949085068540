"""Which names a cell needs: the cells of the test suite, each run in a namespace that notes what is looked up."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def suite() -> ModuleType:
    """tests/sync/test_names.py, which holds the cells."""
    path = Path(__file__).resolve().parents[1] / "tests" / "sync" / "test_names.py"
    spec = importlib.util.spec_from_file_location("names_of_cells", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def names() -> None:
    """Names missed (target: none) and sent needlessly (target: at most 10%), of the cells of tests/sync/test_names.py."""
    tests = suite()
    wanted = sent = missed = needless = fetched = 0
    for cell in tests.cells():
        used, (found, more) = tests.looked_up(cell), tests.sent(cell)
        wanted += len(used)
        sent += len(found)
        needless += len(found - used)
        fetched += len(used - found) if more else 0
        missed += 0 if more else len(used - found)
    print(f"{len(tests.cells())} cells look up {wanted} names; sent {sent}")
    print(f"missed: {missed}   fetched on demand (eval, exec and the like): {fetched}")
    print(f"sent needlessly: {needless} ({needless / sent:.1%}; target at most 10%: {'yes' if needless <= 0.1 * sent else 'NO'})")
