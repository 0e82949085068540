"""A real IPython shell here, and at the seam of ``Session`` a remote kernel that is a second namespace in the same process."""

from __future__ import annotations

import contextlib
import io
import json
import queue
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from jupyter_gpu.cells.notebook import Notebook
from jupyter_gpu.sync.chunks import ChunkStore, digest, pack, unpack
from jupyter_gpu.sync.exceptions import dump_exception
from jupyter_gpu.sync.handles import describe
from jupyter_gpu.sync.replica import Replica
from jupyter_gpu.wire import codec
from jupyter_gpu.wire.errors import JupyterGpuError, WorkerDied
from jupyter_gpu.wire.messages import (
    Applied,
    BufferRef,
    CellDone,
    Chunk,
    Fetch,
    Fetched,
    Gpu,
    HandleInfo,
    Jupyter,
    Kept,
    Message,
    Offer,
    RemoteError,
    RunCell,
    SessionInfo,
    SessionState,
    Want,
    Wanted,
    Welcome,
)


def jupyter(
    kind: str, content: dict[str, Any], parent: str, buffers: Sequence[bytes] = (), channel: str = "iopub"
) -> tuple[Jupyter, list[bytes]]:
    header = {"msg_id": f"remote-{kind}", "msg_type": kind, "session": "remote"}
    return Jupyter(channel=channel), [json.dumps(p).encode() for p in (header, {"msg_id": parent}, {}, content)] + list(buffers)


class FakeSession:
    """Runs cells with ``exec`` in a namespace of its own, as soon as they are sent. ``script`` runs instead of a cell's code, if it
    is set. Everything passes the codec, as it would on the wire."""

    def __init__(self, key: str, label: str) -> None:
        self.info = SessionInfo(session_id=key, key=key, state=SessionState.READY, label=label, created=time.time(), pid=1)
        self.listener: Callable[[Any, list[memoryview]], None] | None = None
        self.on_input_over: Callable[[str], None] | None = None
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.replica = Replica(self.namespace, "kernel")
        self.store = ChunkStore()
        self.sent: list[Message] = []
        self.inbox: queue.Queue[Any] = queue.Queue()
        self.script: Callable[[FakeSession, RunCell], None] | None = None
        self.pending: dict[int, Any] = {}
        self.kept: list[HandleInfo] = []
        self.interrupts = 0
        self.on_interrupt: Callable[[], None] = lambda: None
        self.killed = False
        self.closed = False
        self.stubs: list[str] = []
        self.ran: list[RunCell] = []
        self.elsewhere: dict[bytes, bytes] | None = None  #: BLAKE3 -> what other sessions were sent; None: nothing is shared

    # ------------------------------------------------------------ the client's side

    def send(self, message: Message, buffers: Sequence[Any] = ()) -> None:
        payload = b"".join(bytes(p) for p in codec.encode(message, list(buffers)))
        message, views = codec.decode(bytearray(payload))
        self.sent.append(message)
        if isinstance(message, Chunk):
            self.store.put(message.digest, views[0])
        elif isinstance(message, Offer):
            self.answer(message)
        elif isinstance(message, Applied):
            export = self.pending.pop(message.serial)
            (self.replica.confirm if message.ok else self.replica.abandon)(export)
            if message.missing or message.refused:
                self.tell(Kept(serial=message.serial, handles=self.kept))
        elif isinstance(message, RunCell):
            self.run(message, views)
        elif isinstance(message, Fetch):
            self.give(message)
        elif isinstance(message, Fetched):
            self.fetched = (message, views)
        elif isinstance(message, Jupyter):
            self.got_jupyter = (message, views)

    def receive(self, timeout: float | None = None) -> Any:
        try:
            got = self.inbox.get(timeout=10 if timeout is None else timeout)
        except queue.Empty:
            assert timeout is not None, "nothing came"
            return None
        if isinstance(got, BaseException):
            raise got
        return got() if callable(got) else got

    def interrupt(self) -> None:
        self.interrupts += 1
        self.on_interrupt()

    def kill(self) -> None:
        self.killed = True
        self.inbox.put(WorkerDied(exit=-9))

    def close(self) -> None:
        self.closed = True

    def shares(self) -> bool:
        return self.elsewhere is not None

    # ------------------------------------------------------------ the kernel's side

    def tell(self, message: Message, buffers: Sequence[Any] = ()) -> None:
        self.inbox.put(codec.decode(bytearray(b"".join(bytes(p) for p in codec.encode(message, list(buffers))))))

    def answer(self, offer: Offer) -> None:
        """What a kernel with a shared store does."""
        lacking = []
        for i, name in enumerate(offer.digests):
            if (data := (self.elsewhere or {}).get(name)) is None:
                lacking.append(i)
            else:
                self.store.put(digest(data), bytearray(data))
        self.tell(Want(id=offer.id, positions=lacking))

    def out(self, kind: str, content: dict[str, Any], parent: str, **more: Any) -> None:
        self.tell(*jupyter(kind, content, parent, **more))

    def run(self, message: RunCell, buffers: list[memoryview]) -> None:
        self.ran.append(message)
        if message.snapshot is not None:
            try:
                self.replica.check(message.snapshot)
                self.replica.apply(message.snapshot, *unpack(message.snapshot, buffers, self.store))
            except JupyterGpuError as error:
                self.tell(CellDone(run_id=message.run_id, status="refused", execution_count=1, refused=error.to_record()))
                return
        self.stubs = message.stubs
        if self.script is not None:
            self.script(self, message)
        else:
            self.execute(message)

    def execute(self, message: RunCell) -> None:
        mark = self.replica.mark()
        error = None
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(message.code, "<cell>", "exec"), self.namespace)
        except Exception as e:
            error = e
        if printed.getvalue():
            self.out("stream", {"name": "stdout", "text": printed.getvalue()}, message.run_id)
        self.finish(message, mark, error)

    def finish(self, message: RunCell, mark: Any, exception: BaseException | None = None, **more: Any) -> None:
        names = [n for n in self.replica.touched(mark, message.names) if message.out is None or n in message.out]
        export = self.replica.export([n for n in names if n not in message.keep], deleted=self.replica.deleted(mark))
        parcel = pack(export)
        for name, data in parcel.chunks.items():
            self.tell(Chunk(digest=name), [data])
        self.pending[export.snapshot.serial] = export
        buffers = list(parcel.inline)
        error = None
        if exception is not None:
            data = dump_exception(exception, self.namespace)
            ref = None if data is None else BufferRef(digest(data), len(data), len(buffers))
            buffers += [] if data is None else [data]
            lines = traceback.format_exception_only(exception)
            error = RemoteError(ename=type(exception).__name__, evalue=str(exception), traceback=["REMOTE TRACEBACK", *lines], pickled=ref)
        stuck = {s.name for s in export.stuck}
        handles = [describe(self.namespace[n], n, "keep=") for n in {*message.keep, *stuck} if n in self.namespace]
        self.tell(
            CellDone(
                run_id=message.run_id,
                status="error" if error else "ok",
                execution_count=message.execution_count,
                snapshot=parcel.snapshot if export.sent or export.snapshot.deleted else None,
                error=error,
                handles=handles,
                stuck=export.stuck,
                **more,
            ),
            buffers,
        )

    def give(self, message: Fetch) -> None:
        export = self.replica.export(message.names, only_changed=False)
        parcel = pack(export)
        for name, data in parcel.chunks.items():
            self.tell(Chunk(digest=name), [data])
        self.pending[export.snapshot.serial] = export
        self.tell(Fetched(id=message.id, snapshot=parcel.snapshot if export.sent else None, stuck=export.stuck), parcel.inline)


