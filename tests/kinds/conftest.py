"""Counts what the table showed, and says it at the end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

#: name of a kind -> "equal", "refused", or why not
FOUND: dict[str, str] = {}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not FOUND:
        return
    how = list(FOUND.values())
    missing = {name: why for name, why in FOUND.items() if why.startswith("not covered")}
    wrong = {name: why for name, why in FOUND.items() if why not in ("equal", "refused") and name not in missing}
    terminalreporter.write_line(
        f"kinds of object: {how.count('equal')} equal, {how.count('refused')} refused by name, {len(wrong)} different, "
        f"{len(missing)} not covered, of {len(FOUND)}"
    )
    for name, why in (*wrong.items(), *missing.items()):
        terminalreporter.write_line(f"  {name}: {why}")


@pytest.fixture(scope="session")
def found() -> dict[str, str]:
    return FOUND
