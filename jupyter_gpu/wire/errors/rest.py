"""Errors that belong to no branch."""

from __future__ import annotations

from dataclasses import dataclass

from .base import JupyterGpuError, because


@dataclass(kw_only=True, eq=False)
class HandleError(JupyterGpuError):
    """``action`` completes "cannot be ...": "added to", "iterated over". ``ended``: the session is over, and the value with it."""

    code = "handle.use"
    name: str
    action: str
    ended: bool = False

    @property
    def sentence(self) -> str:
        if self.ended:
            return f"{self.name!r} stayed on a worker whose session has ended: the value is gone, and cannot be {self.action}."
        return f"{self.name!r} stayed on the worker and cannot be {self.action} here."

    @property
    def hint(self) -> str:
        if self.ended:
            return "Run the cell again that made it."
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
