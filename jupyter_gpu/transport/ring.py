"""Shared memory between a client and a kernel on one host: pieces of chunks lie in its slots, and their messages say in which.

The kernel makes the memory and offers it; a client that can open it, and finds in it what the kernel said, is on the same host and the
same user. It has no name: it is gone with the two processes, however they end. What anybody but these two sees of a piece is its
message, on the link, which keeps order and exactly once.

Memory: ``nonce`` (16 bytes) | u64 1: the client is there | at 64 and 128: u64 slots freed by the kernel, and by the client | at 4096:
slots of the client's, then of the kernel's. Each direction uses its slots in turn, and counts for ever.
"""

from __future__ import annotations

import mmap
import os
import stat

from ..wire.codec import BytesLike
from ..wire.errors import SnapshotRefused
from ..wire.messages import RingOffer

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows
    fcntl = None  # type: ignore[assignment]

_SEALS = 0x1 | 0x2 | 0x4  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW

#: "0": no shared memory is offered, nor used.
SWITCH = "JUPYTER_GPU_RING"

#: Seconds for which a sender waits for a slot before it goes by the link, and between two looks.
PATIENCE, PAUSE = 0.05, 0.0003
SLOTS = 12
SLOT = 1 << 20
_HEAD = 4096
_SIZE = _HEAD + 2 * SLOTS * SLOT
_ATTACHED = 2
_FREED = (8, 16)  #: words, by the side that wrote the slots; whoever reads them counts
_CLIENT, _KERNEL = 0, 1


class Ring:
    """One end. ``fd``: of the memory, at the kernel."""

    def __init__(self, memory: mmap.mmap, side: int, fd: int = -1) -> None:
        self.fd = fd
        self._memory = memory
        self._side = side
        self._words = memoryview(memory)[:_HEAD].cast("Q")
        self._written = 0
        self._read = 0

    @property
    def is_shared(self) -> bool:
        """The client has it too."""
        return self._words[_ATTACHED] == 1

    @property
    def has_room(self) -> bool:
        """There is a slot to write to."""
        return self._written - self._words[_FREED[self._side]] < SLOTS

    def write(self, data: BytesLike) -> int:
        """Copy at most ``SLOT`` bytes into the next slot; gives its number, which the peer must be told. Only if there is room."""
        at = self._at(self._side, self._written)
        memoryview(self._memory)[at : at + len(data)] = data
        self._written += 1
        return self._written - 1

    def read(self, slot: int, size: int) -> memoryview:
        """What the peer wrote; it may write there again after ``free()``. Raises ``SnapshotRefused``."""
        if slot != self._read or not 0 < size <= SLOT:
            raise SnapshotRefused(reason=f"slot {slot} of the shared memory where slot {self._read} was due")
        at = self._at(1 - self._side, slot)
        return memoryview(self._memory)[at : at + size]

    def free(self) -> None:
        """What ``read`` gave was copied."""
        self._read += 1
        self._words[_FREED[1 - self._side]] = self._read

    def _at(self, side: int, slot: int) -> int:
        return _HEAD + (side * SLOTS + slot % SLOTS) * SLOT


def make() -> tuple[Ring, RingOffer] | None:
    """The kernel's end; None: not here."""
    if os.environ.get(SWITCH) == "0" or not hasattr(os, "memfd_create"):
        return None
    try:
        fd = os.memfd_create("jupyter-gpu", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return None
    try:
        os.ftruncate(fd, _SIZE)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        ring = Ring(mmap.mmap(fd, _SIZE), _KERNEL, fd)
    except OSError:
        os.close(fd)
        return None
    nonce = os.urandom(16)
    memoryview(ring._memory)[:16] = nonce
    return ring, RingOffer(pid=os.getpid(), fd=fd, nonce=nonce)


def join(offer: RingOffer | None) -> Ring | None:
    """The client's end; None: the kernel is elsewhere, or somebody else's, or what it offers is not what it says."""
    if offer is None or os.environ.get(SWITCH) == "0" or fcntl is None or not hasattr(fcntl, "F_GET_SEALS"):
        return None
    try:
        # Not to be held up by what is no memory at all.
        fd = os.open(f"/proc/{offer.pid:d}/fd/{offer.fd:d}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        # Sealed: else the peer could take away the memory under this process.
        if not stat.S_ISREG(found.st_mode) or found.st_size != _SIZE or fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            return None
        memory = mmap.mmap(fd, _SIZE)
    except (OSError, ValueError):
        return None
    finally:
        os.close(fd)
    if memory[:16] != offer.nonce:
        memory.close()
        return None
    ring = Ring(memory, _CLIENT)
    ring._words[_ATTACHED] = 1
    return ring
