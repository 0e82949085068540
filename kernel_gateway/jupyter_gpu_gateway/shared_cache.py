"""The folder in which the workers of a machine share large chunks, if the operator says so. The gateway never looks into it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from .environment import SHARED_CACHE, SHARED_CACHE_SIZE


def prepare(folder: Path | None, size: int) -> tuple[dict[str, str], str]:
    """Make the folder if it is not there. Returns what workers get into their environment, and why it cannot be used ("": it can)."""
    if folder is None:
        return {}, ""
    folder = folder.absolute()
    why = _why_not(folder)
    if why:
        return {}, f"Sessions share nothing, since the shared cache {folder} cannot be used: {why}."
    return {SHARED_CACHE: str(folder), SHARED_CACHE_SIZE: str(size)}, ""


def _why_not(folder: Path) -> str:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = folder.lstat()
        if not folder.is_dir() or folder.is_symlink():
            return "it is no folder"
        if info.st_uid != os.geteuid():
            return "it belongs to another user"
        if info.st_mode & 0o077:
            return f"other users may open it (mode {info.st_mode & 0o777:04o}); `chmod 700` makes it usable"
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return error.strerror or str(error)
    return ""
