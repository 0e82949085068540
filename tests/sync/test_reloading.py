"""Edited sources are taken over by what is loaded, and by what was made of it."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jupyter_gpu.sync.reloading import install


class Place:
    """A folder for sources, and the modules that were loaded from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, _gone: tuple[str, ...] = (), **texts: str) -> list[str]:
        return install({name.replace("__", "/", 1) + ".py": text.encode() for name, text in texts.items()}, _gone, self.folder)

    def load(self, name: str) -> Any:
        return importlib.import_module(name)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    before, path, writes = set(sys.modules), list(sys.path), sys.dont_write_bytecode
    folder = tmp_path / "sources"
    folder.mkdir()
    yield Place(folder)
    for name in set(sys.modules) - before:
        where = [getattr(sys.modules[name], "__file__", None) or "", *map(str, getattr(sys.modules[name], "__path__", ()))]
        if any(str(tmp_path) in each for each in where):  # a library could not be loaded a second time
            del sys.modules[name]
    sys.path[:], sys.dont_write_bytecode = path, writes


def test_what_was_imported_goes_on_with_the_edited_code(place: Place) -> None:
    assert place.put(r_one="N = 1\ndef f(x=1):\n    'old'\n    return x + N\n") == []
    module = place.load("r_one")
    f = module.f
    assert f() == 2
    place.put(r_one="N = 10\ndef f(x=5, *, y=0):\n    'new'\n    return x * N + y\ndef g(): return f\n")
    assert module is place.load("r_one") and module.f is f and f() == 50 and f(1, y=2) == 12 and f.__doc__ == "new" and module.g() is f
    assert place.put(r_one="N = 10\ndef f(x=5, *, y=0):\n    'new'\n    return x * N + y\ndef g(): return f\n") == []


CLASS = """
class Base:
    def hi(self): return 'base'
class Thing(Base):
    kind = {kind!r}
    class Inner:
        n = {n}
    def __init__(self): self.made = {n}
    def hi(self): return super().hi() + {kind!r}
    @property
    def p(self): return super().hi() + self.kind
    @classmethod
    def make(cls): return cls()
    {extra}
"""


def test_classes_and_the_instances_that_live_go_on(place: Place) -> None:
    place.put(r_cls=CLASS.format(kind="a", n=1, extra="def gone(self): pass"))
    module = place.load("r_cls")
    Thing, thing, inner = module.Thing, module.Thing(), module.Thing.Inner
    assert thing.hi() == "basea"
    place.put(r_cls=CLASS.format(kind="b", n=2, extra="def added(self): return self.made"))
    assert module.Thing is Thing and Thing.Inner is inner and inner.n == 2
    assert (thing.hi(), thing.p, thing.added(), hasattr(thing, "gone"), thing.made) == ("baseb", "baseb", 1, False, 1)
    assert isinstance(module.Thing.make(), Thing) and module.Thing.make().made == 2 and issubclass(Thing, module.Base)
    assert isinstance(pickle.loads(pickle.dumps(thing)), Thing), "it is still the class of its name"


def test_a_class_of_another_layout_takes_the_place_of_the_old_one(place: Place) -> None:
    place.put(r_lay="class A:\n    __slots__ = ('x',)\n")
    old = place.load("r_lay").A
    place.put(r_lay="class A:\n    __slots__ = ('x', 'y')\n")
    new = place.load("r_lay").A
    assert new is not old and new().__slots__ == ("x", "y")


def test_who_imports_it_is_loaded_again_too(place: Place) -> None:
    place.put(
        r_low="LIMIT = 1\n",
        r_mid="from r_low import LIMIT\ntwice = LIMIT * 2\n",
        r_top="import r_mid\nfour = r_mid.twice * 2\n",
        r_other="n = []\n",
    )
    top, other = place.load("r_top"), place.load("r_other")
    kept = other.n
    place.put(r_low="LIMIT = 10\n")
    assert top.four == 40 and place.load("r_mid").twice == 20 and other.n is kept


def test_packages_and_cycles(place: Place) -> None:
    install(
        {
            "r_pk/__init__.py": b"from .a import n\nfrom . import b\n",
            "r_pk/a.py": b"n = 1\n",
            "r_pk/b.py": b"from . import a\ndef f(): return a.n\n",
        },
        (),
        place.folder,
    )
    package = place.load("r_pk")
    assert (package.n, package.b.f()) == (1, 1)
    assert install({"r_pk/a.py": b"n = 2\n"}, (), place.folder) == []
    assert (package.n, package.b.f(), place.load("r_pk").a.n) == (2, 2, 2)


def test_what_cannot_be_loaded_leaves_what_was_there(place: Place) -> None:
    place.put(r_bad="n = 1\ndef f(): return n\n")
    module = place.load("r_bad")
    (said,) = place.put(r_bad="n = 2\ndef f(: return n\n")
    assert "r_bad" in said and "SyntaxError" in said and module.n == 1 and module.f() == 1
    (said,) = place.put(r_bad="n = 3\ndef f(): return -n\nraise ValueError('half')\n")
    assert "half" in said and module.n == 1 and module.f() == 1 and sys.modules["r_bad"] is module
    assert place.put(r_bad="n = 4\ndef f(): return n\n") == [] and module.f() == 4


def test_what_is_gone_is_gone(place: Place) -> None:
    install({"r_gone.py": b"x = 1\n", "r_gp/__init__.py": b"", "r_gp/sub.py": b"y = 1\n"}, (), place.folder)
    place.load("r_gone"), place.load("r_gp.sub")
    install({}, ("r_gone.py", "r_gp/sub.py", "r_never.py"), place.folder)
    for name in ("r_gone", "r_gp.sub"):
        with pytest.raises(ImportError):
            place.load(name)
    assert place.load("r_gp") and not hasattr(place.load("r_gp"), "sub")


def test_a_module_that_came_from_elsewhere_is_taken_over(place: Place, tmp_path: Path) -> None:
    (tmp_path / "r_else.py").write_text("def f(): return 'elsewhere'\n")
    sys.path.insert(0, str(tmp_path))
    module: ModuleType = place.load("r_else")
    place.put(r_else="def f(): return 'sent'\n")
    assert module.f() == "sent" and str(place.folder) in str(module.__file__)


@pytest.mark.parametrize("path", ["../outside.py", "/etc/outside.py", "a/../../outside.py", "."])
def test_a_path_that_leaves_the_folder_is_refused(place: Place, path: str) -> None:
    for sources, gone in (({path: b"evil", "fine.py": b""}, ()), ({}, (path,))):
        with pytest.raises(ValueError, match="not inside"):
            install(sources, gone, place.folder)
    assert not list(place.folder.parent.glob("outside*")) and not list(place.folder.iterdir())


def test_a_link_that_leaves_the_folder_is_refused(place: Place, tmp_path: Path) -> None:
    (place.folder / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="not inside"):
        install({"link/x.py": b"evil"}, (), place.folder)
    assert not (tmp_path / "x.py").exists()


def test_nothing_to_install_changes_nothing(place: Place) -> None:
    before = list(sys.path)
    assert install({}, (), place.folder) == [] and sys.path == before
