from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from jupyter_gpu.sync import modules
from jupyter_gpu.sync.modules import check, install_sources, is_foreign, local_files, local_sources, version_of, versions_of
from jupyter_gpu.wire.errors import ModuleMissing


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """What these tests import and put on the path is gone after them."""
    before, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]
    sys.path[:] = path


def loaded(name: str, monkeypatch: pytest.MonkeyPatch, file: Path | None = None, **attributes: object) -> ModuleType:
    found = ModuleType(name)
    vars(found).update(attributes)
    if file is not None:
        found.__file__ = str(file)
    monkeypatch.setitem(sys.modules, name, found)
    return found


# ---------------------------------------------------------------- versions


def test_whose_modules_need_no_word() -> None:
    assert not any(map(is_foreign, ["json", "os", "__main__", "builtins", "jupyter_gpu", "cloudpickle"]))
    assert is_foreign("numpy") and is_foreign("something_of_mine")


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    class Version(str):
        """As torch has it."""

    loaded("tells", monkeypatch, __version__=Version("2.1+cu12"))
    loaded("tells_nonsense", monkeypatch, __version__=(1, 2))
    loaded("tells_nothing", monkeypatch)
    assert version_of("tells") == "2.1+cu12" and type(version_of("tells")) is str
    assert version_of("tells_nonsense") == version_of("tells_nothing") == version_of("never_heard_of") == ""
    assert version_of("numpy") == np.__version__
    assert versions_of(["numpy.linalg", "numpy", "json.decoder", "tells.deep", "", "__main__"]) == {
        "numpy": np.__version__,
        "tells": "2.1+cu12",
    }


def test_a_module_that_is_not_here() -> None:
    with pytest.raises(ModuleMissing) as caught:
        check({"numpy": np.__version__, "never_heard_of": "3.0"})
    assert (caught.value.module, caught.value.here) == ("never_heard_of", "3.0")


def test_another_version_is_worth_a_sentence() -> None:
    assert check({"numpy": np.__version__}) == [] == check({"numpy": ""})
    (sentence,) = check({"numpy": "0.1"})
    assert "0.1" in sentence and np.__version__ in sentence


def test_asking_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "costly_module.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert check({"costly_module": ""}) == [] and "costly_module" not in sys.modules


def test_a_module_whose_spec_cannot_be_found_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules.importlib.util, "find_spec", lambda name: (_ for _ in ()).throw(ValueError("no spec")))
    with pytest.raises(ModuleMissing):
        check({"some_module": ""})


# ---------------------------------------------------------------- sources


def test_which_files_are_the_persons_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.py"
    file.write_text("x = 1")
    assert local_files(loaded("mine", monkeypatch, file)) == {"mine.py": file}
    assert local_files(np) == {} and local_files(json) == {} and local_files(sys) == {}
    assert local_files(loaded("compiled", monkeypatch, tmp_path / "compiled.so")) == {}
    assert local_sources(["mine.deep", "json", "not_loaded"]) == {"mine.py": b"x = 1"}


def test_a_package_with_all_of_its_files_that_are_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pack"
    (package / "sub").mkdir(parents=True)
    for name in ("__init__.py", "sub/a.py"):
        (package / name).write_text("")
    (package / "data.csv").write_text("1")
    monkeypatch.setattr(modules, "_MOST", 100)
    (package / "generated.py").write_text("#" * 101)
    assert sorted(local_files(loaded("pack", monkeypatch, package / "__init__.py"))) == ["pack/__init__.py", "pack/sub/a.py"]


def test_sources_are_installed_and_edited_ones_imported_anew(tmp_path: Path) -> None:
    folder = tmp_path / "sources"
    folder.mkdir()
    assert install_sources({"mod_one.py": b"x = 1", "pack_one/__init__.py": b"", "pack_one/deep.py": b"y = 1"}, folder) == [
        "mod_one",
        "pack_one",
    ]
    assert sys.path[0] == str(folder)
    import mod_one  # type: ignore[import-not-found]
    import pack_one.deep  # type: ignore[import-not-found]

    assert mod_one.x == 1 and pack_one.deep.y == 1
    assert install_sources({"mod_one.py": b"x = 1"}, folder) == [] and sys.modules["mod_one"] is mod_one
    assert install_sources({"pack_one/deep.py": b"y = 22"}, folder) == ["pack_one"]
    assert "pack_one" not in sys.modules and "pack_one.deep" not in sys.modules and sys.modules["mod_one"] is mod_one
    import pack_one.deep as again

    assert again.y == 22 and sys.path.count(str(folder)) == 1


@pytest.mark.parametrize("path", ["../outside.py", "/etc/outside.py", "a/../../outside.py", "."])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "sources"
    folder.mkdir()
    with pytest.raises(ValueError, match="not inside"):
        install_sources({path: b"evil"}, folder)
    assert not list(tmp_path.glob("outside*")) and not Path("/etc/outside.py").exists()


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="not inside"):
        install_sources({"link/x.py": b"evil"}, folder)
    assert not (tmp_path / "x.py").exists()


def test_nothing_to_install_changes_nothing(tmp_path: Path) -> None:
    before = list(sys.path)
    assert install_sources({}, tmp_path) == [] and sys.path == before


def test_looking_for_a_module_imports_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names come from the other end: of a dotted one the parent would be imported to find its part."""
    (tmp_path / "parent_of_none").mkdir()
    (tmp_path / "parent_of_none" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert modules.missing(["parent_of_none.part", "nowhere_at_all.part"]) == ["nowhere_at_all.part"]
    assert "parent_of_none" not in sys.modules
