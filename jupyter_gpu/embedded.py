"""The gateway of one's own: found, or started, with nothing to set up."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .config import JupyterGPU
from .wire.errors import DiskFull, GatewayStartFailed, ProtocolMismatch, TokenFileExposed
from .wire.messages import PROTOCOL

#: Seconds for a gateway to listen.
_START = 30.0
_POLL = 0.003
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Found:
    url: str
    token: str
    pid: int


def info_path(config: JupyterGPU) -> Path:
    """Where the gateway of this configuration writes how to reach it. One that simulates GPUs is another gateway."""
    from jupyter_core.paths import jupyter_runtime_dir

    suffix = "-" + hashlib.sha256(config.simulate.encode()).hexdigest()[:8] if config.simulate else ""
    return Path(jupyter_runtime_dir()) / "jupyter_gpu" / f"gateway{suffix}.json"


def find(config: JupyterGPU) -> Found | None:
    """The gateway that runs, if one does. Raises ``TokenFileExposed``, ``ProtocolMismatch``."""
    path = info_path(config)
    try:
        _check_private(path)
        info = json.loads(path.read_text())
        found, protocol, software = Found(str(info["url"]), str(info["token"]), int(info["pid"])), info["protocol"], info["software"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # none runs, or the file is no gateway's work: a new one writes it anew
    if not _answers(found.url):
        return None
    if protocol != PROTOCOL:
        raise ProtocolMismatch(
            here=str(PROTOCOL),
            there=f"{protocol} (your own gateway, of release {software}; `jupyter-gpu stop --gateway` ends it)",
        )
    return found


def find_or_start(config: JupyterGPU) -> Found:
    """The gateway that runs, or a new one. Two notebooks that start at once share one."""
    found = find(config)
    if found is not None:
        return found
    path = info_path(config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _check_private(path.parent)
        with _starting(path):
            return find(config) or _start(config, path)
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(path=str(path.parent), needed=0, reason=error.strerror or "") from error
        raise GatewayStartFailed(reason=f"{error.filename or path.parent} cannot be used ({error.strerror})") from error


@contextlib.contextmanager
def _starting(path: Path) -> Iterator[None]:
    descriptor = os.open(path.with_suffix(".start"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _start(config: JupyterGPU, path: Path) -> Found:
    path.unlink(missing_ok=True)
    log = path.with_suffix(".log")
    command = [sys.executable, "-m", "jupyter_gpu_gateway", "--own", str(path), "--exit-when-idle", f"{config.exit_when_idle:g}"]
    command += ["--simulate", config.simulate]
    if config.preload is not None:
        command += ["--preload", ",".join(config.preload)]
    env = {k: v for k, v in os.environ.items() if k not in {"JPY_PARENT_PID", "JUPYTER_GPU_TOKEN", "JPY_SESSION_NAME"}}
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=env, cwd=path.parent
            )
        except OSError as error:
            raise GatewayStartFailed(reason=f"{sys.executable} cannot be started: {error.strerror}", log=str(log)) from error
    deadline = time.monotonic() + _START
    try:
        while time.monotonic() < deadline:
            found = find(config) if path.exists() else None
            if found is not None:
                _reap(process)
                return found
            if process.poll() is not None:
                if _is_full(path.parent):  # then its log is as empty as it could be
                    raise DiskFull(path=str(path.parent), needed=0, reason=os.strerror(errno.ENOSPC))
                raise GatewayStartFailed(reason=_tail(log) or f"it ended with exit code {process.returncode}", log=str(log))
            time.sleep(_POLL)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    process.terminate()
    process.wait()
    raise GatewayStartFailed(reason=f"it did not listen within {_START:g} seconds", log=str(log))


def _reap(process: subprocess.Popen[bytes]) -> None:
    """The gateway outlives us or we it: wait for it in the background, so that it is no zombie of ours."""
    import threading

    threading.Thread(target=process.wait, name="own gateway", daemon=True).start()


def _is_full(folder: Path) -> bool:
    found = os.statvfs(folder)
    return found.f_bavail == 0 or (found.f_files > 0 and found.f_favail == 0)  # file systems without inodes say 0 of 0


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def _check_private(path: Path) -> None:
    """Raises ``TokenFileExposed`` if others can read the file or its folder, or if it is somebody else's."""
    for each in (path.parent, path) if path.suffix else (path,):
        found = each.stat()
        mode = stat.S_IMODE(found.st_mode)
        if mode & 0o077 or found.st_uid != os.getuid():
            raise TokenFileExposed(path=str(each), mode=f"{mode:04o}")


def _answers(url: str) -> bool:
    """Whether somebody listens: a connect, nothing more."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.rpartition(":")
    if scheme != "unix" and not port.isdigit():
        return False
    family = socket.AF_UNIX if scheme == "unix" else socket.AF_INET
    target: str | tuple[str, int] = rest if scheme == "unix" else (host, int(port))
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(target)
        except OSError:
            return False
    return True
