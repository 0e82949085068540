from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from front_ends import Site, browser_page, serve


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Site]:
    """A JupyterLab. Ask for ``page`` after it, so that the last picture is taken while it runs."""
    with serve("jupyterlab", tmp_path / "site") as site:
        yield site


@pytest.fixture
def notebook7(tmp_path: Path) -> Iterator[Site]:
    with serve("notebook", tmp_path / "site") as site:
        yield site


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Site]:
    """A bare jupyter_server, with the limits that it comes with."""
    with serve("jupyter_server", tmp_path / "site") as site:
        yield site


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    with browser_page() as opened:
        yield opened
        opened.screenshot(path=str(tmp_path / "last.png"))
