"""Where payloads wait until the other end has acknowledged them: memory first, then a file, then no more.

A payload in memory is kept by reference: it exists already, so keeping it costs nothing but time until it can be
freed. That is why the limit on memory is asked before a payload comes, not after: the payload that crosses it stays
in memory, the next one goes to the file. The file has no name (nothing is left behind by a crash) and is a ring of at
most ``disk`` bytes.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from .codec import BytesLike
from .errors import DiskFull, LinkBroken, SpoolFull

if TYPE_CHECKING:
    from io import FileIO


class Spool:
    """``memory`` and ``disk`` in bytes; ``folder`` of the temporary file (None: the system's)."""

    def __init__(self, *, memory: int = 256 << 20, disk: int = 2 << 30, folder: str | None = None) -> None:
        self.limit_memory = memory
        self.limit_disk = disk
        self.memory = 0  #: bytes held in memory now
        self.disk = 0  #: bytes held in the file now
        self._folder = folder
        self._file: FileIO | None = None
        self._head = 0  # where the next byte goes; counts on for ever, the place in the file is the rest modulo the limit

    def put(self, parts: Sequence[BytesLike], size: int) -> int:
        """Take over a payload of ``size`` bytes. -1: it stays in memory, by reference; else its place in the file.
        Raises ``SpoolFull`` or ``DiskFull``, and has then taken nothing."""
        if self.memory < self.limit_memory or not size:
            self.memory += size
            return -1
        if self.disk + size > self.limit_disk:
            raise SpoolFull(limit=self.limit_memory + self.limit_disk)
        at = self._head
        try:
            file = self._open()
            for part in parts:
                at = self._write(file, at, memoryview(part).cast("B"))
        except OSError as error:
            raise DiskFull(path=self._folder or tempfile.gettempdir(), needed=size, reason=error.strerror or str(error)) from error
        start, self._head = self._head, at
        self.disk += size
        return start

    def get(self, at: int, size: int) -> bytes:
        """``size`` bytes from the place ``at`` in the file."""
        found = []
        for start, length in self._stretches(at, size):
            file = self._open()
            file.seek(start)
            while length:
                data = file.read(length)
                if not data:
                    raise LinkBroken(reason="the file with what was not yet sent is damaged")
                found.append(data)
                length -= len(data)
        return b"".join(found)

    def free(self, at: int, size: int) -> None:
        """The oldest ``size`` bytes (of memory if ``at`` is -1) are no longer needed."""
        if at < 0:
            self.memory -= size
            return
        self.disk -= size
        if not self.disk and self._file is not None:
            # What a storm of outputs took is given back. That it cannot be matters to nobody: the ring bounds it.
            with contextlib.suppress(OSError):
                self._file.truncate(0)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> FileIO:
        if self._file is None:
            self._file = cast(Any, tempfile.TemporaryFile(buffering=0, dir=self._folder))  # noqa: SIM115 (close() does)
        return cast("FileIO", self._file)

    def _stretches(self, at: int, size: int) -> list[tuple[int, int]]:
        """Where in the file, and how much: two stretches where the ring ends in between."""
        start = at % self.limit_disk
        first = min(size, self.limit_disk - start)
        return [(start, first), (0, size - first)] if size > first else [(start, first)]

    def _write(self, file: FileIO, at: int, data: memoryview) -> int:
        for start, length in self._stretches(at, len(data)):
            file.seek(start)
            rest, data = data[:length], data[length:]
            while rest:
                rest = rest[file.write(rest) :]
            at += length
        return at
