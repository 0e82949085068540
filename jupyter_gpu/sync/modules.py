"""Modules travel by name: which ones, of which version, and what the other end has. Files of the person's own travel as sources."""

from __future__ import annotations

import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterable
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import ModuleType

from ..wire.errors import ModuleMissing

#: Never worth a word: part of Python, or of ourselves.
_OURS = frozenset({"__main__", "__mp_main__", "jupyter_gpu", "jupyter_gpu_worker", "cloudpickle", "builtins"})
#: Bytes of one local source file, beyond which it is no module that somebody edits beside a notebook.
_MOST = 4 << 20


def is_foreign(name: str) -> bool:
    """Whether a top-level module may be lacking elsewhere."""
    return name not in _OURS and name not in sys.stdlib_module_names


@lru_cache(maxsize=512)
def _distribution_version(name: str) -> str:
    try:
        return metadata.version(name)
    except (metadata.PackageNotFoundError, ValueError):
        return ""


def version_of(name: str) -> str:
    """Version of a top-level module; "" if it tells none."""
    module = sys.modules.get(name)
    told = getattr(module, "__version__", None)
    return str(told) if isinstance(told, str) else _distribution_version(name)  # torch has a subclass of its own


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Version of each foreign top-level package among ``names``, which may be dotted."""
    return {top: version_of(top) for top in sorted({n.partition(".")[0] for n in names}) if top and is_foreign(top)}


def check(modules: dict[str, str], side: str = "worker") -> list[str]:
    """Compare the sender's modules with those here, without importing any. Raises ``ModuleMissing`` for one that is not here;
    returns a sentence for each of another version. ``side``: which end this is, "worker" or "notebook"."""
    differ = []
    for name in missing(modules):
        raise ModuleMissing(module=name, here=modules[name], there="", lacking=side)
    for name, theirs in modules.items():
        ours = version_of(name)
        if theirs and ours and theirs != ours:
            here, there = (theirs, ours) if side == "worker" else (ours, theirs)
            differ.append(f"{name} is {here} in the notebook and {there} on the worker")
    return differ


def missing(modules: Iterable[str]) -> list[str]:
    """Those that are not here."""
    return [name for name in modules if name not in sys.modules and not _can_import(name)]


def _can_import(name: str) -> bool:
    try:
        return importlib.util.find_spec(name.partition(".")[0]) is not None  # of a dotted name it would import the parent
    except (ImportError, ValueError):
        return False


@lru_cache(maxsize=1)
def _installed_roots() -> tuple[Path, ...]:
    paths = {sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(Path(p).resolve() for p in paths if p)


def local_files(module: ModuleType) -> dict[str, Path]:
    """Relative path -> file of a module that was not installed: a .py file beside the notebook, an editable package. Empty for
    all others."""
    origin = getattr(module, "__file__", None)
    if not origin or not origin.endswith(".py"):
        return {}
    file = Path(origin).resolve()
    if any(root in file.parents for root in _installed_roots()):
        return {}
    if file.name != "__init__.py":
        return {file.name: file}
    root = file.parent
    return {str(f.relative_to(root.parent)): f for f in sorted(root.rglob("*.py")) if f.stat().st_size <= _MOST}


def local_sources(names: Iterable[str]) -> dict[str, bytes]:
    """Relative path -> source of every loaded module among ``names`` that is a file of the person's own."""
    found: dict[str, bytes] = {}
    for top in {n.partition(".")[0] for n in names}:
        module = sys.modules.get(top)
        if module is not None and is_foreign(top):
            found.update({relative: file.read_bytes() for relative, file in local_files(module).items()})
    return found


def install_sources(sources: dict[str, bytes], folder: Path) -> list[str]:
    """Put sources where this process imports them, and forget modules whose source changed. Returns the names of the modules
    that are new or changed. A path that leaves ``folder`` is refused with ``ValueError``."""
    changed: set[str] = set()
    for relative, source in sources.items():
        target = (folder / relative).resolve()
        if folder.resolve() not in target.parents:
            raise ValueError(f"{relative} is not inside of the folder for sources")
        if not target.exists() or target.read_bytes() != source:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source)
            changed.add(Path(relative).parts[0].removesuffix(".py"))
    if sources and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    for loaded in [m for m in sys.modules if m.partition(".")[0] in changed]:
        del sys.modules[loaded]
    importlib.invalidate_caches()
    return sorted(changed)
