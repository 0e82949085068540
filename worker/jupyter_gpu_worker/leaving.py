"""The old kernel's part of a move: say what would go, hand it over, and wait until the other kernel has it. On the main thread."""

from __future__ import annotations

import pickle
import platform
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from jupyter_gpu.sync.bulk import PIECE
from jupyter_gpu.sync.chunks import INLINE, digest
from jupyter_gpu.sync.replica import Export, Replica, is_hidden
from jupyter_gpu.wire import moving
from jupyter_gpu.wire.errors import JupyterGpuError, MoveFailed, NoSuchName, StaysBehind
from jupyter_gpu.wire.messages import BufferRef, Snapshot

from . import belongings
from .first import FIRST, first_of
from .line import Line, Said
from .transit import Transit, opened

#: Bytes on their way to the other kernel beyond which the next piece waits.
_WINDOW = 16 << 20
#: Bytes of a chunk up to which it lies beside the table of contents.
_BESIDE = 1 << 20
_UNDERSCORES = ("_", "__", "___")

Chunk = tuple[bytes, memoryview]


@dataclass
class State:
    """All that goes. ``chunks``: the table of contents first; ``count``, ``size``: variables, and bytes of everything;
    ``number``: of the next cell."""

    chunks: list[Chunk]
    count: int
    size: int
    number: int
    behind: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def leave(kernel: Any, wish: moving.Leaving, *, in_cell: bool) -> None:
    """Returns when this kernel is given up: what it does from then on is nobody's business. Raises what kept it here; nothing has changed
    then."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # of a cell that awaits, it cancels what is not reached here
    try:
        _leave(kernel, wish, in_cell)
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(kernel: Any, wish: moving.Leaving, in_cell: bool) -> None:
    line = Line(kernel)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        kernel.session.send(
            kernel.iopub_socket,
            moving.LEAVING,
            msgspec.to_builtins(wish),
            parent=kernel.get_parent("shell"),
            ident=moving.LEAVING.encode(),
        )
        go, _ = line.expect(moving.Go)
        state = collect(kernel, wish, in_cell)
        number = state.number - 1
        line.send(moving.Offered(count=state.count, size=state.size, execution_count=number, behind=state.behind, notes=state.notes))
        _hand_over(line, state, opened(go.folder, go.nonce))
    except KeyboardInterrupt:
        if not line.is_over(MoveFailed(to=wish.to, reason="it was interrupted")):
            raise
    except Said as said:
        raise said.error from None
    except JupyterGpuError as error:
        line.is_over(error)
        raise
    except Exception as error:
        failed = MoveFailed(to=wish.to, reason=f"{type(error).__name__}: {error}")
        line.is_over(failed)
        raise failed from error


def _hand_over(line: Line, state: State, transit: Transit | None) -> None:
    """Until the other kernel has everything, and this one is given up."""
    chunks, inline, beside = state.chunks, dict[int, int](), list[memoryview]()
    for place, (_, data) in enumerate(chunks):
        if data.nbytes <= _BESIDE and sum(map(len, beside)) <= _BESIDE:
            inline[place] = len(beside)
            beside.append(data)
    written = 0
    if transit is not None:
        written = _write(transit, chunks, inline)
        transit.close()
    line.send(moving.Manifest(chunks=[(name.hex(), data.nbytes) for name, data in chunks], inline=inline, written=written), beside)
    want, _ = line.expect(moving.Want)
    sent = took = 0
    for place in want.places:
        data = chunks[place][1]
        for offset in range(0, data.nbytes, PIECE):
            piece = data[offset : offset + PIECE]
            while sent + piece.nbytes - took > _WINDOW:
                took = line.expect(moving.Took)[0].size
            line.send(moving.Piece(place=place, offset=offset), [piece])
            sent += piece.nbytes
    while True:
        step, _ = line.receive()
        if isinstance(step, moving.Moved):
            return
        if not isinstance(step, moving.Took):
            line.unexpected(step)


def _write(transit: Transit, chunks: list[Chunk], inline: dict[int, int]) -> int:
    """Put into the folder what is not there yet; the table of contents has no other name for what changed meanwhile, and so what did is
    sent. Bytes that were written."""
    todo = [c for i, c in enumerate(chunks) if i not in inline and not transit.has(c[0], c[1].nbytes)]
    todo = list({name: (name, data) for name, data in todo}.values())
    if sum(data.nbytes for _, data in todo) > transit.room():
        return 0
    there = transit.write(todo)
    return sum(data.nbytes for (name, data), found in zip(todo, there) if found == name)


# ---------------------------------------------------------------- what goes


def collect(kernel: Any, wish: moving.Leaving, in_cell: bool) -> State:
    """Everything, pickled once. Raises ``StaysBehind`` for what the person did not say may stay, and ``NoSuchName``."""
    shell = kernel.shell
    ns: dict[str, Any] = shell.user_ns
    results = _results(shell)
    for name in wish.without:
        if name not in ns and name not in results:
            raise NoSuchName(name=name, option="without")
    left = dict.fromkeys(wish.without, "you left it")
    while True:
        # What IPython keeps for itself is ``belongings``', or in ``results``.
        variables = {name: value for name, value in ns.items() if not is_hidden(name) and name not in left}
        others = {name: value for name, value in results.items() if name not in left}
        export = _export(ns, variables, {FIRST: first_of(variables), **others})
        found = _judge(export)
        if found and not wish.anyway:
            raise StaysBehind(to=wish.to, names=list(found), why=list(found.values()))
        if not found:
            break
        left |= found
    taken = belongings.take_all(shell)
    number = belongings.next_number(shell, in_cell=in_cell and _is_numbered(kernel.get_parent("shell").get("content", {})))
    chunks = _chunks(export, taken, number)
    size = sum(data.nbytes for _, data in chunks)
    count = len(variables)
    behind = [f"{name} ({why})" for name, why in left.items()] + [f"{name} (a thread that runs)" for name in _threads()]
    return State(chunks, count, size, number, behind, [*export.warnings, *taken.get("failed", ())])


def _results(shell: Any) -> dict[str, Any]:
    """What ``Out`` and the underscores have, by names that no variable has: one by one, for one of them may not be able to go."""
    found = {f"Out[{number}]": value for number, value in shell.user_ns.get("_oh", {}).items()}
    return found | {f"Out[{name!r}]": shell.user_ns[name] for name in _UNDERSCORES if name in shell.user_ns}


def _export(ns: dict[str, Any], variables: dict[str, Any], others: dict[str, Any]) -> Export:
    """All of it in one memo. ``others`` are bound for as long as that takes."""
    ns.update(others)
    try:
        return Replica(ns, "client").export_copies([*others, *variables])
    finally:
        for name in others:
            del ns[name]


def _judge(export: Export) -> dict[str, str]:
    """What cannot go, and why. Handles mean something of a session that belongs to this process."""
    stuck = {s.name: f"{s.path} is a {s.type}: {s.reason}" for s in export.stuck if s.name != FIRST}
    return stuck | {name: f"{name} holds a value of a %%remote session of this kernel" for name, _ in export.handles if name != FIRST}


def _is_numbered(request: dict[str, Any]) -> bool:
    """Whether a cell is counted, as ipykernel decides."""
    silent = bool(request.get("silent", False))
    return not silent and bool(request.get("store_history", True))


def _threads() -> list[str]:
    """Names of the person's threads."""
    return [t.name for t in threading.enumerate() if t.ident not in _threads_at_start and type(t).__module__ == "threading"]


