"""Python files of the person's own, found without importing them: beside the notebook, on ``sys.path``, in editable packages."""

from __future__ import annotations

import importlib.util
import os
import site
import sys
import sysconfig
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

#: Bytes of one source file, beyond which it is no module that somebody edits beside a notebook; and of all of one package.
MOST_OF_A_FILE = 4 << 20
MOST_OF_A_PACKAGE = 64 << 20
#: Files of a package; of a folder that is none (no ``__init__.py``), which may be anything; and folders looked into.
MOST_FILES = 2000
MOST_LOOSE_FILES = 200
MOST_FOLDERS = 1000

_COMPILED = (".so", ".pyd", ".dylib")
_NO_DATA = (".py", ".pyc", ".pyi", ".pyx", ".md", ".rst", ".txt", ".typed", ".ipynb")
_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass
class Local:
    """One top-level module. ``files``: relative path -> file; ``folders``: folder -> mtime in ns, by which new files are noticed;
    ``notes``: what does not travel of it, in a person's words."""

    name: str
    files: dict[str, Path] = field(default_factory=dict)
    folders: dict[Path, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def is_stale(self) -> bool:
        """Whether files were added or removed since it was looked at."""
        return any(_mtime(folder) != then for folder, then in self.folders.items())


def find(name: str) -> Local | None:
    """The files of a top-level module, if it is one of the person's own; None: it is not, or there is no such module."""
    places = _places(name)
    if not places or any(map(_is_installed, places)):
        return None
    first = places[0]
    if first.is_file() and first.name != "__init__.py":
        return Local(name, {first.name: first}) if first.suffix == ".py" and first.stat().st_size <= MOST_OF_A_FILE else None
    loose = first.is_dir()
    found = Local(name)
    for place in places if loose else [first.parent]:
        if not _walk(found, place, loose):
            return Local(name, notes=found.notes)
    return found


def is_elsewhere(name: str) -> bool:
    """Whether a module is there, or was made by code, and is no file of the person's own that may come back."""
    module = sys.modules.get(name)
    if module is None:
        return bool(_places(name))
    origin = getattr(module, "__file__", None)
    return origin is None or os.path.exists(origin)


def _places(name: str) -> list[Path]:
    """Its file (of a package: ``__init__.py``), or the folders of a package without one."""
    module = sys.modules.get(name)
    if module is not None:
        origin, folders = getattr(module, "__file__", None), list(getattr(module, "__path__", ()))
    else:
        try:
            spec = importlib.util.find_spec(name)  # of a top-level module: this imports nothing
        except (ImportError, ValueError, AttributeError):
            return []
        if spec is None:
            return []
        origin = spec.origin if spec.has_location else None
        folders = list(spec.submodule_search_locations or ())
    try:
        return [Path(p).resolve() for p in ([origin] if origin else folders) if os.path.exists(p)]
    except (OSError, TypeError):
        return []


def _is_installed(path: Path) -> bool:
    return bool(_INSTALLED.intersection(path.parts)) or any(root in path.parents or root == path for root in _installed_roots())


@lru_cache(maxsize=1)
def _installed_roots() -> tuple[Path, ...]:
    paths = {sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(Path(p).resolve() for p in paths if p)


def _walk(found: Local, root: Path, loose: bool) -> bool:
    """Take the sources below ``root``. False: it has compiled parts, and cannot travel."""
    total, limit, data = 0, MOST_LOOSE_FILES if loose else MOST_FILES, []
    for where, folders, files in os.walk(root):
        here = Path(where)
        folders[:] = sorted(f for f in folders if _is_worth_a_look(here / f))
        found.folders[here] = _mtime(here)
        for file in sorted(files):
            path = here / file
            if file.endswith(_COMPILED) and not loose:
                found.notes.append(f"{found.name} has compiled parts ({file}) and does not travel as source: install it on the worker")
                return False
            if not file.endswith(".py"):
                data += [] if loose or file.startswith(".") or file.endswith(_NO_DATA) else [file]
                continue
            size = _size(path)
            total += size
            if len(found.files) >= limit or total > MOST_OF_A_PACKAGE or len(found.folders) > MOST_FOLDERS:
                found.notes.append(f"{found.name}: only the first {len(found.files)} of its .py files travel; it has more than may")
                return True
            if 0 <= size <= MOST_OF_A_FILE:
                found.files[str(path.relative_to(root.parent))] = path
    if data:
        more = f" and {len(data) - 1} more" if len(data) > 1 else ""
        found.notes.append(f"{found.name}: its Python files travel; {data[0]}{more} inside of it, which are no Python, stay here")
    return True


def _is_worth_a_look(folder: Path) -> bool:
    if folder.name.startswith(".") or folder.name in ("__pycache__", "node_modules") or folder.name in _INSTALLED:
        return False
    return not (folder / "pyvenv.cfg").exists()


def _mtime(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
