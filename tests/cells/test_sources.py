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
    assert sources.changed(["my_helper", "json", "numpy", "not_loaded"]).files == {"my_helper.py": b"x = 1"}
    assert sources.changed(["my_helper"]).files == {}
    edit(helper, "x = 2")
    assert sources.changed([]).files == {"my_helper.py": b"x = 2"}, "the session has it, whether this cell refers to it or not"
    assert sources.changed(["my_helper"]).files == {}


def test_each_session_has_its_own(helper: Path) -> None:
    assert Sources().changed(["my_helper"]).files == Sources().changed(["my_helper"]).files != {}


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
    assert set(sources.changed(["my_package"]).files) == {"my_package/__init__.py", "my_package/one.py", "my_package/deep/two.py"}
    edit(package / "deep/two.py", "edited")
    assert sources.changed(["my_package"]).files == {"my_package/deep/two.py": b"edited"}


def test_a_file_that_was_deleted_is_deleted_there(helper: Path) -> None:
    sources = Sources()
    sources.changed(["my_helper"])
    helper.unlink()
    found = sources.changed([])
    assert found.files == {} and found.gone == ["my_helper.py"] and sources.changed(["my_helper"]).gone == []
    helper.write_text("back")
    assert sources.changed(["my_helper"]).files == {"my_helper.py": b"back"}


def test_touched_is_not_edited_and_an_edit_is_seen_whatever_its_times_say(helper: Path) -> None:
    sources = Sources()
    sources.changed(["my_helper"])
    status = helper.stat()
    os.utime(helper)
    assert sources.changed([]).files == {}
    helper.write_text("x = 2")  # as long as before
    os.utime(helper, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert sources.changed([]).files == {"my_helper.py": b"x = 2"}


def test_what_a_file_imports_goes_too_and_nothing_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in {"s_a": "import s_b, json, numpy", "s_b": "def f():\n    from s_c.deep import x", "s_alone": ""}.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "s_c").mkdir()
    (tmp_path / "s_c/__init__.py").write_text("import s_a")
    (tmp_path / "s_c/deep.py").write_text("x = 1")
    sources = Sources()
    assert set(sources.changed(["s_a"]).files) == {"s_a.py", "s_b.py", "s_c/__init__.py", "s_c/deep.py"}
    assert sources.is_local("s_c") and not sources.is_local("numpy") and not {"s_a", "s_b", "s_c"} & set(sys.modules)
    (tmp_path / "s_b.py").write_text("import s_alone")
    assert set(sources.changed([]).files) == {"s_b.py", "s_alone.py"}
    (tmp_path / "s_c/new.py").write_text("y = 1")
    (tmp_path / "s_c/deep.py").unlink()
    found = sources.changed([])
    assert set(found.files) == {"s_c/new.py"} and found.gone == ["s_c/deep.py"]


def test_one_that_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    sources = Sources()
    assert sources.changed(["s_later"]).files == {}
    (tmp_path / "s_later.py").write_text("x = 1")
    __import__("importlib").invalidate_caches()
    assert set(sources.changed(["s_later"]).files) == {"s_later.py"}


def test_what_does_not_travel_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "s_data").mkdir()
    (tmp_path / "s_data/__init__.py").write_text("")
    (tmp_path / "s_data/table.bin").write_bytes(b"1")
    sources = Sources()
    assert ["table.bin" in note for note in sources.changed(["s_data"]).notes] == [True]
    (tmp_path / "s_data/__init__.py").write_text("x = 1")
    found = sources.changed(["s_data"])
    assert found.notes == [] and set(found.files) == {"s_data/__init__.py"}
