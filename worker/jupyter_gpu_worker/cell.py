"""What the kernel does with the client's messages: take variables, run the cell, give back what changed."""

from __future__ import annotations

import builtins
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jupyter_gpu.sync.chunks import INLINE, ChunkStore, digest, pack, unpack
from jupyter_gpu.sync.exceptions import dump_exception
from jupyter_gpu.sync.handles import describe
from jupyter_gpu.sync.modules import install_sources
from jupyter_gpu.sync.replica import Export, Mark, Replica
from jupyter_gpu.wire.codec import encode
from jupyter_gpu.wire.errors import InternalError, JupyterGpuError
from jupyter_gpu.wire.messages import (
    AnyMessage,
    Applied,
    Assign,
    BufferRef,
    CannotTravel,
    CellDone,
    Chunk,
    Fetch,
    Fetched,
    HandleInfo,
    RemoteError,
    RunCell,
    Snapshot,
)

from .kernel import WorkerKernel, dispatch
from .pipe import BUSY, IDLE

#: Bytes of a displayed value up to which it comes along for ``_`` and ``Out``.
RESULT_LIMIT = 8 << 20


class FetchingBuiltins(dict[str, Any]):
    """``__builtins__`` of the user's globals: a name that is not there either is asked from the client.

    The globals themselves stay an exact dict: subclassing them would send every lookup of a builtin through Python."""

    fetch: Any = None

    def __missing__(self, name: str) -> Any:
        if self.fetch is None or threading.current_thread() is not threading.main_thread():
            raise KeyError(name)
        return self.fetch(name)