class FakeGateway:
    url = "unix:///fake"
    closed = False
    alive = True

    def __init__(self) -> None:
        self.opened: list[FakeSession] = []
        self.welcome = Welcome(protocol=1, software="0.1.0", gateway_id="g", own=True, simulated=True)
        self.on_open: Callable[[], None] = lambda: None

    def open(self, key: str, wanted: list[Wanted], **options: Any) -> FakeSession:
        self.on_open()
        session = FakeSession(key, ",".join(w.type for w in wanted) + " (simulated)")
        self.opened.append(session)
        return session

    def inventory(self) -> list[Gpu]:
        return [Gpu(uuid="SIM-1", type="H100", name="NVIDIA H100 80GB HBM3", memory=80 << 30, simulated=True)]

    def sessions(self) -> list[SessionInfo]:
        return [s.info for s in self.opened if not s.closed]

    def stop(self, session_id: str, **options: Any) -> None:
        for session in self.opened:
            if session.info.session_id == session_id:
                session.killed = True

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def shell(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    found = InteractiveShell.instance(config=config, user_ns={})
    options = SimpleNamespace(default_gpu="", idle=0.0, interpreter="", gateway="", trust="", keep_above_bytes=lambda: 256_000_000)
    monkeypatch.setattr(Notebook, "config", lambda self: options)
    found.run_cell("%load_ext jupyter_gpu").raise_error()
    yield found
    found.run_cell("%unload_ext jupyter_gpu")
    InteractiveShell.clear_instance()


@pytest.fixture
def gateway(shell: Any) -> FakeGateway:
    found = FakeGateway()
    Notebook.of(shell)._gateway = found
    return found


@pytest.fixture
def run(shell: Any, gateway: FakeGateway) -> Callable[[str], Any]:
    """Run a cell as a person does (numbered); returns IPython's result."""
    return lambda code: shell.run_cell(code, store_history=True)
