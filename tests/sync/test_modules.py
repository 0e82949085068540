from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from jupyter_gpu.sync import modules
from jupyter_gpu.sync.modules import check, check_imports, is_foreign, version_of, versions_of
from jupyter_gpu.wire.errors import ModuleMissing


@pytest.fixture(autouse=True)
def restored(tmp_path: Path) -> Iterator[None]:
    """What these tests import and put on the path is gone after them."""
    before, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - before:
        where = [getattr(sys.modules[name], "__file__", None) or "", *map(str, getattr(sys.modules[name], "__path__", ()))]
        if any(str(tmp_path) in place for place in where):  # a library could not be loaded a second time
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


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 knows only the modules that a distribution lists in top_level.txt")
def test_distributions_of_another_name() -> None:
    assert modules._distribution_version("sklearn") == __import__("sklearn").__version__


# ---------------------------------------------------------------- what a cell imports


def test_what_a_cell_needs_and_is_not_here() -> None:
    with pytest.raises(ModuleMissing) as caught:
        check_imports({"never_heard_of": "3.0"}, ["never_heard_of"])
    assert caught.value.needed_by == "cell" and "which the cell imports (here it is never_heard_of 3.0)" in str(caught.value)
    with pytest.raises(ModuleMissing, match="nor does the notebook know a version of it"):
        check_imports({"never_heard_of": ""}, ["never_heard_of"])


def test_what_it_may_import_is_only_said() -> None:
    (sentence,) = check_imports({"never_heard_of": "3.0", "numpy": np.__version__}, ["numpy"])
    assert "never_heard_of" in sentence and "3.0" in sentence
    (sentence,) = check_imports({"numpy": "0.1"}, ["numpy"])
    assert "0.1" in sentence and np.__version__ in sentence
    assert check_imports({}, []) == []


def test_looking_for_a_module_imports_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names come from the other end: of a dotted one the parent would be imported to find its part."""
    (tmp_path / "parent_of_none").mkdir()
    (tmp_path / "parent_of_none" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert modules.missing(["parent_of_none.part", "nowhere_at_all.part"]) == ["nowhere_at_all.part"]
    assert "parent_of_none" not in sys.modules