class CellRunner:
    """The messages of one client, one after the other. ``await runner(message, buffers)``."""

    def __init__(self, kernel: WorkerKernel) -> None:
        self.kernel = kernel
        self.shell = kernel.shell
        self.kept: dict[str, Any] = {}  #: what handles of the client stand for
        self.namespace: dict[str, Any] = self.shell.user_ns
        self.replica = Replica(self.namespace, "kernel", self.remote_value)
        self.store = ChunkStore()
        self.builtins = FetchingBuiltins(vars(builtins))
        self.builtins.fetch = self.fetch
        self.stubs: frozenset[str] = frozenset()
        self.pending: dict[int, Export] = {}
        self.fetches = 0
        kernel.shell_stream.on_reply = self._reply
        self.reply: dict[str, Any] | None = None

    async def __call__(self, message: AnyMessage, buffers: list[memoryview]) -> None:
        if isinstance(message, RunCell):
            self.kernel.pipe.send([], BUSY)
            try:
                await self.run(message, buffers)
            finally:
                self.kernel.pipe.send([], IDLE)
        elif isinstance(message, Fetch):
            self.give(message)
        else:
            self.note(message, buffers)

    def note(self, message: AnyMessage, buffers: Sequence[memoryview]) -> None:
        """Messages that need no answer."""
        if isinstance(message, Chunk):
            try:
                self.store.put(message.digest, buffers[0])
            except JupyterGpuError as error:  # the snapshot that needs it will be refused for lack of it
                self.kernel.log.error("%s", error)
        elif isinstance(message, Applied) and (export := self.pending.pop(message.serial, None)) is not None:
            if message.ok:
                self.replica.confirm(export)
            else:
                self.replica.abandon(export)
                self.replica.objects.clear()

    def assign(self, message: AnyMessage) -> None:
        """The worker belongs to a session: its hardware and its folder, before any code runs."""
        if not isinstance(message, Assign):
            return
        for key, value in message.env.items():
            os.environ[key] = value
        if message.cwd:
            try:
                os.chdir(message.cwd)
            except OSError as error:
                self.kernel.log.warning("cannot change to %s: %s", message.cwd, error)

    def remote_value(self, name: str) -> Any:
        """What a handle of the client stands for."""
        return self.kept[name] if name in self.kept else self.namespace[name]

    # ------------------------------------------------------------ a cell

    async def run(self, message: RunCell, buffers: list[memoryview]) -> None:
        began = time.perf_counter()
        warnings: list[str] = []
        try:
            if message.sources:
                install_sources({path: bytes(buffers[i]) for path, i in message.sources.items()}, self._source_folder())
            if message.snapshot is not None:
                warnings = self.replica.check(message.snapshot)
                self.replica.apply(message.snapshot, *unpack(message.snapshot, buffers, self.store))
        except JupyterGpuError as error:
            self.kernel.tell(
                CellDone(run_id=message.run_id, status="refused", execution_count=message.execution_count, refused=error.to_record())
            )
            return
        applied = time.perf_counter()
        # What the cell binds without having read it was not compared: the client may have another value than we think.
        self.replica.forget(set(message.names.stores) - set(message.names.loads))
        self.stubs = frozenset(message.stubs)
        self.builtins.update(vars(builtins))
        self.builtins["input"] = self.kernel.raw_input  # ipykernel puts it into builtins later than this
        self.namespace["__builtins__"] = self.builtins
        mark = self.replica.mark()
        await self._execute(message)
        self._finish(message, mark, began, applied, warnings)

    def _source_folder(self) -> Path:
        if not hasattr(self, "_sources"):
            import tempfile

            self._sources = tempfile.TemporaryDirectory(prefix="jupyter-gpu-src-")
        return Path(self._sources.name)

    async def _execute(self, message: RunCell) -> None:
        kernel, shell = self.kernel, self.shell
        self.reply = None
        kernel.seconds = 0.0
        shell.execution_count = message.execution_count
        if kernel.interrupted:  # it came while the variables were on their way
            kernel.interrupted = False
            self.reply = {"status": "error", "ename": "KeyboardInterrupt", "evalue": "", "traceback": []}
            return
        header = {
            "msg_id": message.run_id,
            "msg_type": "execute_request",
            "session": kernel.session.session,
            "username": "remote",
            "version": "5.4",
            "date": datetime.now(timezone.utc).isoformat(),
        }
        content = {
            "code": message.code,
            "silent": message.silent,
            "store_history": message.store_history,
            "allow_stdin": message.allow_stdin,
            "user_expressions": {},
            "stop_on_error": False,
        }
        parts = [json.dumps(header).encode(), b"{}", message.metadata, json.dumps(content).encode()]
        await dispatch(kernel, [memoryview(p) for p in parts])

    def _reply(self, body: Sequence[Any]) -> bool:
        """Keeps the execute_reply of a ``RunCell``; others go out."""
        if b'"execute_reply"' not in bytes(body[0]):
            return False
        self.reply = json.loads(bytes(body[3]))
        return True

    # ------------------------------------------------------------ what comes back

    def _finish(self, message: RunCell, mark: Mark, began: float, applied: float, warnings: list[str]) -> None:
        ended = time.perf_counter()
        reply = self.reply or {"status": "error", "ename": "KeyboardInterrupt", "evalue": "", "traceback": []}
        outgoing = Outgoing(self, message, mark)
        try:
            outgoing.collect()
        except Exception as error:  # the variables stay here then; the person must hear of it
            self.kernel.log.exception("collecting what changed")
            outgoing = Outgoing(self, message, mark)
            warnings.append(f"what changed could not be sent back: {InternalError(id=message.run_id[:8], text=repr(error))}")
        failure = self._error(reply, outgoing.buffers) if reply["status"] == "error" else None
        done = CellDone(
            run_id=message.run_id,
            status="error" if failure else "ok",
            execution_count=message.execution_count,
            seconds=self.kernel.seconds,
            apply_seconds=applied - began,
            collect_seconds=time.perf_counter() - ended,
            error=failure,
            snapshot=outgoing.snapshot,
            handles=outgoing.handles,
            stuck=outgoing.stuck,
            warnings=warnings + outgoing.warnings,
            payload=json.dumps(reply.get("payload", [])).encode(),
            has_result=outgoing.has_result,
            diverged=outgoing.diverged,
        )
        self.kernel.interrupted = False
        self.kernel.pipe.send(encode(done, outgoing.buffers))

    def _error(self, reply: dict[str, Any], buffers: list[Any]) -> RemoteError:
        exception = getattr(sys, "last_value", None) if reply["ename"] != "KeyboardInterrupt" else KeyboardInterrupt(reply["evalue"])
        ref = None
        if exception is not None and type(exception).__name__ == reply["ename"]:
            data = dump_exception(exception, self.namespace)
            if data is not None and len(data) <= INLINE:
                ref = BufferRef(digest(data), len(data), len(buffers))
                buffers.append(data)
        return RemoteError(ename=reply["ename"], evalue=reply["evalue"], traceback=reply["traceback"], pickled=ref)

    # ------------------------------------------------------------ fetching, both ways

    def fetch(self, name: str) -> Any:
        """The backstop: a name that the analysis missed. Blocks until the client has answered. Raises ``KeyError``."""
        if name not in self.stubs:
            raise KeyError(name)
        self.stubs -= {name}  # asked once
        self.fetches += 1
        wanted = self.fetches

        def answer(message: AnyMessage, buffers: list[memoryview]) -> Any:
            if isinstance(message, Fetched) and message.id == wanted:
                return message, buffers
            if isinstance(message, Chunk):
                self.note(message, buffers)
            return None

        self.kernel.tell(Fetch(id=wanted, names=[name]))
        message, buffers = self.kernel.wait_for(answer)
        if message.snapshot is None:
            if message.stuck:
                raise NameError(f"name {name!r} could not be fetched from the notebook: {message.stuck[0].reason}", name=name)
            raise KeyError(name)
        self.replica.apply(message.snapshot, *unpack(message.snapshot, buffers, self.store))
        return self.namespace[name]

    def give(self, message: Fetch) -> None:
        """The client wants values: of handles, or of names that it could not take over."""
        values = {n: self.remote_value(n) for n in message.names if n in self.kept or n in self.namespace}
        shadowed = {n: self.namespace[n] for n in values if n in self.namespace}
        self.namespace.update(values)
        try:
            export = self.replica.export(values, only_changed=False)
        finally:
            self.namespace.update(shadowed)
        parcel = pack(export)
        for name, data in parcel.chunks.items():
            self.kernel.tell(Chunk(digest=name), [data])
        self.pending[export.snapshot.serial] = export
        self.kernel.tell(Fetched(id=message.id, snapshot=parcel.snapshot if export.sent else None, stuck=export.stuck), parcel.inline)


