"""A folder in which the kernels of one session that follow each other on this machine leave chunks, so that what the next one has to take
over is there already. It is this shim's: nobody else can look into it, and it goes when the shim does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Container, Iterator
from pathlib import Path

#: Beginning of the folders' names.
_PREFIX = "jupyter-gpu-session-"
#: The file with the word by which a worker knows that a folder of this name is this folder; its lock says that its shim lives.
WORD = "word"


def _places() -> Iterator[Path]:
    """Where folders may be, the best first: memory that is a file system, and what is on a disk."""
    if os.access("/dev/shm", os.W_OK):
        yield Path("/dev/shm")
    from jupyter_core.paths import jupyter_runtime_dir

    path = Path(jupyter_runtime_dir()) / "jupyter_gpu"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    yield path


class Transit:
    """Raises ``OSError`` where none can be made."""

    def __init__(self) -> None:
        sweep()
        self.path = self._make()
        self.nonce = secrets.token_hex(16)
        self._lock = os.open(self.path / WORD, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.write(self._lock, self.nonce.encode())

    @staticmethod
    def _make() -> Path:
        failure: OSError | None = None
        for place in _places():
            try:
                return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
            except OSError as error:
                failure = error
        raise failure or FileNotFoundError("no place for it")

    def keep_only(self, names: Container[str]) -> None:
        """Remove the chunks that the kernel which was moved does not have (any more)."""
        for path in self.path.iterdir():
            if path.name != WORD and path.name not in names:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def sweep() -> None:
    """Remove folders whose shims were killed."""
    for place in _places():
        for path in place.glob(_PREFIX + "*"):
            with contextlib.suppress(OSError):
                if path.stat().st_uid == os.geteuid() and _is_abandoned(path):
                    shutil.rmtree(path, ignore_errors=True)


def _is_abandoned(path: Path) -> bool:
    try:
        lock = os.open(path / WORD, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False  # it is being made, or being removed
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(lock).st_size > 0  # an empty one is about to be locked
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
