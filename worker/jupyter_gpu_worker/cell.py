"""What the kernel does with the client's messages: take variables, run the cell, give back what changed."""

from __future__ import annotations

import builtins
import json
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jupyter_gpu.sync.chunks import INLINE, ChunkStore, digest, pack, unpack
from jupyter_gpu.sync.exceptions import dump_exception
from jupyter_gpu.sync.kept import Kept
from jupyter_gpu.sync.lineage import Question
from jupyter_gpu.sync.modules import check_imports, missing
from jupyter_gpu.sync.reloading import install
from jupyter_gpu.sync.replica import Export, Mark, Replica
from jupyter_gpu.wire.codec import encode
from jupyter_gpu.wire.errors import DiskFull, InternalError, JupyterGpuError
from jupyter_gpu.wire.messages import (
    AnyMessage,
    Applied,
    Assign,
    BufferRef,
    CellDone,
    Chunk,
    Fetch,
    Fetched,
    Offer,
    RemoteError,
    RunCell,
    Want,
)
from jupyter_gpu.wire.messages import Kept as KeptBack

from .backstop import FetchingBuiltins, Shelf
from .kernel import WorkerKernel, dispatch, failed_reply, interrupted_reply
from .outgoing import Outgoing
from .pipe import BUSY, IDLE
from .state import State, restore, save


