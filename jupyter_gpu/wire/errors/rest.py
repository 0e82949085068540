"""Errors that belong to no branch."""

from __future__ import annotations

from dataclasses import dataclass

from .base import JupyterGpuError, because


@dataclass(kw_only=True, eq=False)
class HandleError(JupyterGpuError):
    """``action`` completes "cannot be ...": "added to", "iterated over"."""

    code = "handle.use"
    name: str
    action: str

    @property
    def sentence(self) -> str:
        return f"{self.name!r} stayed on the worker and cannot be {self.action} here."

    @property
    def hint(self) -> str:
        return f"Use it in a %%remote cell, or bring it here with {self.name}.fetch()."


@dataclass(kw_only=True, eq=False)
class InternalError(JupyterGpuError):
    code = "internal"
    id: str = ""
    text: str = ""

    @property
    def sentence(self) -> str:
        return f"Internal error{because(self.text)}"

    @property
    def hint(self) -> str:
        return f"This is a fault of jupyter-gpu. Please report it with the lines of the log that carry the id {self.id}." if self.id else ""
