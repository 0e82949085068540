"""Copies of buffers that both ends have, within a budget: what a later change is told by."""

from __future__ import annotations

import mmap
import tempfile
import weakref
from collections import OrderedDict
from typing import IO

from ..wire.codec import BytesLike
from .pieces import digest, flat

#: Bytes of copies in memory, and of those on disk.
MEMORY, DISK = 256 << 20, 1 << 30
#: Files at the same time: each is a descriptor of the process.
_FILES = 64


class Copies:
    """Bytes by digest, the least recently used written to disk and then forgotten.

    A buffer of more than half of ``memory`` is never copied: sending something large must not take twice its memory. What is on disk
    is in files without a name, which end with the process. A disk that is full means that there is no copy, and nothing else.
    """

    def __init__(self, memory: int = MEMORY, disk: int = DISK) -> None:
        self.memory = memory
        self.disk = disk
        self.size = 0  #: bytes in memory
        self.size_on_disk = 0
        self._kept: OrderedDict[bytes, memoryview] = OrderedDict()
        self._spilled: OrderedDict[bytes, _File] = OrderedDict()

    def __contains__(self, name: bytes) -> bool:
        return name in self._kept or name in self._spilled

    def __len__(self) -> int:
        return len(self._kept) + len(self._spilled)

    def keep(self, name: bytes, data: BytesLike, *, verify: bool = False) -> bool:
        """Copy ``data``, if that may be; whether it was. ``verify``: somebody may have changed it since its digest was computed."""
        view = flat(data)
        if view.nbytes > self.memory // 2:
            return False
        if name in self:
            self._touch(name)
            return True
        self._make_room(view.nbytes)
        try:
            copy = _copy_of(view)
        except MemoryError:
            return False
        if verify and digest(copy) != name:
            return False
        self._kept[name] = copy.toreadonly()
        self.size += copy.nbytes
        return True

    def find(self, name: bytes) -> memoryview | None:
        """The bytes, read-only, or None."""
        self._touch(name)
        found = self._kept.get(name)
        if found is not None:
            return found
        file = self._spilled.get(name)
        return None if file is None else file.read()

    def discard(self, name: bytes) -> None:
        if (copy := self._kept.pop(name, None)) is not None:
            self.size -= copy.nbytes
        if (file := self._spilled.pop(name, None)) is not None:
            self.size_on_disk -= file.size
            file.close()

    def clear(self) -> None:
        for name in [*self._kept, *self._spilled]:
            self.discard(name)

    def _touch(self, name: bytes) -> None:
        if name in self._kept:
            self._kept.move_to_end(name)
        elif name in self._spilled:
            self._spilled.move_to_end(name)

    def _make_room(self, size: int) -> None:
        while self._kept and self.size + size > self.memory:
            name, copy = self._kept.popitem(last=False)
            self.size -= copy.nbytes
            self._spill(name, copy)

    def _spill(self, name: bytes, copy: memoryview) -> None:
        if copy.nbytes > self.disk:
            return
        while self._spilled and (self.size_on_disk + copy.nbytes > self.disk or len(self._spilled) >= _FILES):
            self.discard(next(iter(self._spilled)))
        try:
            self._spilled[name] = _File(copy)
        except OSError:  # full, or no descriptor is left
            return
        self.size_on_disk += copy.nbytes


class _File:
    """Bytes in a file that has no name."""

    def __init__(self, data: memoryview) -> None:
        self.size = data.nbytes
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by `close`, or with the object
        self.close = weakref.finalize(self, self._file.close)
        try:
            while data.nbytes:
                data = data[self._file.write(data) :]
        except BaseException:
            self.close()
            raise

    def read(self) -> memoryview | None:
        try:
            return memoryview(mmap.mmap(self._file.fileno(), self.size, access=mmap.ACCESS_READ))
        except (OSError, ValueError):
            return None


def _copy_of(view: memoryview) -> memoryview:
    try:
        import numpy as np
    except ImportError:
        return memoryview(bytearray(view))
    return np.frombuffer(view, np.uint8).copy().data  # a bytearray would be filled with zeros first
