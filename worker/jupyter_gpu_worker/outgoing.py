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
        if (result := self._result(names)) is not None:
            names += result
        elif not names and not deleted:
            return
        export = replica.export(names, deleted=[n for n in deleted if message.out is None or n in message.out])
        self._keep_stuck(export)
        self.has_result = "_" in export.sent or ("_" in names and "_" in export.unchanged)
        self.warnings += export.warnings
        self._send(export)

    def _send(self, export: Export) -> None:
        if not export.sent and not export.snapshot.deleted:
            return
        parcel = pack(export, len(self.buffers), self.runner.replica.lineage, self.runner.ask)
        for name, data in parcel.chunks.items():
            self.runner.kernel.tell(Chunk(digest=name), [data])
        self.snapshot = parcel.snapshot
        self.buffers += parcel.inline
        self.runner.pending[export.snapshot.serial] = export, self.message

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

    def without(self, export: Export, modules: set[str], refused: dict[str, str]) -> None:
        """Once more for a client that lacks some modules, or does not rebuild some variables: what needs them stays."""
        names = [n for n in export.sent if not export.modules[n] & modules and n not in refused]
        for name in sorted(export.sent.keys() - names):
            if name in refused:
                why = f"the notebook takes plain data alone, and it is rebuilt by {refused[name]}"
            else:
                why = f"it needs {', '.join(sorted(export.modules[name] & modules))}, which the notebook does not have"
            self._keep(self._result_name() if name == "_" else name, why)
        self._send(self.runner.replica.export(names, deleted=export.snapshot.deleted))

    def again(self, export: Export) -> None:
        """The same names once more, whatever the client has of them."""
        names = [n for n in export.sent if n in self.runner.namespace]
        self._send(self.runner.replica.export(names, only_changed=False, deleted=export.snapshot.deleted))

    def _keep_stuck(self, export: Export) -> None:
        self.stuck = [s for s in export.stuck if s.name != "_"]
        for each in self.stuck:
            self._keep(each.name, each.reason)

    def _result_name(self) -> str:
        """``_`` is another value after the next cell; this name of it stays."""
        return f"_{self.message.execution_count}"

    def _result(self, names: list[str]) -> list[str] | None:
        """What to send so that ``_`` and ``Out`` have at the client what the cell displayed; None: nothing. A value that is large, or
        cannot travel, becomes a handle, unless it comes along anyway under one of ``names``."""
        runner, namespace = self.runner, self.runner.namespace
        results = namespace.get("_oh", {})
        if self.message.execution_count not in results:
            return None
        value = namespace["_"] = results[self.message.execution_count]
        size, stuck = runner.replica.measure("_")
        apart = {*runner.kept, *self.diverged}
        same = [n for n, v in namespace.items() if v is value and (n in names or (runner.replica.knows(n) and n not in apart))]
        if stuck is None and (size <= RESULT_LIMIT or same):
            return ["_", *same]
        why = stuck.reason if stuck is not None else f"a displayed value of {size:,} bytes"
        namespace[self._result_name()] = value
        self._keep(self._result_name(), why)
        return None