class CellRunner:
    """The messages of one client, one after the other. ``await runner(message, buffers)``."""

    def __init__(self, kernel: WorkerKernel) -> None:
        self.kernel = kernel
        self.shell = kernel.shell
        self.kept = Kept()  #: what handles of the client stand for
        self.namespace: dict[str, Any] = self.shell.user_ns
        self.replica = Replica(self.namespace, "kernel", self.remote_value, self.kept)
        self.store = ChunkStore(copies=self.replica.lineage.copies)
        self.builtins = FetchingBuiltins(self.fetch)
        self.stubs: frozenset[str] = frozenset()  #: names that the client has, and that may be fetched
        self.shelf = Shelf(self.namespace, [])
        self.pending: dict[int, tuple[Export, RunCell | None]] = {}  #: serial -> what the client has not answered to, of which cell
        self.fetches = 0
        self.asked = 0
        self.imports: dict[str, str] = {}  #: module that cells import, and that is here -> version at the client
        self.said: set[str] = set()  #: about modules, and what means nothing elsewhere; once in a session is enough
        kernel.shell_stream.on_reply = self._reply
        self.shell.told_by_reply = True  # by ``CellDone``
        self.reply: dict[str, Any] | None = None

    async def __call__(self, message: AnyMessage, buffers: list[memoryview]) -> None:
        if isinstance(message, RunCell):
            self.kernel.interrupted = False  # meant for a cell that is over: one for this cell comes after what is sent now
            self.kernel.pipe.send([message.run_id.encode()], BUSY)
            try:
                await self.run(message, buffers)
            except (OSError, EOFError):
                raise  # the agent is gone
            except Exception as error:  # a fault of ours in one cell must not cost the session
                self.kernel.log.exception("cell %s", message.run_id)
                record = InternalError(id=message.run_id[:8], text=f"{type(error).__name__}: {error}").to_record()
                self.kernel.tell(CellDone(run_id=message.run_id, status="refused", execution_count=message.execution_count, refused=record))
            finally:
                self.kernel.pipe.send([], IDLE)
        elif isinstance(message, Fetch):
            self.give(message)
        elif isinstance(message, Offer):
            self.kernel.tell(Want(id=message.id, positions=self._lacking(message)))
        else:
            self.note(message, buffers)

    def note(self, message: AnyMessage, buffers: Sequence[memoryview]) -> None:
        """Messages that need no answer."""
        try:
            if isinstance(message, Chunk):
                self.store.put(message.digest, buffers[0])
                if self.kernel.shared is not None:
                    self.kernel.shared.arrived(buffers[0])
            elif isinstance(message, Fetched) and message.snapshot is not None:
                # The cell was interrupted while it waited for this; the client counts it as sent.
                self.replica.apply(message.snapshot, *unpack(message.snapshot, buffers, self.store, self.replica.live))
            elif isinstance(message, Applied) and message.serial in self.pending:
                export, cell = self.pending.pop(message.serial)
                if message.again:
                    self._send_again(cell, export, message.reason)
                    return
                if message.missing or message.refused:
                    self.replica.abandon(export)  # what both ends have, they have
                    if cell is not None:
                        self._send_less(cell, export, message)
                else:
                    self._settle(export, message.ok)
                if cell is None:
                    self.replica.lineage.forget(export.sent)  # the client has it as a copy without a name
        except JupyterGpuError as error:  # a snapshot that needs it will be refused for lack of it
            self.kernel.log.error("%s", error)

    def _settle(self, export: Export, ok: bool) -> None:
        if ok:
            self.replica.confirm(export)
        else:
            self.replica.abandon(export)
            self.replica.objects.clear()

    def _send_again(self, cell: RunCell | None, export: Export, reason: str) -> None:
        """The client has no longer what this referred to: the same names, and nothing left out."""
        self.replica.abandon(export)
        self.replica.recover(reason)
        outgoing = None if cell is None else Outgoing(self, cell, self.replica.mark())
        if outgoing is not None:
            outgoing.again(export)
        snapshot, buffers = (None, []) if outgoing is None else (outgoing.snapshot, outgoing.buffers)
        self.kernel.tell(KeptBack(serial=export.snapshot.serial, snapshot=snapshot), buffers)

    def ask(self, question: Question) -> set[int]:
        """Which pieces the client lacks. Blocks until it has answered."""
        self.asked += 1
        wanted = self.asked
        self.kernel.tell(Offer(id=wanted, digests=question.pieces, base=question.base, step=question.step))
        return set(self.kernel.wait_for(lambda m, b: m.positions if isinstance(m, Want) and m.id == wanted else None))

    def _lacking(self, offer: Offer) -> list[int]:
        if offer.base:
            return self.replica.lacking(offer)
        shared = self.kernel.shared
        return list(range(len(offer.digests))) if shared is None else shared.lacking(offer, self.store)

    def _send_less(self, cell: RunCell, export: Export, answer: Applied) -> None:
        outgoing = Outgoing(self, cell, self.replica.mark())
        outgoing.without(export, set(answer.missing), answer.refused)
        self.kernel.tell(KeptBack(serial=export.snapshot.serial, snapshot=outgoing.snapshot, handles=outgoing.handles), outgoing.buffers)

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

    def remote_value(self, key: str) -> Any:
        """What a handle of the client stands for."""
        key = self.kept.names.get(key, key)
        if key in self.kept.values:
            return self.kept.values[key]
        if key not in self.namespace:
            raise pickle.UnpicklingError("it holds a handle of another session, or of a value that is gone")
        return self.namespace[key]

    def export_state(self) -> State:
        """All variables and all that handles stand for, as one snapshot."""
        return save(self.namespace, self.kept)

    def import_state(self, state: State) -> None:
        """Go on with another kernel's: the client's handles mean the same here."""
        restore(state, self.namespace, self.kept)

    # ------------------------------------------------------------ a cell

    async def run(self, message: RunCell, buffers: list[memoryview]) -> None:
        began = time.perf_counter()
        warnings: list[str] = []
        try:
            self.kept.release(message.terms.released)
            warnings = self._modules(message, buffers)
            if message.snapshot is not None:
                arrived = unpack(message.snapshot, buffers, self.store, self.replica.live)
                self.replica.apply(message.snapshot, *arrived, settle=bool(message.code))
        except JupyterGpuError as error:
            self.kernel.tell(
                CellDone(run_id=message.run_id, status="refused", execution_count=message.execution_count, refused=error.to_record())
            )
            return
        applied = time.perf_counter()
        if not message.code:  # a delivery: nothing runs, and so nothing changes
            done = CellDone(
                run_id=message.run_id,
                status="ok",
                execution_count=message.execution_count,
                apply_seconds=applied - began,
                warnings=warnings,
            )
            self.kernel.interrupted = False  # a press while it arrived is not the next cell's
            self.kernel.tell(done)
            self.replica.settle()
            return
        self.stubs = frozenset(message.stubs)
        self.builtins.update(vars(builtins))
        self.builtins["input"] = self.kernel.raw_input  # ipykernel puts it into builtins later than this
        self.namespace["__builtins__"] = self.builtins
        mark = self.replica.mark()
        self.shelf = Shelf(self.namespace, self._unread(message))
        try:
            await self._execute(message)
        finally:
            self.replica.forget(self.shelf.put_back())
        self._finish(message, mark, began, applied, warnings)

    def _modules(self, message: RunCell, buffers: Sequence[memoryview]) -> list[str]:
        """Take the sources that came, and look whether what the cell imports and its variables need is here. Raises ``ModuleMissing``;
        returns what is worth a word, and was not said before."""
        said = []
        if message.sources or message.terms.unsourced:
            sources = {path: bytes(buffers[i]) for path, i in message.sources.items()}
            for text in self._install(sources, message.terms.unsourced):
                self.said.discard(text)  # edited again, and wrong again
                said.append(text)
        if message.terms.imports:
            unchecked = {n: v for n, v in message.terms.imports.items() if self.imports.get(n) != v}
            said += check_imports(unchecked, [n for n in message.terms.needs if n in unchecked])
            self.imports.update({n: v for n, v in unchecked.items() if n not in missing([n])})
        if message.snapshot is not None:
            said += self.replica.check(message.snapshot)
        fresh = [text for text in said if text not in self.said]
        self.said.update(fresh)
        return fresh

    def _unread(self, message: RunCell) -> list[str]:
        """Names that the cell binds without reading them, and of which the client may have another value by now."""
        sent = message.snapshot.names if message.snapshot is not None else ()
        read = {*message.names.loads, *sent, *self.kept.names}
        return [n for n in message.names.stores if n not in read and self.replica.knows(n)]

    def _install(self, sources: dict[str, bytes], gone: list[str]) -> list[str]:
        """Raises ``DiskFull``: an ``OSError`` would be taken for the agent's end."""
        folder = self.kernel.folder or tempfile.gettempdir()
        try:
            return install(sources, gone, self._source_folder())
        except OSError as error:
            raise DiskFull(path=folder, needed=sum(map(len, sources.values())), reason=error.strerror or str(error)) from error

    def _source_folder(self) -> Path:
        if not self.kernel.folder:
            self._own_folder = tempfile.TemporaryDirectory(prefix="jupyter-gpu-")
            self.kernel.folder = self._own_folder.name
        folder = Path(self.kernel.folder) / "sources"
        folder.mkdir(exist_ok=True)
        return folder

    async def _execute(self, message: RunCell) -> None:
        kernel, shell = self.kernel, self.shell
        self.reply = None
        kernel.seconds = 0.0
        shell.execution_count = message.execution_count
        if kernel.interrupted:  # it came while the variables were on their way
            kernel.interrupted = False
            self.reply = interrupted_reply("it came before the cell began")
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
        reply = self.reply or failed_reply()
        outgoing = Outgoing(self, message, mark)
        try:
            outgoing.collect()
        except Exception as error:  # the variables stay here then; the person must hear of it
            self.kernel.log.exception("collecting what changed")
            outgoing = Outgoing(self, message, mark)
            warnings.append(f"what changed could not be sent back: {InternalError(id=message.run_id[:8], text=repr(error))}")
        if self.kernel.interrupted:
            warnings.append("the interrupt came when the code had ended and its variables were being collected; they are whole")
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
            return self.shelf.take(name)
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
        with self.kernel.pipe.critical:  # an interrupt must not leave half of it
            for each in message.snapshot.names:
                self.shelf.drop(each)
            self.replica.apply(message.snapshot, *unpack(message.snapshot, buffers, self.store, self.replica.live))
        return self.namespace[name]

    def give(self, message: Fetch) -> None:
        """The client wants values: of handles, or of names that it could not take over."""
        values = {n: self.remote_value(n) for n in message.names if n in self.kept.values or n in self.kept.names or n in self.namespace}
        shadowed = {n: self.namespace[n] for n in values if n in self.namespace}
        self.namespace.update(values)
        try:
            with self.kept.aside():
                export = self.replica.export_copies(list(values))
        finally:
            for each in values.keys() - shadowed.keys():
                del self.namespace[each]
            self.namespace.update(shadowed)
        parcel = pack(export)
        for name, data in parcel.chunks.items():
            self.kernel.tell(Chunk(digest=name), [data])
        self.pending[export.snapshot.serial] = export, None
        self.kernel.tell(Fetched(id=message.id, snapshot=parcel.snapshot if export.sent else None, stuck=export.stuck), parcel.inline)
