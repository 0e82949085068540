"""Python files of the person's own that a cell, its functions or its variables import: they go along, and again when they were edited."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from xxhash import xxh3_128_digest

from ..sync import local
from ..sync.imports import imports_of
from ..sync.modules import is_foreign

#: Nanoseconds that a file must have been left alone before its times are believed: the clock of a file system ticks slowly.
_SETTLED = 100_000_000


@dataclass
class Changed:
    """What the session lacks, what it has to delete, and what a person should hear of it."""

    files: dict[str, bytes] = field(default_factory=dict)  #: relative path -> source
    gone: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Sources:
    """What one session has of them."""

    def __init__(self) -> None:
        self._settled: set[str] = set()  #: names that are no files of the person's own
        self._modules: dict[str, local.Local] = {}
        self._sent: dict[str, bytes] = {}  #: relative path -> digest of what was sent
        self._stamps: dict[str, tuple[int, ...]] = {}  #: relative path -> times and size of a file, when they can be believed
        self._said: set[str] = set()

    def changed(self, names: Iterable[str]) -> Changed:
        """``names``: top-level modules that a cell and its variables refer to. What these import is looked for too."""
        found = Changed()
        todo = [n for n in names if n not in self._modules and n not in self._settled]
        if not todo and not self._modules:
            return found
        for name, module in list(self._modules.items()):
            if module.is_stale():
                todo.append(name)
            todo += self._compare(module, found)
        while todo:
            name = todo.pop()
            if self._is_new(name):
                todo += self._compare(self._modules[name], found)
        return found

    def is_local(self, name: str) -> bool:
        """Whether a top-level module travels as files."""
        return name in self._modules

    def _is_new(self, name: str) -> bool:
        """Look for a module; whether its files are to be compared."""
        known = self._modules.get(name)
        if name in self._settled or (known is not None and not known.is_stale() and all(f.exists() for f in known.files.values())):
            return False
        found = local.find(name) if is_foreign(name) else None
        if found is None:
            if not is_foreign(name) or local.is_elsewhere(name):
                self._settled.add(name)  # one that does not exist may still be written
            if known is None:
                return False
            found = local.Local(name)
        if known is not None:  # what is not there any more is compared once more, and found to be gone
            found.files = {**{r: f for r, f in known.files.items() if r in self._sent}, **found.files}
        self._modules[name] = found
        return True

    def _compare(self, module: local.Local, found: Changed) -> list[str]:
        """Take what was edited or deleted. Returns the names that edited files import."""
        imported: list[str] = []
        found.notes += [n for n in module.notes if n not in self._said]
        self._said.update(module.notes)
        for relative, file in list(module.files.items()):
            try:
                if (source := self._edited(relative, file)) is None:
                    continue
            except FileNotFoundError:
                del module.files[relative]
                if self._sent.pop(relative, None) is not None:
                    found.gone.append(relative)
                continue
            except OSError:
                continue  # unreadable: the worker says what it lacks
            found.files[relative] = source
            imported += imports_of(source.decode("utf-8", "replace")).all
        if not module.files:
            self._modules.pop(module.name, None)
        return imported

    def _edited(self, relative: str, file: Path) -> bytes | None:
        """The source, if it is not the one that was sent."""
        status = file.stat()
        stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
        if self._stamps.get(relative) == stamp:
            return None
        now, source = time.time_ns(), file.read_bytes()
        if now - max(stamp[:2]) > _SETTLED:
            self._stamps[relative] = stamp
        else:
            self._stamps.pop(relative, None)
        digest = xxh3_128_digest(source)
        if self._sent.get(relative) == digest:
            return None
        self._sent[relative] = digest
        return source
