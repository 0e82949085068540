"""What outlives a shim: which session is whose. One file for each kernel, locked for as long as its shim lives."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec


class Record(msgspec.Struct):
    """``session``: the key by which the gateway finds it; ``key`` and ``scheme``: of its kernel's signatures; ``notebook``: its path, empty
    where nobody said; ``wanted``: the hardware, as it was asked for; ``file``: name of the connection file; ``lost``: why the kernel is
    gone, to be said to the person at the next cell; ``fresh``: the kernel was started anew for whoever comes next; ``now``: the hardware
    that it was moved to, as it was asked for."""

    session: str
    key: str
    scheme: str
    notebook: str
    wanted: str
    file: str = ""
    lost: str = ""
    fresh: bool = False
    now: str = ""


def folder() -> Path:
    """Of all kernels' files; nobody else can look into it."""
    from jupyter_core.paths import jupyter_runtime_dir

    path = Path(jupyter_runtime_dir()) / "jupyter_gpu" / "kernels"
    for each in (path.parent, path):  # the mode of a call with parents=True is that of the last one alone
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


class Kept:
    """One file, held. Who holds it is the kernel's only client."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def read(self) -> Record | None:
        """None: there is nothing in it that makes sense."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(os.pread(self._descriptor, 1 << 20, 0), type=Record)
        return None

    def write(self, record: Record) -> None:
        data = msgspec.json.encode(record)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, data, 0)

    def close(self) -> None:
        """Leave it to whoever comes next."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Its session is over."""
        self.path.unlink(missing_ok=True)
        self.close()


def hold(path: Path, *, create: bool = True) -> Kept | None:
    """The file of this path; None: another process holds it, or there is none."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:  # it was not removed before it was locked
            return Kept(path, descriptor)
    except BlockingIOError:
        pass
    os.close(descriptor)
    return hold(path) if create and not path.exists() else None


def _others(folder: Path, name: str) -> Iterator[Kept]:
    for path in sorted(folder.glob("*.json")):
        if path.name != name and (kept := hold(path, create=False)) is not None:
            yield kept


def inherit(folder: Path, name: str, notebook: str, wanted: str) -> tuple[Kept, Record | None]:
    """The file of the kernel ``name``, held, and what an earlier shim left: of this very kernel, else of this notebook on this hardware,
    whose file then goes."""
    own = hold(folder / f"{name}.json")
    if own is None:  # two shims of one connection file: the second has a kernel of its own
        own = hold(folder / f"{name}-{os.getpid()}.json")
    assert own is not None
    record = own.read()
    if record is not None or not notebook:
        return own, record
    for kept in _others(folder, own.path.name):
        found = kept.read()
        if found is None or (found.notebook, found.wanted) != (notebook, wanted):
            kept.close()
            continue
        own.write(found)
        kept.remove()
        return own, found
    return own, None
