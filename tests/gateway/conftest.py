"""So that the tests of this folder find their helpers: with importmode=importlib nothing else puts it on the path."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a unix socket's must be."""
    found = Path(tempfile.mkdtemp(prefix="jg-"))
    yield found
    shutil.rmtree(found)
