"""The other end of a kernel, or of a worker, as tests need it: cells in, messages out, every wait with a deadline."""

from __future__ import annotations

import json
import select
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
from jupyter_gpu_worker.pipe import ASSIGN, HEADER, PAYLOAD, FrameParser

from jupyter_gpu.sync.bulk import Assembler, split
from jupyter_gpu.sync.chunks import ChunkStore, pack, unpack
from jupyter_gpu.sync.names import analyze
from jupyter_gpu.sync.replica import Replica
from jupyter_gpu.wire.codec import decode, encode, size_of
from jupyter_gpu.wire.messages import AnyMessage, Applied, Assign, CellDone, Chunk, Jupyter, KernelHello, Message, RunCell

DEADLINE = 20.0
Received = tuple[AnyMessage, list[memoryview]]


class Envelope:
    """A message of Jupyter's own."""

    def __init__(self, message: Jupyter, buffers: Sequence[memoryview]) -> None:
        self.channel = message.channel
        header, parent, metadata, content = (json.loads(bytes(b)) for b in buffers[:4])
        self.header: dict[str, Any] = header
        self.kind: str = header["msg_type"]
        self.parent_id: str = parent.get("msg_id", "")
        self.metadata: dict[str, Any] = metadata
        self.content: dict[str, Any] = content
        self.at = time.monotonic()


@dataclass
class Cell:
    """All that came of one cell."""

    done: CellDone
    buffers: list[memoryview]
    messages: list[Envelope] = field(default_factory=list)
    began: float = 0.0

    def text(self, name: str = "stdout") -> str:
        return "".join(m.content["text"] for m in self.messages if m.kind == "stream" and m.content["name"] == name)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [m.content for m in self.messages if m.kind == kind]

    @property
    def ename(self) -> str:
        return self.done.error.ename if self.done.error is not None else ""


