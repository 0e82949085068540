"""The first step behind ``%remote`` and ``%%remote``: a command, or a cell to run."""

from __future__ import annotations

from typing import Any

from ..wire.errors import CannotMove, UnknownOption
from . import commands
from .help import HELP
from .notebook import Notebook
from .options import nearest, parse
from .transform import ADDED

COMMANDS = ("status", "plan", "last", "stop", "default", "quiet", "move", "help")


def line_magic(shell: Any, line: str) -> Any:
    """``%remote ...``"""
    command, _, rest = line.strip().partition(" ")
    if command == "move":
        return move(shell, rest)
    notebook = Notebook.of(shell)
    if command in ("", "status"):
        return commands.status(notebook)
    if command == "plan":
        return commands.plan_names(notebook, rest.split())
    if command == "last":
        return commands.last(notebook)
    if command == "stop":
        return commands.stop(notebook, rest.strip())
    if command == "default":
        return commands.default(notebook, rest.strip())
    if command == "quiet":
        return commands.quiet(notebook, rest.strip())
    if command == "help":
        print(HELP.strip())
        return None
    if "=" in command:
        # Options alone are valid over a cell: say so, after they were checked.
        parse(line)
        raise UnknownOption(option=command, nearest=f"%%remote {line.strip()}", known=[])
    raise UnknownOption(option=command, nearest=nearest(command, COMMANDS), known=[f"%remote {c}" for c in COMMANDS])


def move(shell: Any, rest: str) -> Any:
    """A whole kernel of ours has what moves it. Raises ``CannotMove`` in any other."""
    mover = getattr(getattr(shell, "kernel", None), "jupyter_gpu_move", None)
    if mover is None:
        raise CannotMove(
            reason="it was not started by a kernelspec of jupyter-gpu",
            instead="`jupyter gpu install --elastic` writes one that can be moved; here, `%%remote gpu=...` runs a cell elsewhere.",
        )
    return mover(rest)


def cell_magic(shell: Any, line: str, cell: str) -> None:
    """``%%remote ...`` over a cell."""
    notebook = Notebook.of(shell)
    first, _, rest = line.strip().partition(" ")
    if first == "plan":
        commands.plan_cell(notebook, parse(rest), cell)
        return
    options = parse(line)
    from .runner import run

    run(notebook, options, line.replace(ADDED, "").strip(), cell, added=ADDED in line)
