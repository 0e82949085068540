"""Chunks to and from the client, piece by piece, on the kernel's main thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from jupyter_gpu.sync.bulk import Assembler, split, take
from jupyter_gpu.sync.squeeze import Meter, compress
from jupyter_gpu.transport.ring import PATIENCE, PAUSE, Ring
from jupyter_gpu.wire.codec import decode, encode, peek, size_of
from jupyter_gpu.wire.errors import FrameGarbled, SnapshotRefused
from jupyter_gpu.wire.messages import AnyMessage, Chunk

if TYPE_CHECKING:
    from .kernel import WorkerKernel


class Sending:
    """Of one kernel. What it sees of the link is how long the agent makes it wait, which is not at all before that has its arms full."""

    def __init__(self, kernel: WorkerKernel) -> None:
        self._kernel = kernel
        self._meter = Meter()
        self._stalled = False  # the client takes nothing out of the ring

    def send(self, digest: bytes, data: Any) -> None:
        pipe, ring = self._kernel.pipe, self._kernel.ring
        since, count = time.perf_counter(), 0
        packed: bool | None = None
        for piece, view in split(digest, data):
            if piece.size >= 0 and ring is not None and ring.is_shared and self._room(ring):
                with pipe.critical:  # what is in a slot must be told
                    pipe.send(encode(replace(piece, slot=ring.write(view), length=len(view))))
                continue
            if packed is None:
                packed = piece.size >= 0 and self._meter.pays(view)
            if packed:
                piece, view = replace(piece, packed=True, length=len(view)), memoryview(compress(view))
            parts = encode(piece, [view])
            pipe.send(parts)
            count += size_of(parts)
            if not packed and self._meter.seen(count, time.perf_counter() - since):
                packed, since, count = None, time.perf_counter(), 0

    def _room(self, ring: Ring) -> bool:
        """Wait a little for a slot; not again before there was one. An interrupt here loses nothing."""
        end = time.monotonic() + PATIENCE
        while not ring.has_room:
            if self._stalled or time.monotonic() > end:
                self._stalled = True
                return False
            time.sleep(PAUSE)
        self._stalled = False
        return True


class Receiving:
    """Of one kernel."""

    def __init__(self, kernel: WorkerKernel) -> None:
        self._kernel = kernel
        self._assembler = Assembler()
        kernel.pipe.place(self._place)

    def take(self, data: memoryview | list[memoryview]) -> tuple[AnyMessage, list[memoryview]] | None:
        """A message of the client's; None: a piece of a chunk of which more is to come, or one that is out of its place."""
        message, buffers = decode(data)
        if not isinstance(message, Chunk):
            return message, buffers
        try:
            whole = take(self._assembler, self._kernel.ring, message, buffers)
        except SnapshotRefused as error:  # the snapshot that needs it will be refused for lack of it
            self._kernel.log.error("%s", error)
            return None
        return None if whole is None else (Chunk(digest=whole[0]), [whole[1]])

    def _place(self, beginning: memoryview, size: int) -> tuple[int, int, memoryview] | None:
        """Where a piece of a chunk stays, so that it is received there."""
        try:
            found = peek(beginning, size)
            if found is None:
                return None
            message, ends, begins = found
            if not isinstance(message, Chunk) or message.size < 0 or message.slot >= 0 or message.packed:
                return None
            return ends, begins, self._assembler.place(message, size - begins)
        except (FrameGarbled, SnapshotRefused):
            return None  # whoever reads it says why
