"""Snapshots that a hostile worker would send: each a pickle made by hand, or of an object whose ``__reduce__`` says what it likes."""

from __future__ import annotations

import copyreg
import pickle
import struct
from collections.abc import Callable, Iterable
from typing import Any

from jupyter_gpu.sync.chunks import digest
from jupyter_gpu.sync.pickler import Pickler
from jupyter_gpu.sync.segments import Segment, written
from jupyter_gpu.wire.messages import BufferRef, Snapshot

PROTO, STOP = b"\x80\x05", b"."

#: What a hostile stream would run, if it could.
CANARY: list[str] = []


def touch(*args: Any, **kwargs: Any) -> Any:
    CANARY.append("touched")
    return args


class Calls:
    """Pickled as a call of ``function`` with ``args``, and what ``__reduce__`` may give besides."""

    def __init__(self, function: Any, *args: Any, more: tuple[Any, ...] = ()) -> None:
        self.reduced = (function, args, *more)

    def __reduce__(self) -> Any:
        return self.reduced


def text(value: str) -> bytes:
    data = value.encode()
    return b"\x8c" + bytes([len(data)]) + data


def named(module: str, name: str) -> bytes:
    """STACK_GLOBAL"""
    return text(module) + text(name) + b"\x93"


def pickled(*parts: bytes) -> bytes:
    return PROTO + b"".join(parts) + STOP


def dumped(value: Any) -> bytes:
    return pickle.dumps(value, 5)


def call(module: str, name: str, *args: bytes) -> bytes:
    return named(module, name) + b"(" + b"".join(args) + b"t" + b"R"


def snapshot_of(
    parts: Iterable[tuple[list[str], bytes]], buffers: Iterable[bytes] = (), deleted: Iterable[str] = ()
) -> tuple[Snapshot, bytes, list[memoryview]]:
    """What ``Replica.apply`` takes. All the buffers are the first part's."""
    parts, held = list(parts), [memoryview(bytearray(b)) for b in buffers]
    base, segments = 0, []
    for i, (names, data) in enumerate(parts):
        segments.append(Segment(len(names), len(held) if i == 0 else 0, base, len(data)))
        base += len(data)
    stream = written(segments) + b"".join(data for _, data in parts)
    snapshot = Snapshot(
        serial=1,
        names=[n for names, _ in parts for n in names],
        deleted=list(deleted),
        stream=BufferRef(digest(stream), len(stream)),
        buffers=[BufferRef(digest(b), len(b)) for b in held],
    )
    return snapshot, stream, held


def by_our_pickler(value: Any, namespace: dict[str, Any] | None = None) -> bytes:
    """As an honest worker writes code: by cloudpickle, and our own functions."""
    pickler = Pickler({} if namespace is None else namespace)
    pickler.dump(value)
    return pickler.file.getvalue()


def long_int(value: int) -> bytes:
    data = value.to_bytes(8, "little", signed=True)
    return b"\x8a\x08" + data


def registered(code: int) -> Callable[[], None]:
    """An extension code that stands for a function, and sits in the cache already. Returns what takes it back."""
    copyreg.add_extension("os", "system", code)
    copyreg._extension_cache[code] = touch  # type: ignore[attr-defined]

    def undo() -> None:
        copyreg._extension_cache.pop(code, None)  # type: ignore[attr-defined]
        copyreg.remove_extension("os", "system", code)

    return undo


def four(value: int) -> bytes:
    return struct.pack("<I", value)