class Outgoing:
    """What goes back after a cell: the changes, and handles for what stays."""

    def __init__(self, runner: CellRunner, message: RunCell, mark: Mark) -> None:
        self.runner = runner
        self.message = message
        self.mark = mark
        self.snapshot: Snapshot | None = None
        self.buffers: list[Any] = []
        self.handles: list[HandleInfo] = []
        self.stuck: list[CannotTravel] = []
        self.warnings: list[str] = []
        self.diverged: list[str] = []
        self.has_result = False

    def collect(self) -> None:
        replica, message = self.runner.replica, self.message
        touched = replica.touched(self.mark, message.names)
        deleted = replica.deleted(self.mark)
        names = self._chosen(touched)
        if self._result_changed():
            names.append("_")
        elif not names and not deleted:
            return
        export = replica.export(names, deleted=[n for n in deleted if message.out is None or n in message.out])
        self._keep_stuck(export)
        self.has_result = "_" in export.sent or ("_" in names and "_" in export.unchanged)
        self.warnings += export.warnings
        if not export.sent and not export.snapshot.deleted:
            return
        parcel = pack(export, first=len(self.buffers))
        for name, data in parcel.chunks.items():
            self.runner.kernel.tell(Chunk(digest=name), [data])
        self.snapshot = parcel.snapshot
        self.buffers += parcel.inline
        self.runner.pending[export.snapshot.serial] = export

    def _chosen(self, touched: list[str]) -> list[str]:
        """Names that go back as values; the others become handles, or stay without a word where ``out=`` leaves them out."""
        runner, out = self.runner, self.message.out
        names = []
        for name in touched:
            value = runner.namespace[name]
            if name in self.message.keep or (runner.kept.get(name) is value and name not in (out or ())):
                self._keep(name, "keep=")
            elif out is not None and name not in out:
                self.diverged.append(name)
            else:
                runner.kept.pop(name, None)
                names.append(name)
        return names

    def _keep(self, name: str, why: str) -> None:
        value = self.runner.namespace[name]
        if name in self.runner.kept and self.runner.kept[name] is value and why == "keep=" and name not in self.message.keep:
            pass  # the client has a handle; what it shows may have changed
        self.runner.kept[name] = value
        self.handles.append(describe(value, name, why))

    def _keep_stuck(self, export: Export) -> None:
        self.stuck = [s for s in export.stuck if s.name != "_"]
        for each in self.stuck:
            self._keep(each.name, each.reason)

    def _result_changed(self) -> bool:
        """Whether the cell displayed a value that ``_`` should have at the client too."""
        results = self.runner.namespace.get("_oh", {})
        if self.message.execution_count not in results:
            return False
        value = results[self.message.execution_count]
        self.runner.namespace["_"] = value
        probe = self.runner.replica._probe("_")
        return probe.stuck is None and probe.size <= RESULT_LIMIT
