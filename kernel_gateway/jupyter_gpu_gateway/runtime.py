"""The file by which a person's notebooks find the gateway of their own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupyter_gpu.wire.errors import GatewayStartFailed


@contextlib.contextmanager
def sole_owner(info_file: Path) -> Iterator[None]:
    """One gateway per file, for as long as its process lives. Raises ``GatewayStartFailed`` if there is one."""
    folder = info_file.parent
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    lock = os.open(info_file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GatewayStartFailed(reason=f"a gateway runs already for {info_file}", log="") from None
        yield
    finally:
        os.close(lock)


def write_info(info_file: Path, info: dict[str, Any]) -> None:
    """Readable by its owner alone, and never half written."""
    partial = info_file.with_suffix(".new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(info, file)
    partial.replace(info_file)


def kept_token(info_file: Path, new: str) -> str:
    """The token of this file's gateways: the same after a restart, so that notebooks that are connected find back."""
    path = info_file.with_suffix(".token")
    with contextlib.suppress(OSError):
        if path.stat().st_mode & 0o077 == 0 and (token := path.read_text().strip()):
            return token
    path.unlink(missing_ok=True)  # somebody may have the old one open
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(new)
    return new


def socket_path(info_file: Path) -> Path | None:
    """Where the own gateway listens; None: the path would be too long for a unix socket."""
    path = info_file.with_suffix(".sock")
    return path if len(os.fsencode(str(path))) < 100 else None
