"""The old kernel's part of a move: say what would go, hand it over, and wait until the other kernel has it. On the main thread."""

from __future__ import annotations

import pickle
import platform
import signal
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from jupyter_gpu.sync.bulk import PIECE
from jupyter_gpu.sync.chunks import INLINE, digest
from jupyter_gpu.sync.replica import Export, Replica, is_hidden
from jupyter_gpu.wire import moving
from jupyter_gpu.wire.errors import JupyterGpuError, MoveFailed, NoSuchName, StaysBehind
from jupyter_gpu.wire.messages import BufferRef

from . import belongings
from .first import FIRST, first_of
from .line import Line, Said
from .mapped import name_of
from .transit import Transit, opened

#: Bytes on their way to the other kernel beyond which the next piece waits.
_WINDOW = 16 << 20
#: Bytes of a chunk up to which it lies beside the table of contents.
_BESIDE = 1 << 20
_UNDERSCORES = ("_", "__", "___")

Chunk = tuple[bytes, memoryview]


@dataclass
class State:
    """All that goes. ``count``, ``size``: variables, and bytes of everything. ``bundle`` and ``refs`` lack the digests of what was not read
    yet; ``datas`` are the bytes of ``refs``, the stream first."""

    bundle: moving.Bundle
    refs: list[BufferRef]
    datas: list[memoryview]
    count: int
    size: int
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
        number = state.bundle.number - 1
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
    written, names = _name(state, transit)
    if transit is not None:
        transit.close()
    chunks = _chunks(state, names)
    inline, beside, room = dict[int, int](), list[memoryview](), _BESIDE
    for place, (_, data) in enumerate(chunks):
        if data.nbytes <= room:
            room -= data.nbytes
            inline[place] = len(beside)
            beside.append(data)
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


def _name(state: State, transit: Transit | None) -> tuple[int, list[bytes]]:
    """The names of what is large, and how many bytes of it were written into the folder; small ones have none. What cannot be in the folder
    already is named as it is written: one look at it is enough."""
    names, todo = [b""] * len(state.refs), list[int]()
    there = set[int]() if transit is None else transit.sizes()
    for i, (ref, data) in enumerate(zip(state.refs, state.datas)):
        if ref.size <= INLINE:
            continue
        if transit is None or ref.size in there or ref.digest:
            names[i] = ref.digest or name_of(data) or digest(data)
        if transit is not None and not (names[i] and transit.has(names[i], ref.size)) and (not names[i] or names[i] not in names[:i]):
            todo.append(i)
    written = 0
    if transit is not None and sum(state.refs[i].size for i in todo) <= transit.room():
        for i, found in zip(todo, transit.write(state.datas[i] for i in todo)):
            if found is not None:
                written += state.refs[i].size
                names = [found if name and name == names[i] else name for name in names]
                names[i] = found
    return written, [name or (digest(data) if ref.size > INLINE else b"") for name, ref, data in zip(names, state.refs, state.datas)]


def _chunks(state: State, names: list[bytes]) -> list[Chunk]:
    """The table of contents, then what it names, each once."""
    small = b"".join(data for ref, data in zip(state.refs, state.datas) if ref.size <= INLINE)
    bundle = state.bundle
    if state.refs:
        stream, *buffers = (replace(ref, digest=name) for ref, name in zip(state.refs, names))
        bundle = replace(bundle, snapshot=replace(bundle.snapshot, stream=stream, buffers=buffers))
    if small:
        bundle = replace(bundle, small=BufferRef(digest(small), len(small)))
    parts: list[bytes] = [msgspec.msgpack.encode(bundle), *([small] if small else [])]
    large = {name: data for name, data in zip(names, state.datas) if name}
    return [*((digest(part), memoryview(part)) for part in parts), *large.items()]


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
    snapshot = export.snapshot
    refs, datas = list[BufferRef](), list[memoryview]()
    if snapshot.stream is not None:
        refs = [snapshot.stream, *snapshot.buffers]
        datas = [memoryview(export.stream), *(b.cast("B") if b.nbytes else memoryview(b"") for b in export.buffers)]
    bundle = moving.Bundle(
        snapshot=replace(snapshot, deleted=[]),
        names=[name for name in export.sent if name != FIRST],
        belongings=pickle.dumps(taken),
        number=number,
        python=platform.python_version(),
        apart=INLINE,
    )
    behind = [f"{name} ({why})" for name, why in left.items()] + [f"{name} (a thread that runs)" for name in _threads()]
    size = sum(ref.size for ref in refs) + len(bundle.belongings)
    return State(bundle, refs, datas, len(variables), size, behind, [*export.warnings, *taken.get("failed", ())])


def _results(shell: Any) -> dict[str, Any]:
    """What ``Out`` and the underscores have, by names that no variable has: one by one, for one of them may not be able to go."""
    found = {f"Out[{number}]": value for number, value in shell.user_ns.get("_oh", {}).items()}
    return found | {f"Out[{name!r}]": shell.user_ns[name] for name in _UNDERSCORES if name in shell.user_ns}


def _export(ns: dict[str, Any], variables: dict[str, Any], others: dict[str, Any]) -> Export:
    """All of it in one memo. ``others`` are bound for as long as that takes."""
    ns.update(others)
    try:
        return Replica(ns, "client").export_copies([*others, *variables], named=False)
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
