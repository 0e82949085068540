"""A folder of one session's own, where kernels that follow each other on one machine find chunks.

The shim makes it, and removes it when the kernel is shut down. A file is named by the digest of its bytes, appears whole or not at all,
and is never written to again: whoever takes a chunk maps it privately, so that its memory is the file's until something is written to it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import stat
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from jupyter_gpu.sync.pieces import digest, flat

from . import mapped

#: Name of the file with the word that both ends know.
WORD = "word"
#: Bytes that are written in one go.
_BLOCK = 8 << 20
#: Part of the free space that one move may take.
_SHARE = 0.5
#: Threads that write: copying into the page cache is work for the processor.
_WRITERS = 2


class Transit:
    """Raises ``OSError`` where the folder is not here, belongs to somebody else, or is another one of the same name."""

    def __init__(self, folder: str, nonce: str) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            info = os.fstat(self._folder)
            if info.st_uid != os.geteuid() or info.st_mode & 0o077:
                raise PermissionError(0, "others may look into it")
            word = os.open(WORD, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._folder)
            try:
                if not secrets.compare_digest(os.read(word, 256), nonce.encode()):
                    raise FileNotFoundError(0, "another folder of this name")
            finally:
                os.close(word)
        except OSError:
            os.close(self._folder)
            raise

    def has(self, name: bytes, size: int) -> bool:
        try:
            info = os.stat(name.hex(), dir_fd=self._folder, follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISREG(info.st_mode) and info.st_size == size

    def room(self) -> int:
        """Bytes that a move may write. Where the folder is in memory, there is no more than memory is free."""
        info = os.fstatvfs(self._folder)
        free = info.f_bavail * info.f_frsize
        with contextlib.suppress(OSError, ValueError, StopIteration), open("/proc/meminfo") as file:
            line = next(line for line in file if line.startswith("MemAvailable"))
            free = min(free, int(line.split()[1]) << 10)
        return int(free * _SHARE)

    def sizes(self) -> set[int]:
        """Of the chunks that are here: one of another size is not among them."""
        with os.scandir(self._folder) as entries:
            return {entry.stat(follow_symlinks=False).st_size for entry in entries if entry.name != WORD}

    def write(self, chunks: Iterable[memoryview]) -> list[bytes | None]:
        """Write chunks, and give the names under which they are here now: those of the bytes that were written, whatever other threads do
        meanwhile. None: it could not be written."""
        with ThreadPoolExecutor(_WRITERS) as pool:
            return list(pool.map(self._write, chunks))

    def _write(self, data: memoryview) -> bytes | None:
        partial = f".{secrets.token_hex(8)}"
        try:
            file = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._folder)
        except OSError:
            return None
        try:
            rest = flat(data)
            while rest.nbytes:
                rest = rest[os.write(file, rest[:_BLOCK]) :]
            with mmap.mmap(file, data.nbytes, prot=mmap.PROT_READ) as written, memoryview(written) as view:
                name = digest(view)
            os.replace(partial, name.hex(), src_dir_fd=self._folder, dst_dir_fd=self._folder)
            return name
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(partial, dir_fd=self._folder)
            return None
        finally:
            os.close(file)

    def map(self, name: bytes, size: int) -> memoryview:
        """Writable memory with the bytes of a chunk, which nobody else sees changed. Raises ``OSError``."""
        file = os.open(name.hex(), os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._folder)
        try:
            if os.fstat(file).st_size != size:
                raise FileNotFoundError(0, "a chunk of another size")
            memory = mmap.mmap(file, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            if "numpy" in sys.modules:
                mapped.remember(memory, name)
            return memoryview(memory)
        finally:
            os.close(file)

    def close(self) -> None:
        os.close(self._folder)


def opened(folder: str, nonce: str) -> Transit | None:
    """None: it is of no use here."""
    if not folder:
        return None
    try:
        return Transit(folder, nonce)
    except OSError:
        return None
