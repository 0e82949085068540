"""Python files of the person's own that variables refer to: they go along as sources, and again when they were edited."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from ..sync.modules import is_foreign, local_files


class Sources:
    """What one session has of them."""

    def __init__(self) -> None:
        self._checked: set[str] = set()
        self._files: dict[str, Path] = {}
        self._sent: dict[str, tuple[int, int]] = {}  #: relative path -> (mtime in ns, size) of what was sent

    def changed(self, modules: Iterable[str]) -> dict[str, bytes]:
        """Relative path -> source, of what the session lacks. ``modules``: top-level names that a snapshot refers to."""
        for name in modules:
            if name in self._checked or not is_foreign(name) or (module := sys.modules.get(name)) is None:
                continue
            self._checked.add(name)
            self._files.update(local_files(module))
        found = {}
        for relative, file in self._files.items():
            try:
                status = file.stat()
                stamp = (status.st_mtime_ns, status.st_size)
                if self._sent.get(relative) != stamp:
                    found[relative] = file.read_bytes()
                    self._sent[relative] = stamp
            except OSError:
                continue  # deleted or unreadable: the module is loaded here all the same, and the worker says what it lacks
        return found