class ClientEnd:
    """What the notebook's side does, over any pair of ``send_payload`` and ``receive_payload(timeout) -> payload | None``."""

    def __init__(self, send_payload: Callable[[list[Any]], None], receive_payload: Callable[[float], memoryview | None]) -> None:
        self._send = send_payload
        self._receive = receive_payload
        self.namespace: dict[str, Any] = {}
        self.replica = Replica(self.namespace, "client")
        self.store = ChunkStore(copies=self.replica.lineage.copies)
        self.assembler = Assembler()
        self.count = 0
        self.between: list[Envelope] = []  #: what came while no cell ran

    def send(self, message: Message, buffers: Sequence[Any] = ()) -> None:
        if isinstance(message, Chunk):
            for piece, data in split(message.digest, buffers[0]):
                self._send(encode(piece, [data]))
        else:
            self._send(encode(message, buffers))

    def receive(self, timeout: float = DEADLINE) -> Received:
        end = time.monotonic() + timeout
        while True:
            payload = self._receive(end - time.monotonic())
            assert payload is not None, f"nothing came within {timeout} s"
            message, buffers = decode(payload)
            if not isinstance(message, Chunk):
                return message, buffers
            if (whole := self.assembler.take(message, buffers[0])) is not None:
                return Chunk(digest=whole[0]), [whole[1]]

    def expect(self, kind: type[Message], timeout: float = DEADLINE) -> Received:
        """The next message of this kind; prints and the like before it go to ``between``."""
        end = time.monotonic() + timeout
        while True:
            message, buffers = self.receive(end - time.monotonic())
            if isinstance(message, kind):
                return message, buffers
            assert isinstance(message, Jupyter), message
            self.between.append(Envelope(message, buffers))

    def jupyter(self, wanted: Callable[[Envelope], bool], timeout: float = DEADLINE) -> Envelope:
        """The next message of Jupyter's for which ``wanted`` holds."""
        end = time.monotonic() + timeout
        while True:
            message, buffers = self.receive(end - time.monotonic())
            if isinstance(message, Jupyter) and wanted(envelope := Envelope(message, buffers)):
                return envelope

    def shell(self, kind: str, content: dict[str, Any]) -> None:
        """A message of a front end's: comm_msg and the like."""
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": kind,
            "session": "s",
            "username": "u",
            "version": "5.4",
            "date": "2024-01-01T00:00:00+00:00",
        }
        self.send(Jupyter(channel="shell"), [json.dumps(p).encode() for p in (header, {}, {}, content)])

    def start(self, code: str, names: Sequence[str] = (), **options: Any) -> str:
        """Send a cell and the variables that it names; returns its run_id."""
        self.count += 1
        run_id = uuid.uuid4().hex
        found = analyze(code)
        wanted = [n for n in (*found.loads, *names) if n in self.namespace]
        export = self.replica.export(self.replica.needed(wanted))
        parcel = pack(export)
        for name, data in parcel.chunks.items():
            self.send(Chunk(digest=name), [data])
        snapshot = parcel.snapshot if export.sent or export.snapshot.deleted else None
        self.send(RunCell(run_id=run_id, code=code, execution_count=self.count, names=found, snapshot=snapshot, **options), parcel.inline)
        self.replica.confirm(export)
        return run_id

    def finish(
        self,
        run_id: str,
        *,
        on: Callable[[Envelope], None] | None = None,
        answer: Callable[[AnyMessage], None] | None = None,
        timeout: float = DEADLINE,
        take: bool = True,
    ) -> Cell:
        """Until ``CellDone``. ``on`` sees Jupyter's messages as they come; ``answer`` all others."""
        began = time.monotonic()
        messages: list[Envelope] = []
        while True:
            message, buffers = self.receive(began + timeout - time.monotonic())
            if isinstance(message, Jupyter):
                messages.append(Envelope(message, buffers))
                if on is not None:
                    on(messages[-1])
            elif isinstance(message, Chunk):
                self.store.put(message.digest, buffers[0])
            elif isinstance(message, CellDone):
                assert message.run_id == run_id
                break
            elif answer is not None:
                answer(message)
        cell = Cell(message, buffers, messages, began)
        if take and message.snapshot is not None:
            self.replica.apply(message.snapshot, *unpack(message.snapshot, buffers, self.store, self.replica.live))
            self.send(Applied(serial=message.snapshot.serial))
        return cell

    def run(self, code: str, **options: Any) -> Cell:
        hooks = {k: options.pop(k) for k in ("on", "answer", "timeout", "take") if k in options}
        return self.finish(self.start(code, **options), **hooks)

    def ok(self, code: str, **options: Any) -> Cell:
        cell = self.run(code, **options)
        assert cell.done.status == "ok", (cell.done.refused, cell.done.error and "\n".join(cell.done.error.traceback))
        return cell

    def reply(self, text: str, request: str = "") -> None:
        """Answer an input_request; ``request``: its msg_id."""
        header = {"msg_id": uuid.uuid4().hex, "msg_type": "input_reply", "session": "s", "username": "u", "version": "5.4"}
        self.send(
            Jupyter(channel="stdin"),
            [json.dumps(p).encode() for p in (header, {"msg_id": request} if request else {}, {}, {"status": "ok", "value": text})],
        )


class KernelEnd(ClientEnd):
    """A kernel's process over its socketpair, without an agent."""

    def __init__(self, pid: int, sock: socket.socket) -> None:
        super().__init__(self._write, self._read)
        self.pid = pid
        self.sock = sock
        self.kinds: list[int] = []  #: frames between kernel and agent
        self._parser = FrameParser()
        self._frames: deque[memoryview] = deque()

    def hello(self) -> KernelHello:
        message, _ = self.expect(KernelHello)
        assert isinstance(message, KernelHello)
        return message

    def assign(self, **options: Any) -> None:
        self._write(encode(Assign(session_id="s", **options)), ASSIGN)

    def _write(self, parts: list[Any], kind: int = PAYLOAD) -> None:
        self.sock.sendall(b"".join([HEADER.pack(size_of(parts), kind), *parts]))

    def _read(self, timeout: float) -> memoryview | None:
        end = time.monotonic() + timeout
        while not self._frames:
            if not select.select([self.sock], [], [], max(0.0, end - time.monotonic()))[0]:
                return None
            count = self.sock.recv_into(self._parser.target())
            if not count:
                raise EOFError("the kernel is gone")
            for kind, data in self._parser.filled(count):
                if kind == PAYLOAD:
                    self._frames.append(data)
                else:
                    self.kinds.append(kind)
        return self._frames.popleft()


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def gone_within(condition: Callable[[], bool], what: str, timeout: float = 15.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"still there after {timeout} s: {what}"
        time.sleep(0.02)
