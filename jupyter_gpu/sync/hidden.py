"""Names of a notebook that are not the person's variables."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

#: Names that IPython keeps for itself: they travel when a cell names them, and are never reported as changed otherwise.
_OWN = frozenset({"In", "Out", "_", "__", "___", "_i", "_ii", "_iii", "_ih", "_oh", "_dh", "_sh"})
#: Names that mean something of this process: the other end has its own.
_PLACE = frozenset({"__builtins__", "__builtin__", "__name__", "__doc__", "__package__", "__loader__", "__spec__", "__session__"})
_PLACE |= {"__warningregistry__", "_dh"}
#: Names that the shell puts there, and that travel only if the person bound something else to them.
_SHELL = frozenset({"exit", "quit", "get_ipython", "open", "display"})


@lru_cache(maxsize=1 << 15)  # asked for every name of a notebook at every cell, and IPython leaves a few with each
def is_hidden(name: str) -> bool:
    """Whether a name is IPython's own: ``In``, ``_i3``, ``_12`` and the like."""
    if name in _OWN or name in _PLACE or name in _SHELL:
        return True
    return name[:1] == "_" and (name[1:].isdigit() or (name[:2] == "_i" and name[2:].isdigit()))


def stays(name: str, value: Any) -> bool:
    """Whether a name is never sent, even if a cell names it."""
    if name in _PLACE:
        return True
    if name not in _SHELL:
        return False
    return (getattr(value, "__module__", None) or type(value).__module__ or "").partition(".")[0] in {"IPython", "ipykernel", "io", "_io"}
