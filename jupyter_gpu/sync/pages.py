"""Whether large memory was written since its digest was taken, without reading it: Linux 6.7 and later tells, page by page.

Asynchronous write protection of userfaultfd, and the PAGEMAP_SCAN ioctl (both in the kernel's admin-guide/mm). The kernel itself
lifts the protection at the first write to a page, and remembers it; nobody waits. Without the feature, or without the right to
use it, all is read and hashed as before.

What it costs: the first write to each page of 4 KiB that is watched, about 0.4 ms for a MiB, ten times what hashing it takes. So
only memory that was hashed in vain a few times is watched, and memory that was written all the same gets more patience each time.

What it cannot see is a device that writes by itself to memory that was pinned before: nothing is watched in a process that has
loaded a driver which does that, and only private anonymous memory is, since others may write to what is shared.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass
from time import monotonic

from .chunks import digest

#: Bytes from which it is worth the while.
LEAST = 1 << 20
#: Times that memory has to be found unchanged before it is watched.
PATIENCE = 2
_MOST_PATIENCE = 1 << 10
_MOST = 256
_SYSCALL = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY = 1
_API, _REGISTER, _UNREGISTER, _PROTECT, _SCAN = 0xC018AA3F, 0xC020AA00, 0x8010AA01, 0xC018AA06, 0xC0606610
_WP_UNPOPULATED, _WP_ASYNC = 1 << 13, 1 << 15
_WRITTEN, _PRESENT = 1 << 1, 1 << 3
_ONLY_WATCHED = 1 << 1  # PM_SCAN_CHECK_WPASYNC: an error for memory that is not, which is new then
_PINNING = (b"libcuda.so.1", b"libhsa-runtime64.so.1", b"libze_loader.so.1", b"libibverbs.so.1")


@dataclass
class _Range:
    digest: bytes
    start: int  #: of its first page
    end: int  #: of its last page
    same: int = 0  #: times in a row that it was hashed and had not changed
    patience: int = PATIENCE
    watched: bool = False


class Pages:
    """Digests of memory by its place. One for a process; a fork starts afresh."""

    def __init__(self) -> None:
        self.skipped = 0  #: bytes that were not read
        self._ranges: OrderedDict[tuple[int, int], _Range] = OrderedDict()
        self._fault: int | None = None  #: file descriptors; -1: not to be had
        self._map = -1
        self._drivers: _Drivers | None = None
        self._lock = threading.Lock()

    def digest(self, buffer: memoryview) -> bytes:
        """As ``chunks.digest``, of contiguous memory."""
        size = buffer.nbytes
        numpy = sys.modules.get("numpy")
        if size < LEAST or self._fault == -1 or numpy is None:
            return digest(buffer)
        key = int(numpy.frombuffer(buffer, numpy.uint8).__array_interface__["data"][0]), size
        with self._lock:
            return self._digest(key, buffer)

    def _digest(self, key: tuple[int, int], buffer: memoryview) -> bytes:
        found = self._ranges.get(key)
        if found is None:
            now = digest(buffer)
            self._keep(key, now)
            return now
        self._ranges.move_to_end(key)
        if found.watched:
            if self._is_untouched(found):
                self.skipped += buffer.nbytes
                return found.digest
            self._leave(found)
            found.patience, found.same = min(2 * found.patience, _MOST_PATIENCE), 0
            protected = False
        else:
            protected = found.same >= found.patience and self._watch(found)  # before the digest: a write in between shows
        now = digest(buffer)
        found.same = found.same + 1 if now == found.digest else 0
        found.digest, found.watched = now, protected  # together, at the very end: an interrupt leaves it as not watched
        return now

    def close(self) -> None:
        """Stop watching; of no use afterwards."""
        for handle in (self._fault, self._map):
            if handle is not None and handle >= 0:
                os.close(handle)
        self._ranges.clear()
        self._fault = self._map = -1

    # ------------------------------------------------------------ ranges

    def _keep(self, key: tuple[int, int], now: bytes) -> None:
        page = _PAGE
        self._ranges[key] = _Range(now, key[0] // page * page, -(-sum(key) // page) * page)
        if len(self._ranges) > _MOST:
            _, oldest = self._ranges.popitem(last=False)
            self._leave(oldest)

    def _watch(self, wanted: _Range) -> bool:
        if not self._open() or self._drivers is None or self._drivers.are_loaded() or not _is_private(wanted.start, wanted.end):
            return False
        for other in self._ranges.values():  # what it has to tell of pages that it shares with this one is lost now
            if other.watched and other.start < wanted.end and wanted.start < other.end:
                self._leave(other)
        length = wanted.end - wanted.start
        try:
            assert self._fault is not None
            fcntl.ioctl(self._fault, _REGISTER, bytearray(struct.pack("4Q", wanted.start, length, 2, 0)))
            fcntl.ioctl(self._fault, _PROTECT, bytearray(struct.pack("3Q", wanted.start, length, 1)))
        except OSError:
            return False
        return True

    def _leave(self, watched: _Range) -> None:
        if not watched.watched:
            return
        watched.watched = False
        try:
            assert self._fault is not None
            fcntl.ioctl(self._fault, _UNREGISTER, bytearray(struct.pack("2Q", watched.start, watched.end - watched.start)))
        except OSError:
            pass  # it was unmapped meanwhile

    def _is_untouched(self, watched: _Range) -> bool:
        if self._drivers is None or self._drivers.are_loaded():
            return False
        region = (ctypes.c_uint64 * 3)()  # room for one: whether there is any is the question
        # A page that is not there counts as written: madvise may have dropped what was in it, and then it reads as zeros.
        masks = (_PRESENT, 0, _WRITTEN | _PRESENT, _WRITTEN)
        ask = struct.pack("12Q", 96, _ONLY_WATCHED, watched.start, watched.end, 0, ctypes.addressof(region), 1, 0, *masks)
        try:
            return bool(fcntl.ioctl(self._map, _SCAN, bytearray(ask)) == 0)
        except OSError:
            return False

    def _open(self) -> bool:
        """Whether the kernel does it, and lets us."""
        if self._fault is None:
            self._fault = -1
            number = _SYSCALL.get(platform.machine())
            if sys.platform != "linux" or number is None:
                return False
            fault = ctypes.CDLL(None, use_errno=True).syscall(number, os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY)
            if fault < 0:
                return False
            try:
                fcntl.ioctl(fault, _API, bytearray(struct.pack("3Q", 0xAA, _WP_ASYNC | _WP_UNPOPULATED, 0)))
                self._map = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                os.close(fault)
                return False
            self._fault, self._drivers = fault, _Drivers()
        return self._fault >= 0


_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def _is_private(start: int, end: int) -> bool:
    """Whether all of it is mapped, private and anonymous."""
    reached = start
    with open("/proc/self/maps") as lines:
        for line in lines:
            place, access, _, _, inode, *_ = line.split()
            first, last = (int(part, 16) for part in place.split("-"))
            if last <= start or first >= end:
                continue
            if first > reached or access[3] != "p" or inode != "0":
                return False
            reached = last
    return reached >= end


class _Drivers:
    """Whether a driver is loaded that lets devices write to memory. To ask costs as much as a scan: an answer holds for 10 ms."""

    def __init__(self) -> None:
        self._until = 0.0
        self._loaded = False
        self._library = ctypes.CDLL(None)
        self._library.dlopen.restype = ctypes.c_void_p

    def are_loaded(self) -> bool:
        if not self._loaded and (now := monotonic()) >= self._until:
            self._loaded = any(self._library.dlopen(name, os.RTLD_NOLOAD | os.RTLD_LAZY) for name in _PINNING)
            self._until = now + 0.01
        return self._loaded


pages = Pages()


def _after_fork() -> None:
    global pages
    pages.close()
    pages = Pages()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
