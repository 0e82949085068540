"""The new kernel's part of a move: find out what it lacks, get it, put everything into place, and say so. On the main thread."""

from __future__ import annotations

import gc
import pickle
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from jupyter_gpu.sync import apply as applying
from jupyter_gpu.sync import modules
from jupyter_gpu.sync.chunks import digest
from jupyter_gpu.sync.objects import KnownObjects
from jupyter_gpu.sync.replica import is_hidden
from jupyter_gpu.wire import moving
from jupyter_gpu.wire.errors import JupyterGpuError, MoveFailed, PythonMismatch, SnapshotRefused
from jupyter_gpu.wire.lanes import pages
from jupyter_gpu.wire.messages import BufferRef

from . import belongings
from .first import filling
from .line import Line, Said
from .transit import Transit, opened

#: Bytes after which the other end hears that they are here.
_OFTEN = 4 << 20


def arrive(kernel: Any) -> None:
    """Take over another kernel's session. What fails is told to the shim, which ends this kernel then."""
    line = Line(kernel)
    try:
        go, _ = line.expect(moving.Go)
        manifest, beside = line.expect(moving.Manifest)
        store = Chunks(line, manifest, beside, opened(go.folder, go.nonce))
        store.fetch()
        names, notes = _take_over(kernel.shell, store)
        kernel.session.session = go.session  # front ends take another one for another kernel's
        line.send(moving.Arrived(names=names, notes=notes))
    except Said:
        pass  # this kernel is about to be ended
    except JupyterGpuError as error:
        line.fail(error)
    except KeyboardInterrupt:
        line.fail(MoveFailed(to="it", reason="it was interrupted"))
    except Exception as error:
        line.fail(MoveFailed(to="it", reason=f"{type(error).__name__}: {error}"))


class Chunks:
    """Those of one manifest. What is written beside it, or in the folder, need not be sent."""

    def __init__(self, line: Line, manifest: moving.Manifest, beside: list[memoryview], transit: Transit | None) -> None:
        self._line = line
        self._transit = transit
        self._chunks = [(bytes.fromhex(name), size) for name, size in manifest.chunks]
        self._received = {place: memoryview(bytearray(beside[at])) for place, at in manifest.inline.items()}
        self._places = {name: place for place, (name, _) in enumerate(self._chunks)}
        self._taken: set[int] = set()

    def fetch(self) -> None:
        """Have everything here. Raises ``SnapshotRefused`` for bytes that are not what their name says."""
        places = [
            place
            for place, (name, size) in enumerate(self._chunks)
            if place not in self._received and (self._transit is None or not self._transit.has(name, size))
        ]
        self._line.send(moving.Want(places=places))
        into = {place: pages(self._chunks[place][1]) for place in places}
        left = sum(view.nbytes for view in into.values())
        total, told = left, 0
        while left:
            piece, (data, *_) = self._line.expect(moving.Piece)
            into[piece.place][piece.offset : piece.offset + data.nbytes] = data
            left -= data.nbytes
            if total - left - told >= _OFTEN or not left:
                told = total - left
                self._line.send(moving.Took(size=told))
        for place, view in into.items():
            if digest(view) != self._chunks[place][0]:
                raise SnapshotRefused(reason="a value changed while it was on its way (does a thread write to it?), or arrived damaged")
        self._received.update(into)

    def contents(self) -> memoryview:
        return self._received[0] if 0 in self._received else self._memory(0)

    def take(self, ref: BufferRef) -> memoryview:
        """Writable memory that nobody else has."""
        return self._memory(self._places[ref.digest])

    def _memory(self, place: int) -> memoryview:
        name, size = self._chunks[place]
        found = self._received.get(place)
        if found is None:
            assert self._transit is not None
            return self._transit.map(name, size)
        if place in self._taken:  # two values of the same content are one chunk
            return memoryview(bytearray(found))
        self._taken.add(place)
        return found


def _take_over(shell: Any, store: Chunks) -> tuple[list[str], list[str]]:
    """The names that are in place, and what is to be said."""
    bundle = msgspec.msgpack.decode(store.contents(), type=moving.Bundle)
    here = platform.python_version()
    if here.rpartition(".")[0] != bundle.python.rpartition(".")[0]:
        raise PythonMismatch(what="Python", here=bundle.python, there=here)
    found: dict[str, Any] = pickle.loads(bundle.belongings)
    notes = belongings.give_all(shell, found, first=True)
    notes += modules.check(bundle.snapshot.modules, "worker")
    ns: dict[str, Any] = shell.user_ns
    if bundle.snapshot.stream is not None:
        stream, *buffers = _buffers(bundle, store)
        with _no_collection(), filling(ns):
            load = applying.Load(ns, KnownObjects(ns), _elsewhere)
            applying.take_over(load, bundle.snapshot, stream, buffers)
            del load
    missing = [name for name in bundle.names if name not in ns]
    if missing:
        raise SnapshotRefused(reason=f"{', '.join(missing)} did not arrive")
    _place_results(shell, [name for name in bundle.names if name.startswith("Out[")])
    notes += belongings.give_all(shell, found, first=False)
    shell.execution_count = bundle.number
    return [name for name in bundle.names if not is_hidden(name) and not name.startswith("Out[")], notes


def _buffers(bundle: moving.Bundle, store: Chunks) -> Iterator[memoryview]:
    assert bundle.snapshot.stream is not None
    small = store.take(bundle.small) if bundle.small is not None else memoryview(b"")
    at = 0
    for ref in (bundle.snapshot.stream, *bundle.snapshot.buffers):
        if ref.size > bundle.apart:
            yield store.take(ref)
        else:
            yield small[at : at + ref.size]
            at += ref.size


def _place_results(shell: Any, names: list[str]) -> None:
    """``Out``, ``_``, ``_3``: as the shell keeps them."""
    ns = shell.user_ns
    for name in names:
        key: int | str = _key(name)
        value = ns.pop(name)
        if isinstance(key, int):
            ns["_oh"][key] = value
            ns[f"_{key}"] = value
        else:
            ns[key] = value
            setattr(shell.displayhook, key, value)


def _key(name: str) -> int | str:
    """``Out[3]`` is of the third cell, ``Out['_']`` is the last one."""
    inside = name[len("Out[") : -1]
    return int(inside) if inside.isdigit() else inside.strip("'")


def _elsewhere(key: str) -> Any:
    raise pickle.UnpicklingError("it holds a value of another session")


@contextmanager
def _no_collection() -> Iterator[None]:
    """See ``sync.replica``: what is rebuilt is no garbage."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
