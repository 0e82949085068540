"""A person who has configured nothing, and their notebooks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from notebook_driver import Notebook, end_gateways


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of a person who has configured nothing, with two simulated H100; nothing of it may be left behind."""
    home = tmp_path_factory.mktemp("home")
    runtime = home / "runtime"
    runtime.mkdir(mode=0o700)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER_", "JPY_"))}
    env |= {"HOME": str(home), "JUPYTER_RUNTIME_DIR": str(runtime), "JUPYTER_GPU_SIMULATE": "H100:2", "IPYTHONDIR": str(home / "ipython")}
    yield env
    end_gateways(runtime)


@pytest.fixture(scope="module")
def notebook(place: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    book = Notebook(place, tmp_path_factory.mktemp("work"))
    yield book
    book.close()


@pytest.fixture
def fresh(place: dict[str, str], tmp_path: Path) -> Iterator[Notebook]:
    """A notebook of its own, for tests that break it."""
    book = Notebook(place, tmp_path)
    yield book
    book.close()
