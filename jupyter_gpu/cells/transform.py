"""Which cells are remote without a magic: by their first line ``# remote: gpu=H100``, or by ``%remote default``."""

from __future__ import annotations

import re
from typing import Any

#: Then come options, one word or nothing: "# remote: see the wiki about it" is a comment like any other.
_DIRECTIVE = re.compile(r"#\s*remote:\s*(.*?)\s*$", re.IGNORECASE)
_OPTIONS = re.compile(r"$|-|quiet\b|\w+\s*=|\S+$", re.IGNORECASE)
_OURS = re.compile(r"\s*(%%?remote\b|%(?:re)?load_ext\b|%unload_ext\b|%%?remote\?)")


class RemoteTransform:
    """An input transformer of IPython: lines in, lines out."""

    #: IPython then leaves it out where it only asks whether a cell is complete: a remote cell is complete when its Python is.
    has_side_effects = True

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.default = ""  #: options of `%remote default`; empty: cells are local

    def __call__(self, lines: list[str]) -> list[str]:
        first = next((i for i, line in enumerate(lines) if line.strip()), None)
        if first is None:
            return lines
        match = _DIRECTIVE.match(lines[first])
        if match is not None and _OPTIONS.match(match[1]):
            options = match[1]
            if options.lower() in ("off", "local", "no"):
                return lines
            return [f"%%remote {options}\n", *lines[:first], *lines[first + 1 :]]
        if not self.default or _is_ours(lines[first:]) or not self._by_a_person():
            return lines
        # One line more than the person sees, which the runner takes away again.
        return [f"%%remote {self.default} {ADDED}\n", *lines]

    def _by_a_person(self) -> bool:
        """Front ends run code of their own, silently or without a number: inspectors, completers."""
        kernel = getattr(self._shell, "kernel", None)
        if kernel is None:
            return True
        content = kernel.get_parent().get("content") or {}
        return not content.get("silent", False) and bool(content.get("store_history", True))


#: Marks a line that the person did not write. A comment to ``options.parse``.
ADDED = "#jupyter-gpu-default"


def _is_ours(lines: list[str]) -> bool:
    """A cell that begins with one of our own lines, and one that only asks for help, stays here whole."""
    first = lines[0].strip()
    return _OURS.match(first) is not None or first.startswith("?") or (len(lines) == 1 and first.endswith("?"))
