"""Two ends of a sync, in one process (``pair``) or in two (``far``): bytes only in between."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jupyter_gpu.sync.chunks import ChunkStore, pack, unpack
from jupyter_gpu.sync.lineage import Question
from jupyter_gpu.sync.names import analyze
from jupyter_gpu.sync.replica import Change, Export, Replica
from jupyter_gpu.wire.messages import CellNames, Offer, Snapshot


class Pair:
    """``here`` and ``there`` are namespaces; ``send`` and ``run`` do what client and kernel do around a cell."""

    def __init__(self) -> None:
        self.here: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
        self.there: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
        self.client = Replica(self.here, "client")
        self.kernel = Replica(self.there, "kernel")
        self.stores = {id(each): ChunkStore(copies=each.lineage.copies) for each in (self.client, self.kernel)}
        self.travelled = 0  #: bytes of the last snapshot

    def local(self, code: str) -> None:
        exec(compile(code, "<here>", "exec", dont_inherit=True), self.here)

    def carry(self, export: Export, source: Replica, target: Replica) -> Change:
        store = self.stores[id(target)]

        def ask(question: Question) -> set[int]:
            offer = Offer(id=1, digests=question.pieces, base=question.base, step=question.step)
            self.travelled += 17 * len(question.pieces)
            return set(target.lacking(offer))

        self.travelled = 0
        parcel = pack(export, 0, source.lineage, ask)
        for name, data in parcel.chunks.items():
            store.put(name, bytearray(data))
        self.travelled += parcel.inline_size + sum(map(len, parcel.chunks.values()))
        stream, buffers = unpack(parcel.snapshot, [memoryview(bytes(b)) for b in parcel.inline], store, target.live)
        change = target.apply(parcel.snapshot, stream, buffers)
        source.confirm(export)
        return change

    def send(self, *names: str) -> Export:
        export = self.client.export(self.client.needed(names))
        assert not export.stuck, export.stuck
        self.carry(export, self.client, self.kernel)
        return export

    def run(self, code: str) -> Export:
        """A remote cell: what it needs goes, what changed comes back."""
        names = analyze(code, lambda text: text)
        self.send(*names.loads, *names.stores, *names.deletes)
        mark = self.kernel.mark()
        try:
            exec(compile(code, "<there>", "exec", dont_inherit=True), self.there)
        finally:
            export = self.back(mark, names)
        return export

    def back(self, mark: Any, names: CellNames) -> Export:
        export = self.kernel.export(self.kernel.touched(mark, names), deleted=self.kernel.deleted(mark))
        self.carry(export, self.kernel, self.client)
        return export


@pytest.fixture
def pair() -> Pair:
    return Pair()


class Far:
    """As ``Pair``, with the other end in a process of its own: where identity of classes and functions is not an accident."""

    def __init__(self) -> None:
        self.here: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
        self.client = Replica(self.here, "client")
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("far_peer.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.stuck: list[str] = []

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)

    def ask(self, name: str, *arguments: Any) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        pickle.dump((name, arguments), self.process.stdin)
        self.process.stdin.flush()
        status, value = pickle.load(self.process.stdout)
        assert status == "ok", value
        return value

    def local(self, code: str) -> None:
        exec(compile(code, "<here>", "exec", dont_inherit=True), self.here)

    def send(self, *names: str) -> Export:
        export = self.client.export(self.client.needed(names))
        assert not export.stuck, export.stuck
        if export.sent or export.snapshot.deleted:
            self.ask("take", msgspec.msgpack.encode(export.snapshot), export.stream, [bytes(b) for b in export.buffers])
        self.client.confirm(export)
        return export

    def run(self, code: str, raises: str = "") -> Snapshot:
        names = analyze(code, lambda text: text)
        self.send(*names.loads, *names.stores)
        error, _, packed, stream, buffers, self.stuck = self.ask("run", code)
        assert error.startswith(raises) and bool(error) == bool(raises), error
        snapshot = msgspec.msgpack.decode(packed, type=Snapshot)
        self.client.apply(snapshot, stream, [memoryview(bytearray(b)) for b in buffers])
        self.ask("settle", True)
        return snapshot


@pytest.fixture
def far() -> Iterator[Far]:
    end = Far()
    yield end
    end.close()
