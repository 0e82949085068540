"""A kernel that was not moved: it is where it was, with all that it has."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from .base import JupyterGpuError, because


class MoveError(JupyterGpuError):
    """The kernel was not moved."""


@dataclass(kw_only=True, eq=False)
class CannotMove(MoveError):
    """Nobody tried. ``instead``: what to do, as a sentence."""

    code = "move.not-here"
    reason: str
    instead: str = ""

    @property
    def sentence(self) -> str:
        return f"This kernel cannot be moved{because(self.reason)}"

    @property
    def hint(self) -> str:
        return self.instead or "`%%remote gpu=...` runs a single cell on other hardware."


@dataclass(kw_only=True, eq=False)
class StaysBehind(MoveError):
    """``names``: variables that would be left; ``why``: for each, what in it cannot go and why."""

    code = "move.stays-behind"
    to: str
    names: list[str] = dataclasses.field(default_factory=list)
    why: list[str] = dataclasses.field(default_factory=list)

    @property
    def sentence(self) -> str:
        return f"Not all of this kernel can go to {self.to}; it stays where it is. What cannot go: {'; '.join(self.why) or 'unknown'}."

    @property
    def hint(self) -> str:
        move = f"%remote move {self.to}"
        return f"`{move} without={','.join(self.names)}` goes without these, `{move} anyway` without whatever cannot go."


@dataclass(kw_only=True, eq=False)
class MoveFailed(MoveError):
    code = "move.failed"
    to: str
    reason: str = ""

    @property
    def sentence(self) -> str:
        return f"The kernel was not moved to {self.to}{because(self.reason)}"

    @property
    def hint(self) -> str:
        return "It is where it was, with all of its variables."
