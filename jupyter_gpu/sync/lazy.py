"""Modules that a remote cell imported, at the notebook: imported when they are first used, if they are used at all.

A cell that says ``import torch`` binds ``torch``. To import it here as well would take seconds, and fail where the notebook's own
machine has no torch, which is why the cell ran elsewhere.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class LazyModule(ModuleType):
    """Stands for the module of its name until the first attribute is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__version__", "__all__", "__path__"):
            raise AttributeError(name)  # probes: of inspect, pickle, IPython
        try:
            module = importlib.import_module(self.__name__)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{self.__name__} was imported in a remote cell, and is not installed here: use it in a %%remote cell, or install it",
                name=error.name,
            ) from None
        return getattr(module, name)

    def __dir__(self) -> list[str]:
        return dir(importlib.import_module(self.__name__))

    def __repr__(self) -> str:
        return f"<module {self.__name__!r} (imported in a remote cell; here when it is used)>"


def named_module(name: str, lazily: bool) -> ModuleType:
    """The module, or what stands for it."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        return loaded
    return LazyModule(name) if lazily else importlib.import_module(name)
