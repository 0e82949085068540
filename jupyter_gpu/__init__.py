"""Run notebook cells on a GPU elsewhere: ``%load_ext jupyter_gpu``, then ``%%remote gpu=H100`` over a cell.

Importing this package, and loading it as an extension, costs next to nothing: all else is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cells.failures import RemoteError as RemoteError
    from .client import Gateway as Gateway
    from .sync.handles import Handle as Handle
    from .wire.errors import JupyterGpuError as JupyterGpuError

from ._version import __version__

_PUBLIC = {
    "Gateway": "client",
    "Handle": "sync.handles",
    "JupyterGpuError": "wire.errors",
    "RemoteError": "cells.failures",
}

__all__ = ["Gateway", "Handle", "JupyterGpuError", "RemoteError", "__version__", "load_ipython_extension", "unload_ipython_extension"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext jupyter_gpu``: the magics, and the directive in a cell's first line."""
    from .cells.register import register

    register(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext jupyter_gpu``: takes back what loading did, and ends the notebook's sessions."""
    from .cells.register import unregister

    unregister(shell)
