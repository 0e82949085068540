"""A folder of large chunks that the sessions of one machine share, where its operator wants that (docs/trust.md).

A file is named by the BLAKE3 of its bytes. Nobody is believed: whoever writes has computed the name, and whoever reads computes it
again, of bytes that are in memory of their own by then. A file appears whole or not at all, and one that is being read may be
deleted. What fails is told in the log, and means that the bytes travel as they would without the folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import MutableMapping
from typing import Any

from jupyter_gpu.sync.chunks import ChunkStore, digest
from jupyter_gpu.sync.pieces import flat
from jupyter_gpu.wire.codec import BytesLike
from jupyter_gpu.wire.lanes import pages
from jupyter_gpu.wire.messages import Offer

#: By these a gateway tells its workers. They are taken out of the environment before anything of a client's is in it.
FOLDER, SIZE = "JUPYTER_GPU_SHARED_CACHE", "JUPYTER_GPU_SHARED_CACHE_SIZE"
_NAME = re.compile(r"[0-9a-f]{64}")
_PARTIAL = re.compile(r"\.[0-9a-f]{16}\.partial")
#: Seconds after its last write in which a file that is not complete belongs to somebody who is writing it.
_WRITING = 600.0
#: Seconds for which what the folder was found to hold is taken to be so, as long as there is room.
_FRESH = 1.0
#: Bytes that are written, or read, in one go.
_BLOCK = 8 << 20


class Shared:
    """``budget`` in bytes. Raises ``OSError`` with words that say what is wrong with the folder."""

    def __init__(self, folder: str, budget: int, log: logging.Logger) -> None:
        self._path = folder
        self._budget = budget
        self._log = log
        self._expected: dict[bytes, int] = {}  #: BLAKE3 -> bytes, of what was not here, and will be sent
        self._room = 0  #: bytes that could be written when somebody last looked
        self._looked = float("-inf")
        self._said: set[str] = set()
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _check(os.fstat(self._folder))
        except OSError:
            os.close(self._folder)
            raise

    def lacking(self, offer: Offer, store: ChunkStore) -> list[int]:
        """Positions of the chunks on offer that are not here. The others are in ``store`` from here on, by the name that it has for
        them, so that nothing which happens to the folder can take them away again."""
        found = []
        self._expected = {}
        for i, (name, size) in enumerate(zip(offer.digests, offer.sizes)):
            data = self._read(name, size)
            if data is None:
                found.append(i)
                self._expected[name] = size
            else:
                store.put(digest(data), data)
        return [*found, *range(len(offer.sizes), len(offer.digests))]

    def arrived(self, data: BytesLike) -> None:
        """A chunk was sent: if it is one of those that were lacking, the next session need not send it."""
        view = flat(data)
        if view.nbytes not in self._expected.values():
            return
        name = _blake3(view)
        if self._expected.pop(name, -1) != view.nbytes:
            return
        try:
            if view.nbytes <= self._budget and not self._has(name):
                self._make_room(view.nbytes)
                self._write(name, view)
        except OSError as error:
            self._say(f"nothing is added to the shared cache {self._path}: {error.strerror}")

    def close(self) -> None:
        os.close(self._folder)

    # ------------------------------------------------------------ files

    def _read(self, name: bytes, size: int) -> memoryview | None:
        """Bytes that are what ``name`` says, in memory that nobody else has; None if they are not here."""
        try:
            # Not waiting: somebody may have put a pipe there.
            file = os.open(name.hex(), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._folder)
        except OSError:
            return None
        try:
            data = _content(file, size)
            if data is None or _blake3(data) != name:
                self._log.warning("a file in the shared cache is not what its name says, and is deleted: %s", name.hex())
                self._delete(name.hex())
                return None
            with contextlib.suppress(OSError):
                os.utime(file)  # what was used last goes last
            return data
        except (OSError, OverflowError, MemoryError) as error:
            self._say(f"a file of {size:,} bytes in the shared cache cannot be read: {error}")
            return None
        finally:
            os.close(file)

    def _has(self, name: bytes) -> bool:
        try:
            return stat.S_ISREG(os.stat(name.hex(), dir_fd=self._folder, follow_symlinks=False).st_mode)
        except OSError:
            return False

    def _write(self, name: bytes, data: memoryview) -> None:
        partial = f".{secrets.token_hex(8)}.partial"
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400, dir_fd=self._folder)
        try:
            try:
                while data.nbytes:
                    data = data[os.write(file, data[:_BLOCK]) :]
            finally:
                os.close(file)
            os.replace(partial, name.hex(), src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except BaseException:
            self._delete(partial)
            raise

    def _make_room(self, size: int) -> None:
        """Delete what was used longest ago. Others do the same at the same time: what is gone already is no error."""
        if time.monotonic() < self._looked + _FRESH and size <= self._room:
            self._room -= size
            return
        kept: list[tuple[float, int, str]] = []
        total, now = 0, time.time()
        with os.scandir(self._folder) as entries:
            for entry in entries:
                partial = _PARTIAL.fullmatch(entry.name)
                if not partial and not _NAME.fullmatch(entry.name):
                    continue  # not ours
                try:
                    info = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if not partial:
                    kept.append((info.st_mtime, info.st_size, entry.name))
                elif now - info.st_mtime > _WRITING:
                    self._delete(entry.name)
                    continue
                total += info.st_size
        for _, length, name in sorted(kept):
            if total + size <= self._budget:
                break
            self._delete(name)
            total -= length
        self._looked = time.monotonic()
        self._room = self._budget - total - size

    def _delete(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self._folder)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._log.warning("%s", text)


def from_environment(environment: MutableMapping[str, str], log: logging.Logger) -> Shared | None:
    """What the gateway told, which is in ``environment`` no longer afterwards. None: nothing is shared."""
    folder, size = environment.pop(FOLDER, ""), environment.pop(SIZE, "")
    if not folder:
        return None
    try:
        return Shared(folder, int(size), log)
    except (OSError, ValueError) as error:
        log.warning("nothing is shared with other sessions: the cache %s: %s", folder, getattr(error, "strerror", None) or error)
        return None


def _check(info: os.stat_result) -> None:
    if info.st_uid != os.geteuid():
        raise PermissionError(0, "it belongs to another user")
    if info.st_mode & 0o077:
        raise PermissionError(0, f"other users may open it (mode {stat.S_IMODE(info.st_mode):04o}); `chmod 700` makes it usable")


def _content(file: int, size: int) -> memoryview | None:
    """The ``size`` bytes of a file; None if it is another kind of file, or has another size."""
    info = os.fstat(file)
    if not stat.S_ISREG(info.st_mode) or info.st_size != size or size <= 0:
        return None
    data = pages(size)
    done = 0
    while done < size:
        count = os.readv(file, [data[done : done + _BLOCK]])
        if not count:
            return None
        done += count
    return data


def _blake3(data: BytesLike) -> bytes:
    import blake3

    # One thread: the threads of a pool would be missing in the children that a cell forks.
    name: Any = blake3.blake3(data).digest()
    return bytes(name)