_threads_at_start: set[int | None] = set()


def remember() -> None:
    """The kernel begins now: threads that run already are its own."""
    _threads_at_start.clear()
    _threads_at_start.update(t.ident for t in threading.enumerate())


def _chunks(export: Export, taken: dict[str, Any], number: int) -> list[Chunk]:
    """The table of contents, then what it names, each once."""
    snapshot = export.snapshot
    if snapshot.stream is None:
        refs, datas = list[BufferRef](), list[memoryview]()
    else:
        refs = [snapshot.stream, *snapshot.buffers]
        datas = [memoryview(export.stream), *(b.cast("B") if b.nbytes else memoryview(b"") for b in export.buffers)]
    small = b"".join(data for ref, data in zip(refs, datas) if ref.size <= INLINE)
    large = {ref.digest: data for ref, data in zip(refs, datas) if ref.size > INLINE}
    bundle = moving.Bundle(
        snapshot=_bare(snapshot),
        names=[name for name in export.sent if name != FIRST],
        belongings=pickle.dumps(taken),
        number=number,
        python=platform.python_version(),
        apart=INLINE,
        small=BufferRef(digest(small), len(small)) if small else None,
    )
    parts: list[bytes] = [msgspec.msgpack.encode(bundle), *([small] if small else [])]
    return [*((digest(part), memoryview(part)) for part in parts), *large.items()]


def _bare(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, deleted=[])


__all__: Sequence[str] = ("State", "collect", "leave", "remember")
