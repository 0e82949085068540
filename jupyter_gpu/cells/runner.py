"""The way of a cell: names, session, variables out, the run with its outputs, variables back, one line that sums up."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any

from ..sync.apply import may_go_again
from ..sync.exceptions import load_exception
from ..sync.modules import is_foreign, version_of
from ..sync.names import analyze
from ..sync.names import imports as imports_of
from ..sync.replica import Export
from ..wire.errors import CellTimeout, JupyterGpuError, WireError, WorkerError, from_record
from ..wire.messages import AnyMessage, BufferRef, CellDone, CellNames, RunCell
from ..wire.records import CellTerms
from . import stdin
from .failures import local_exception, show_once
from .interrupts import Interrupts
from .notebook import Notebook
from .options import Options
from .remote import Remote
from .report import Report
from .results import ResultCache, run_payloads
from .sinks import Sink
from .wants import check_handles, check_held, check_stuck, names_of_cell, stubs_of

#: Seconds that a cell has, after timeout= has interrupted it, before its session is killed.
GRACE = 5.0


def source_of(line: str, cell: str, added: bool = False) -> str:
    """The cell as it runs remotely: the magic's line is a comment, so that line numbers stay the person's own. Another cell magic
    must stay first. ``added``: the person wrote no such line."""
    if added:
        return cell
    comment = f"# %%remote {line}".rstrip() + "\n"
    body = cell.lstrip("\n")
    if body.startswith("%%"):
        first, _, rest = body.partition("\n")
        return f"{first}\n{comment}{cell[: len(cell) - len(body)]}{rest}"
    return comment + cell


def run(notebook: Notebook, options: Options, line: str, cell: str, *, added: bool = False) -> None:
    """Run a cell in its session. Raises what the remote code raised, or a ``JupyterGpuError``."""
    report = Report(notebook, quiet=options.quiet or notebook.quiet)
    code = source_of(line, cell, added)
    names = analyze(code)
    wanted = names_of_cell(notebook.shell, options, names)
    remote = notebook.remote(options)
    with remote.lock:
        exception = Cell(notebook, remote, options, code, names, wanted, report).run()
    if exception is not None:
        show_once(notebook.shell, exception)
        raise exception from None


@dataclass
class Outcome:
    """The last message of a cell."""

    done: CellDone
    buffers: list[memoryview]


class Cell:
    """One run."""

    def __init__(
        self, notebook: Notebook, remote: Remote, options: Options, code: str, names: CellNames, wanted: list[str], report: Report
    ) -> None:
        self.notebook = notebook
        self.shell = notebook.shell
        self.remote = remote
        self.options = options
        self.code = code
        self.names = names
        self.wanted = wanted
        self.report = report
        self.run_id = ""
        self.released: list[str] = []  #: keys of values of which no handle is left here
        self.ends = float("inf")  #: when timeout= is over
        self.timed_out = False

    def run(self) -> BaseException | None:
        """The exception of the person's code, to be raised."""
        with self.report:
            outcome = self._attempt()
            if outcome.done.refused is not None and may_go_again(reason := str(outcome.done.refused.fields.get("reason", ""))):
                self.remote.replica.recover(reason)  # it no longer keeps what we refer to, or a thread changed it: once more
                outcome = self._attempt()
            if outcome.done.refused is not None:
                raise from_record(outcome.done.refused)
            return self._finish(outcome)

    # ------------------------------------------------------------ out

    def _attempt(self) -> Outcome:
        remote = self.remote
        check_handles(self.shell, remote, self.wanted)
        export = self._export()
        try:
            self.report.opening(remote)
            self.report.opened(remote, self.notebook.open(remote, self.options, self.report.on_change))
            outcome = self._run_with(export)
        except BaseException as error:
            remote.replica.abandon(export)
            remote.settle_all(False)
            if isinstance(error, (WorkerError, WireError)) or remote.session is None:
                self.notebook.drop(remote)
            raise
        if outcome.done.refused is not None:
            remote.replica.abandon(export)
        else:
            remote.sent(export)
        remote.settle_all(outcome.done.refused is None)
        return outcome

    def _export(self) -> Export:
        """Raises ``ValueCannotTravel``: nothing has run."""
        remote, namespace = self.remote, self.shell.user_ns
        names = self.wanted
        if self.names.star and self.options.sent is None:
            names = [*names, *(n for n in remote.known if n in namespace)]  # whatever it evaluates must not meet old values
        needed = remote.replica.needed(dict.fromkeys(names))
        export = remote.replica.export(needed, deleted=[n for n in remote.known if n not in namespace])
        self.report.exported(export, remote)
        try:
            check_held(remote, export)
            check_stuck(export, self.names, asked=self.options.sent)
        except JupyterGpuError:
            remote.replica.abandon(export)
            raise
        return export

    def _run_with(self, export: Export) -> Outcome:
        remote = self.remote
        self.report.sending(export)
        remote.sent_on_demand = 0
        remote.may_fetch = self.options.sent is None
        remote.on_demand = {}
        imports = imports_of(self.code)
        changed = remote.sources.changed([*imports.all, *export.snapshot.modules, *export.imports])
        self.report.sourced(changed)
        sources = changed.files
        foreign = {n: version_of(n) for n in imports.all if is_foreign(n) and not remote.sources.is_local(n)}
        remote.on_progress = self.report.moved
        try:
            parcel = remote.ship(export)
        finally:
            remote.on_progress = None
        self.run_id = uuid.uuid4().hex
        self.released = remote.held.begin()
        message = RunCell(
            run_id=self.run_id,
            code=self.code,
            execution_count=_count(self.shell),
            allow_stdin=stdin.allowed(self.shell),
            metadata=_metadata(self.shell),
            snapshot=parcel.snapshot if export.sent or export.snapshot.deleted else None,
            names=self.names,
            stubs=[] if self.options.sent is not None else stubs_of(self.shell, export),
            out=None if self.options.out is None else list(self.options.out),
            keep=list(self.options.keep),
            terms=CellTerms(
                keep_above=self.notebook.keep_above(),
                held=[] if self.options.sent is None else [n for n in self.names.stores if n in self.shell.user_ns],
                released=self.released,
                imports=foreign,
                needs=[n for n in imports.certain if n in foreign],
                unsourced=changed.gone,
            ),
            sources={path: len(parcel.inline) + i for i, path in enumerate(sources)},
        )
        self.report.running(parcel)
        return self._pump(message, [*parcel.inline, *sources.values()], self.report.sink)

    # ------------------------------------------------------------ the run

    def _pump(self, message: RunCell, buffers: Sequence[Any], sink: Sink) -> Outcome:
        remote, publisher = self.remote, self.remote.publisher
        session = remote.session
        assert session is not None
        publisher.begin(self.run_id, sink)
        remote.begin()
        try:
            with Interrupts(session.interrupt, self._kill) as remote.interrupts:
                if self.options.timeout:
                    self.ends = monotonic() + self.options.timeout
                remote.send(message, buffers)
                return remote.wait(self._is_done, self._tick)
        except JupyterGpuError:
            interrupts = remote.interrupts
            if interrupts is not None and interrupts.killed:
                raise self._killed() from None
            if self.timed_out:
                raise CellTimeout(seconds=self.options.timeout) from None
            raise
        finally:
            remote.interrupts = None
            publisher.end(self.run_id)
            remote.over()

    def _is_done(self, message: AnyMessage, buffers: list[memoryview]) -> Outcome | None:
        return Outcome(message, buffers) if isinstance(message, CellDone) and message.run_id == self.run_id else None

    def _tick(self) -> float | None:
        """Between messages: the clock of timeout=."""
        if not self.options.timeout:
            return None
        left = self.ends - monotonic()
        if left <= 0:
            assert self.remote.session is not None
            if self.timed_out:
                self.remote.session.kill()
                raise CellTimeout(seconds=self.options.timeout)
            self.timed_out = True
            self.remote.session.interrupt()
            self.ends, left = monotonic() + GRACE, GRACE
        return left

    def _kill(self) -> None:
        assert self.remote.session is not None
        self.report.say("second interrupt: the remote session is being killed")
        # Asks the gateway, which may be slow to answer; what ends the session ends the wait for it.
        threading.Thread(target=self.remote.session.kill, name="jupyter-gpu-kill", daemon=True).start()

    def _killed(self) -> BaseException:
        """What the second press of the stop button raises: a true ``KeyboardInterrupt``, and words."""
        self.notebook.drop(self.remote)
        text = (
            "The remote session was killed, since it did not stop at the first interrupt. "
            "Your local variables are as they were; the next remote cell starts a new one."
        )
        error = KeyboardInterrupt(text)
        error._render_traceback_ = lambda: [f"\x1b[0;31mKeyboardInterrupt\x1b[0m: {text}"]  # type: ignore[attr-defined]
        return error

    # ------------------------------------------------------------ back

    def _finish(self, outcome: Outcome) -> BaseException | None:
        done, remote = outcome.done, self.remote
        with Interrupts(_nothing, _nothing) as deferred:  # a press of the stop button must not leave half of it
            self._take_back(outcome)
        run_payloads(self.shell, done.payload)
        self.report.done(done, remote)
        if self.timed_out:
            raise CellTimeout(seconds=self.options.timeout)
        if done.error is not None:
            return local_exception(done.error, lambda ref: self._load(ref, outcome.buffers))
        if deferred.presses:
            raise KeyboardInterrupt
        return None

    def _take_back(self, outcome: Outcome) -> None:
        done, remote = outcome.done, self.remote
        began = perf_counter()
        result = ResultCache(self.shell)
        infos = remote.shown(done.handles)
        handles = remote.held.meet(infos)
        if done.snapshot is not None:
            try:
                stayed = remote.take_what_can(done.snapshot, outcome.buffers)
                infos, handles = [*infos, *stayed], [*handles, *remote.held.meet(stayed)]
                self.report.stayed += [info for info in stayed if info.name != f"_{done.execution_count}"]
            except JupyterGpuError as error:
                self._not_taken(done, error)
                return
        remote.bind(infos, handles)
        remote.held.over(self.released)
        if any(info.name == f"_{done.execution_count}" for info in infos):
            result.take_handle(f"_{done.execution_count}")
        elif done.has_result:
            result.take()
        remote.replica.forget(done.diverged)
        self.report.back_seconds = perf_counter() - began + done.collect_seconds

    def _not_taken(self, done: CellDone, error: JupyterGpuError) -> None:
        """What the cell changed stays remote. If the cell failed too, its own error is the one to raise."""
        if done.error is None:
            raise error
        self.report.warn(str(error))

    def _load(self, ref: BufferRef, buffers: Sequence[memoryview]) -> Any:
        return load_exception(bytes(buffers[ref.inline]), self.shell.user_ns, self.remote.replica.trust)


def _nothing() -> None:
    """The press is counted, and raised when all is in place."""


def _count(shell: Any) -> int:
    """The number of the cell that is running: its In[n]."""
    return int(shell.displayhook.prompt_count)  # IPython 9 counts up before the cell, older ones after it


def _metadata(shell: Any) -> bytes:
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return b"{}"
    metadata = kernel.get_parent().get("metadata")
    return json.dumps(metadata, default=str).encode() if metadata else b"{}"
