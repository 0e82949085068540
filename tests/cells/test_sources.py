from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from jupyter_gpu.cells.sources import Sources


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A loaded module beside the notebook."""
    file = tmp_path / "my_helper.py"
    file.write_text("x = 1")
    module = ModuleType("my_helper")
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "my_helper", module)
    return file


def edit(file: Path, text: str) -> None:
    before = file.stat().st_mtime_ns
    file.write_text(text)
    os.utime(file, ns=(before + 1, before + 1))  # a clock may stand still between two writes


def test_once_and_again_when_it_was_edited(helper: Path) -> None:
    sources = Sources()
    assert sources.changed(["my_helper", "json", "numpy", "not_loaded"]) == {"my_helper.py": b"x = 1"}
    assert sources.changed(["my_helper"]) == {}
    edit(helper, "x = 2")
    assert sources.changed([]) == {"my_helper.py": b"x = 2"}, "the session has it, whether this cell refers to it or not"
    assert sources.changed(["my_helper"]) == {}


def test_each_session_has_its_own(helper: Path) -> None:
    assert Sources().changed(["my_helper"]) == Sources().changed(["my_helper"]) != {}


def test_a_package_goes_as_a_whole_and_only_its_edited_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_package"
    (package / "deep").mkdir(parents=True)
    for name in ("__init__.py", "one.py", "deep/two.py"):
        (package / name).write_text(name)
    (package / "data.bin").write_bytes(b"no source")
    module = ModuleType("my_package")
    module.__file__ = str(package / "__init__.py")
    monkeypatch.setitem(sys.modules, "my_package", module)
    sources = Sources()
    assert set(sources.changed(["my_package"])) == {"my_package/__init__.py", "my_package/one.py", "my_package/deep/two.py"}
    edit(package / "deep/two.py", "edited")
    assert sources.changed(["my_package"]) == {"my_package/deep/two.py": b"edited"}


def test_a_file_that_was_deleted_is_no_error(helper: Path) -> None:
    sources = Sources()
    sources.changed(["my_helper"])
    helper.unlink()
    assert sources.changed(["my_helper"]) == {}
    helper.write_text("back")
    assert sources.changed([]) == {"my_helper.py": b"back"}
