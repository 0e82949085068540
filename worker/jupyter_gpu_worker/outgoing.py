"""What goes back after a cell: the changes, and handles for what stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from jupyter_gpu.sync.chunks import pack
from jupyter_gpu.sync.handles import describe
from jupyter_gpu.sync.replica import Export, Mark
from jupyter_gpu.wire.messages import CannotTravel, Chunk, HandleInfo, RunCell, Snapshot

from . import gpu

if TYPE_CHECKING:
    from .cell import CellRunner

#: Bytes of a displayed value up to which it comes along for ``_`` and ``Out``.
RESULT_LIMIT = 8 << 20


class Outgoing:
    """One cell's. ``collect()`` fills in the rest; ``buffers`` belong to the ``CellDone`` that carries it."""

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
        self.runner.kept[name] = value
        info = describe(value, name, why)  # anew, even if the client has a handle: what it shows may have changed
        self.handles.append(replace(info, device=gpu.device_label(info.device)))

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
