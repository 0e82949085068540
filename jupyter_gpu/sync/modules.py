"""Modules travel by name: which ones, of which version, and what the other end has. Files of the person's own travel as sources: see
``local`` and ``reloading``."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from functools import lru_cache
from importlib import metadata

from ..wire.errors import ModuleMissing

#: Never worth a word: part of Python, or of ourselves.
_OURS = frozenset({"__main__", "__mp_main__", "jupyter_gpu", "jupyter_gpu_worker", "cloudpickle", "builtins"})


def is_foreign(name: str) -> bool:
    """Whether a top-level module may be lacking elsewhere."""
    return name not in _OURS and name not in sys.stdlib_module_names


@lru_cache(maxsize=512)
def _distribution_version(name: str) -> str:
    try:
        return metadata.version(name)
    except (metadata.PackageNotFoundError, ValueError):
        pass
    try:
        return metadata.version(_distributions()[name][0])  # sklearn is of scikit-learn
    except (metadata.PackageNotFoundError, ValueError, KeyError):
        return ""


@lru_cache(maxsize=1)
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


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
    return [name for name in modules if name not in sys.modules and not is_installed(name)]


def is_installed(name: str) -> bool:
    """Whether a top-level module could be imported; it is not."""
    try:
        return importlib.util.find_spec(name.partition(".")[0]) is not None  # of a dotted name it would import the parent
    except (ImportError, ValueError):
        return False


def check_imports(imports: dict[str, str], needs: Iterable[str]) -> list[str]:
    """What a cell imports, before it runs. ``imports``: top-level module -> version at the notebook. Raises ``ModuleMissing`` for one of
    ``needs`` that is not here; returns a sentence for each other that is missing, and for each of another version."""
    gone = set(missing(imports))
    for name in needs:
        if name in gone:
            raise ModuleMissing(module=name, here=imports[name], lacking="worker", needed_by="cell")
    said = []
    for name in sorted(gone):
        known = f" (the notebook has {name} {imports[name]})" if imports[name] else ""
        said.append(f"the worker has no module {name}, which the cell may import{known}")
    return said + check({n: v for n, v in imports.items() if n not in gone})
