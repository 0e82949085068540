"""What goes back after a cell: the changes, and handles for what stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import structs

from jupyter_gpu.sync.chunks import pack
from jupyter_gpu.sync.handles import describe
from jupyter_gpu.sync.names import globals_within
from jupyter_gpu.sync.replica import Export, Mark, is_hidden
from jupyter_gpu.sync.sizes import device_of, size_of
from jupyter_gpu.sync.units import human_bytes
from jupyter_gpu.wire.messages import CannotTravel, CellNames, Chunk, HandleInfo, RunCell, Snapshot

from . import gpu
from .policy import CODE, why_it_stays, why_its_size_stays

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
        self.why: dict[str, str] = {}  #: key -> why it stays, of what did so in this cell

    def collect(self) -> None:
        replica, message = self.runner.replica, self.message
        touched = replica.touched(self.mark, self._names(self._settle_new()))
        deleted = replica.deleted(self.mark)
        names = self._chosen(touched)
        if (result := self._result(names)) is not None:
            names += result
        elif not names and not deleted:
            return
        export = replica.export(names, deleted=[n for n in deleted if message.out is None or n in message.out])
        self._keep_stuck(export)
        self.has_result = "_" in export.sent or ("_" in names and "_" in export.unchanged)
        self.warnings += [w for w in export.warnings if w not in self.runner.said]
        self.runner.said.update(export.warnings)
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

    # ------------------------------------------------------------ what stays

    def _settle_new(self) -> set[str]:
        """Before anything is pickled: what is to stay is kept. Returns names of what is as large, and not wanted back."""
        message, kept, namespace = self.message, self.runner.kept, self.runner.namespace
        bindings, unwanted = self.mark.bindings, set[str]()
        rebound = [n for n, value in namespace.items() if bindings.get(n) != id(value)]
        for name in dict.fromkeys((*rebound, *message.names.stores, *message.names.loads, *message.keep)):
            if name not in namespace or is_hidden(name):
                continue
            value = namespace[name]
            if name in message.keep:
                self.why[kept.keep(value, name)] = "keep="
            elif message.out is not None and name in message.out:
                kept.by_value(value, name)
            elif kept.stays(name, value) or not self._is_new(name, value):
                continue
            elif why := why_it_stays(value, message.terms.keep_above):
                if message.out is None:
                    self.why[kept.keep(value, name)] = why
                else:
                    unwanted.add(name)
        return unwanted

    def _is_new(self, name: str, value: Any) -> bool:
        """Whether the notebook has neither the name, other than for a handle, nor the object."""
        runner, message = self.runner, self.message
        known = runner.replica.knows(name) or name in message.stubs or name in message.terms.held
        if known and name not in runner.kept.names:
            return False
        objects = runner.replica.objects
        token = objects.tokens.get(id(value))
        return token is None or objects.find(token) is not value

    def _names(self, unwanted: set[str]) -> CellNames:
        """What the cell names, and what the code of kept values does: they are not pickled, by which it would be found. Without
        ``unwanted``, which is not worth a pickle either."""
        names, kept, namespace = self.message.names, self.runner.kept, self.runner.namespace
        if unwanted:
            stores = [n for n in names.stores if n not in unwanted]
            names = structs.replace(names, loads=[n for n in names.loads if n not in unwanted], stores=stores)
        if not kept.names:
            return names
        held = [namespace[n] for n in (*names.loads, *names.stores) if n in kept.names and n in namespace]
        return structs.replace(names, loads=[*names.loads, *globals_within(held, namespace)]) if held else names

    def _chosen(self, touched: list[str]) -> list[str]:
        """Names that go back as values; the others become handles, or stay without a word where ``out=`` leaves them out."""
        runner, out = self.runner, self.message.out
        names = []
        for name in touched:
            value = runner.namespace[name]
            if runner.kept.stays(name, value):
                self._keep(name, self.why.get(runner.kept.names.get(name, ""), ""))
            elif out is not None and name not in out:
                self.diverged.append(name)
            elif out is None and (why := self._too_large(name, value)):
                self._keep(name, why)
            else:
                runner.kept.by_value(value, name)
                names.append(name)
        return names

    def _too_large(self, name: str, value: Any) -> str:
        """The size as it would travel is known by now: it may be more than an estimate saw."""
        if self.message.terms.keep_above <= 0 or not self._is_new(name, value):
            return ""
        size, stuck = self.runner.replica.measure(name)
        return "" if stuck is not None else why_its_size_stays(size, self.message.terms.keep_above)

    def _keep(self, name: str, why: str) -> None:
        value = self.runner.namespace[name]
        key = self.runner.kept.keep(value, name)
        info = describe(value, name, why, key)  # anew, even if the client has a handle: what it shows may have changed
        self.handles.append(structs.replace(info, device=gpu.device_label(info.device)))

    def without(self, export: Export, modules: set[str], refused: dict[str, str]) -> None:
        """Once more for a client that lacks some modules, or does not rebuild some variables: what needs them stays."""
        namespace, reasons = self.runner.namespace, dict[str, str]()
        for name in export.sent:
            if name in refused:
                reasons[name] = f"the notebook takes plain data alone, and it is rebuilt by {refused[name]}"
            elif lacking := export.modules[name] & modules:
                reasons[name] = f"it needs {', '.join(sorted(lacking))}, which the notebook does not have"
        whys = {id(namespace[name]): why for name, why in reasons.items()}
        stay = {name: whys[id(namespace[name])] for name in sorted(export.sent) if id(namespace[name]) in whys}  # by all of their names
        for name, why in stay.items():
            self._keep(self._result_name() if name == "_" else name, why)
        self._send(self.runner.replica.export([n for n in export.sent if n not in stay], deleted=export.snapshot.deleted))

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
        if id(value) in runner.kept.keys:
            return ["_"]  # as its handle
        apart = {*runner.kept.names, *self.diverged}
        named = [n for n, v in namespace.items() if v is value and not is_hidden(n)]
        same = [n for n in named if n in names or (runner.replica.knows(n) and n not in apart)]
        if not (why := self._why_not_shown(value, bool(same))):
            return ["_", *same]
        namespace[self._result_name()] = value
        self._keep(self._result_name(), why)
        return None

    def _why_not_shown(self, value: Any, there: bool) -> str:
        """Why a displayed value stays. ``there``: it goes, or is there, under a name of its own."""
        limit = min(RESULT_LIMIT, self.message.terms.keep_above) if self.message.terms.keep_above > 0 else RESULT_LIMIT
        if not there:
            if isinstance(value, CODE):
                pass
            elif found := device_of(value):
                return f"stays on {found}"
            elif (size := size_of(value)) > limit:
                return f"a displayed value of {human_bytes(size)}"
        size, stuck = self.runner.replica.measure("_")
        if stuck is not None:
            return stuck.reason
        return "" if there or size <= limit else f"a displayed value of {human_bytes(size)}"
