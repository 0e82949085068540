"""What the gateway must remember over a restart: sessions, workers, checkpoints. SQLite, written through."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from jupyter_gpu.wire.errors import DiskFull, InternalError
from jupyter_gpu.wire.messages import Gpu, Wanted

from .backends.base import Checkpoint
from .fleet.state import Session

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (session_id TEXT PRIMARY KEY, key TEXT NOT NULL, worker_id TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS workers (worker_id TEXT PRIMARY KEY, secret BLOB NOT NULL, interpreter TEXT NOT NULL, checkpoint TEXT NOT NULL);
"""


class _Kept(msgspec.Struct):
    """The part of a session that outlives the gateway."""

    wanted: list[Wanted]
    created: float
    interpreter: str
    idle: float
    gpus: list[Gpu]
    pid: int
    alone: float = -1.0


@dataclass
class KeptWorker:
    worker_id: str
    secret: bytes  #: digest
    interpreter: str
    checkpoint: Checkpoint | None


class Store:
    """``path`` None: in memory. Raises ``DiskFull`` or ``InternalError`` when SQLite cannot write."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        with self._guard():
            self._db = sqlite3.connect(":memory:" if path is None else path, isolation_level=None)
            if path is not None:
                path.chmod(0o600)
            self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _SCHEMA)

    @contextlib.contextmanager
    def _guard(self) -> Any:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if self.path is not None and ("full" in str(error) or _is_full(self.path.parent)):  # its index says "disk I/O error" then
                raise DiskFull(path=str(self.path), needed=0, reason="the disk is full") from error
            raise InternalError(id="store", text=f"the gateway's store {self.path}: {error}") from error

    def save_session(self, session: Session) -> None:
        kept = _Kept(session.wanted, session.created, session.interpreter, session.idle, session.gpus, session.pid, session.alone)
        with self._guard():
            self._db.execute(
                "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)",
                (session.session_id, session.key, session.worker_id, msgspec.msgpack.encode(kept)),
            )

    def drop_session(self, session_id: str) -> None:
        with self._guard():
            self._db.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))

    def save_worker(self, worker_id: str, secret: bytes, interpreter: str, checkpoint: Checkpoint | None) -> None:
        """``secret``: its digest. Before the worker is started ``checkpoint`` is None."""
        with self._guard():
            self._db.execute("INSERT OR REPLACE INTO workers VALUES (?, ?, ?, ?)", (worker_id, secret, interpreter, json.dumps(checkpoint)))

    def drop_worker(self, worker_id: str) -> None:
        with self._guard():
            self._db.execute("DELETE FROM workers WHERE worker_id = ?", (worker_id,))

    def workers(self) -> list[KeptWorker]:
        with self._guard():
            rows = self._db.execute("SELECT worker_id, secret, interpreter, checkpoint FROM workers").fetchall()
        return [KeptWorker(w, s, i, json.loads(c)) for w, s, i, c in rows]

    def sessions(self) -> list[Session]:
        with self._guard():
            rows = self._db.execute("SELECT session_id, key, worker_id, data FROM sessions").fetchall()
        found = []
        for session_id, key, worker_id, data in rows:
            kept = msgspec.msgpack.decode(data, type=_Kept)
            found.append(
                Session(
                    session_id,
                    key,
                    kept.wanted,
                    kept.created,
                    kept.interpreter,
                    kept.idle,
                    kept.alone,
                    gpus=kept.gpus,
                    worker_id=worker_id,
                    pid=kept.pid,
                )
            )
        return found

    def close(self) -> None:
        self._db.close()


def _is_full(folder: Path) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail == 0 or (found.f_files > 0 and found.f_favail == 0)  # file systems without inodes say 0 of 0
