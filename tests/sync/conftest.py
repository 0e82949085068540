"""Two ends of a sync in one process: bytes only in between."""

from __future__ import annotations

from typing import Any

import pytest

from jupyter_gpu.sync.chunks import ChunkStore, pack, unpack
from jupyter_gpu.sync.replica import Change, Export, Replica
from jupyter_gpu.wire.messages import CellNames
from jupyter_gpu.sync.names import analyze


class Pair:
    """``here`` and ``there`` are namespaces; ``send`` and ``run`` do what client and kernel do around a cell."""

    def __init__(self) -> None:
        self.here: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
        self.there: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
        self.client = Replica(self.here, "client")
        self.kernel = Replica(self.there, "kernel")
        self.store = ChunkStore()

    def local(self, code: str) -> None:
        exec(compile(code, "<here>", "exec"), self.here)

    def carry(self, export: Export, source: Replica, target: Replica) -> Change:
        parcel = pack(export)
        for name, data in parcel.chunks.items():
            self.store.put(name, bytearray(data))
        stream, buffers = unpack(parcel.snapshot, [memoryview(bytes(b)) for b in parcel.inline], self.store)
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
            exec(compile(code, "<there>", "exec"), self.there)
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
