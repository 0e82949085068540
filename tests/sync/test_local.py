"""Which files are the person's own, and that nothing else is taken for one."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from jupyter_gpu.sync import local

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Make files below a folder that is on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(*names: str, text: str = "") -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        importlib.invalidate_caches()
        return tmp_path

    return make


def files_of(name: str) -> list[str]:
    found = local.find(name)
    assert found is not None
    return sorted(found.files)


def test_a_file_that_was_never_imported(tree: Tree) -> None:
    tree("never_run.py", text="raise AssertionError('imported')")
    assert files_of("never_run") == ["never_run.py"] and "never_run" not in sys.modules


def test_a_loaded_one(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("of_mine")
    module.__file__ = str(tree("elsewhere/of_mine.py") / "elsewhere/of_mine.py")
    monkeypatch.setitem(sys.modules, "of_mine", module)
    assert files_of("of_mine") == ["of_mine.py"]


@pytest.mark.parametrize("name", ["json", "numpy", "sys", "pytest", "pip", "no_such_module_at_all", "__main__"])
def test_what_is_installed_or_nowhere_is_nobodys_own(name: str) -> None:
    assert local.find(name) is None


def test_what_lies_in_another_environment_is_installed(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tree("venv/lib/site-packages/other/__init__.py") / "venv/lib/site-packages"))
    assert local.find("other") is None


def test_a_package_goes_with_all_that_is_python(tree: Tree) -> None:
    tree("pack/__init__.py", "pack/a.py", "pack/sub/__init__.py", "pack/sub/b.py", "pack/loose/c.py", "pack/README.md")
    tree("pack/.hidden/x.py", "pack/__pycache__/y.py", "pack/node_modules/z.py", "pack/venv/pyvenv.cfg", "pack/venv/w.py")
    assert files_of("pack") == ["pack/__init__.py", "pack/a.py", "pack/loose/c.py", "pack/sub/__init__.py", "pack/sub/b.py"]
    found = local.find("pack")
    assert found is not None and found.notes == []


def test_data_in_a_package_is_said_to_stay(tree: Tree) -> None:
    tree("pack/__init__.py", "pack/table.csv", "pack/more/model.bin")
    found = local.find("pack")
    assert found is not None and list(found.files) == ["pack/__init__.py"]
    assert len(found.notes) == 1 and "table.csv and 1 more" in found.notes[0] and "stay here" in found.notes[0]


def test_a_package_with_compiled_parts_does_not_travel(tree: Tree) -> None:
    tree("pack/__init__.py", "pack/_fast.cpython-311-x86_64-linux-gnu.so")
    found = local.find("pack")
    assert found is not None and found.files == {} and "compiled" in found.notes[0]
    (compiled,) = [tree("solo.so") / "solo.so"]
    module = ModuleType("solo")
    module.__file__ = str(compiled)
    sys.modules["solo"] = module
    try:
        assert local.find("solo") is None
    finally:
        del sys.modules["solo"]


def test_a_plain_folder_is_bounded(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(*(f"stuff/{i:03}.py" for i in range(20)), "stuff/data.csv", "stuff/deep/x.py")
    assert len(files_of("stuff")) == 21
    monkeypatch.setattr(local, "MOST_LOOSE_FILES", 10)
    found = local.find("stuff")
    assert found is not None and sorted(found.files) == [f"stuff/{i:03}.py" for i in range(10)]
    assert len(found.notes) == 1 and "first 10" in found.notes[0]


def test_limits_of_a_package(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree("pack/__init__.py", "pack/a.py", "pack/z.py", text="#" * 50)
    tree("pack/b.py", text="#" * 200)
    monkeypatch.setattr(local, "MOST_OF_A_FILE", 100)
    assert files_of("pack") == ["pack/__init__.py", "pack/a.py", "pack/z.py"]
    monkeypatch.setattr(local, "MOST_OF_A_PACKAGE", 120)
    assert files_of("pack") == ["pack/__init__.py", "pack/a.py"]
    monkeypatch.setattr(local, "MOST_OF_A_PACKAGE", 10_000)
    monkeypatch.setattr(local, "MOST_FILES", 1)
    assert files_of("pack") == ["pack/__init__.py"]


def test_an_editable_package_by_a_path_file_and_by_a_hook(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree("project/src/edit_pack/__init__.py")
    monkeypatch.setattr(sys, "path", [*sys.path, str(root / "project/src")])
    assert files_of("edit_pack") == ["edit_pack/__init__.py"]

    class Hook:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> object:
            where = root / "project/src/edit_pack/__init__.py"
            return importlib.util.spec_from_file_location(name, where) if name == "hooked" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Hook])
    assert files_of("hooked") == ["edit_pack/__init__.py"]


def test_new_files_are_noticed(tree: Tree) -> None:
    root = tree("pack/__init__.py")
    found = local.find("pack")
    assert found is not None and not found.is_stale()
    (root / "pack/sub").mkdir()
    assert found.is_stale() or local.find("pack") is not None
