"""Modules that a remote cell imported are imported here when they are used, and not before."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from jupyter_gpu.sync.lazy import LazyModule, named_module


def test_a_loaded_module_is_itself() -> None:
    assert named_module("json", lazily=True) is sys.modules["json"]


def test_it_is_imported_at_the_first_attribute() -> None:
    code = (
        "import sys\nfrom jupyter_gpu.sync.lazy import named_module\nm = named_module('wave', lazily=True)\nprint('wave' in sys.modules)\n"
        "m.open\nprint('wave' in sys.modules, repr(m)[:14])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\nTrue <module 'wave'\n"


def test_one_that_is_not_installed_says_where_it_is() -> None:
    with pytest.raises(ModuleNotFoundError, match="imported in a remote cell, and is not installed here"):
        LazyModule("no_such_module_here").anything  # noqa: B018


def test_it_travels_by_name(pair: Any) -> None:
    pair.here["w"] = LazyModule("wave")
    pair.run("ok = hasattr(w, 'open')")
    assert pair.here["ok"] and pair.there["w"] is sys.modules["wave"]
