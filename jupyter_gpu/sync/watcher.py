"""Which pages of memory were written: Linux 6.7 and later tells, without that anybody reads them.

Asynchronous write protection of userfaultfd, and the PAGEMAP_SCAN ioctl (both in the kernel's admin-guide/mm). The kernel itself
lifts the protection at the first write to a page, and remembers it; nobody waits.

What it cannot see is a device that writes by itself to memory that was pinned before: nothing is watched in a process that has
loaded a driver which does that, and only private anonymous memory is, since others may write to what is shared.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
import sys
from time import monotonic

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_SYSCALL = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY = 1
_API, _REGISTER, _UNREGISTER, _SCAN, _MAPPING = 0xC018AA3F, 0xC020AA00, 0x8010AA01, 0xC0606610, 0xC0686611
_WP_UNPOPULATED, _WP_ASYNC = 1 << 13, 1 << 15
_WRITTEN, _PRESENT = 1 << 1, 1 << 3
_PROTECT, _ONLY_WATCHED = 1 << 0, 1 << 1  # PM_SCAN_WP_MATCHING; PM_SCAN_CHECK_WPASYNC: an error for memory that is not, which is new then
_SHARED = 1 << 3
_PINNING = (b"libcuda.so.1", b"libhsa-runtime64.so.1", b"libze_loader.so.1", b"libibverbs.so.1")
#: Regions that one scan may find.
_ROOM = 512

#: Addresses: from, to.
Regions = list[tuple[int, int]]


class Watcher:
    """The system's side. All addresses are those of whole pages."""

    def __init__(self) -> None:
        self._fault: int | None = None  #: file descriptors; -1: not to be had
        self._map = self._mappings = -1
        self._drivers: Drivers | None = None
        self._found = (ctypes.c_uint64 * (3 * _ROOM))()
        self.asks = False  #: whether the system answers what a mapping is, which is a text of a thousand lines otherwise

    @property
    def refused(self) -> bool:
        """Whether it is known that the system does not do it, or not for us."""
        return self._fault == -1

    def is_open(self) -> bool:
        """Whether the system does it, lets us, and sees all that writes."""
        return self._open() and self._drivers is not None and not self._drivers.are_loaded()

    def protect(self, start: int, end: int) -> Regions:
        """Watch from now on, and tell of what was watched already and is written: all of it counts as not written from now on. Raises
        ``OSError`` for what cannot be watched."""
        if not self.is_open() or not self._is_private(start, end):
            raise OSError(errno.EPERM, "others may write to it")
        assert self._fault is not None
        fcntl.ioctl(self._fault, _REGISTER, bytearray(struct.pack("4Q", start, end - start, 2, 0)))
        return self.written(start, end)[0]

    def written(self, start: int, end: int, most: int | None = None) -> tuple[Regions, bool]:
        """What was written since it was last asked, and whether that is all (``most``: pages after which it is enough). These pages
        are protected again before this returns, each of them in the instant in which it is found written: a write before it is told
        of now, and one after it the next time. Raises ``OSError`` for what is not watched."""
        found, left, size = self._found, most, 0
        regions: Regions = []
        while True:
            # A page that is not there counts as written: madvise may have dropped what was in it, and then it reads as zeros.
            masks = (_PRESENT, 0, _WRITTEN | _PRESENT, _WRITTEN)
            limit = 0 if left is None else left + 1
            flags = _PROTECT | _ONLY_WATCHED
            ask = bytearray(struct.pack("12Q", 96, flags, start, end, 0, ctypes.addressof(found), _ROOM, limit, *masks))
            count = fcntl.ioctl(self._map, _SCAN, ask)
            if not count:
                return regions, True
            numbers = found[: 3 * count]
            regions += zip(numbers[0::3], numbers[1::3])
            size = sum(last - first for first, last in regions) // PAGE
            if most is not None and size > most:
                return regions, False
            left = None if most is None else most - size
            start = int.from_bytes(ask[32:40], sys.byteorder)
            if start >= end:
                return regions, True

    def release(self, start: int, end: int) -> None:
        try:
            assert self._fault is not None
            fcntl.ioctl(self._fault, _UNREGISTER, bytearray(struct.pack("2Q", start, end - start)))
        except OSError:
            pass  # it was unmapped meanwhile

    def close(self) -> None:
        """Stop watching; of no use afterwards."""
        for handle in (self._fault, self._map, self._mappings):
            if handle is not None and handle >= 0:
                os.close(handle)
        self._fault = self._map = self._mappings = -1

    def _open(self) -> bool:
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
                self._mappings = os.open("/proc/self/maps", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                os.close(fault)
                return False
            self._fault, self._drivers = fault, Drivers()
            place = ctypes.addressof(self._found)
            self.asks = self._mapping(place) is not None
        return self._fault >= 0

    def _is_private(self, start: int, end: int) -> bool:
        """Whether all of it is mapped, private and anonymous."""
        if not self.asks:
            return is_private(start, end)
        while start < end:
            found = self._mapping(start)
            if found is None or not found[1]:
                return False
            start = found[0]
        return True

    def _mapping(self, place: int) -> tuple[int, bool] | None:
        """(Where the mapping ends that is at a place, whether it is private and anonymous): PROCMAP_QUERY, since Linux 6.11."""
        ask = bytearray(struct.pack("3Q", 104, 0, place)) + bytes(80)
        try:
            fcntl.ioctl(self._mappings, _MAPPING, ask)
        except OSError:
            return None
        _, end, flags, _, _, inode = struct.unpack_from("6Q", ask, 24)
        return end, not flags & _SHARED and not inode


def is_private(start: int, end: int) -> bool:
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


class _Library(ctypes.Structure):
    """``struct dl_phdr_info``."""

    _fields_ = (
        ("place", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("headers", ctypes.c_void_p),
        ("count", ctypes.c_uint16),
        ("loaded", ctypes.c_ulonglong),
        ("unloaded", ctypes.c_ulonglong),
    )


_Look = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Library), ctypes.c_size_t, ctypes.c_void_p)


class Drivers:
    """Whether a driver is loaded that lets devices write to memory. To ask for one searches the disk, 0.3 ms: so it is done only after
    a library was loaded, of which the loader keeps count."""

    def __init__(self) -> None:
        self._loaded = False
        self._seen = -1
        self._until = 0.0
        self._count = 0
        # The interpreter's lock is kept: the loader holds one of its own meanwhile, for which another thread may wait that imports.
        self._library = ctypes.PyDLL(None)
        self._library.dlopen.restype = ctypes.c_void_p
        self._look = _Look(self._note)

    def are_loaded(self) -> bool:
        if not self._loaded and (count := self._libraries()) != self._seen:
            self._loaded = any(self._library.dlopen(name, os.RTLD_NOLOAD | os.RTLD_LAZY) for name in _PINNING)
            self._seen = count
        return self._loaded

    def _libraries(self) -> int:
        """How many were loaded so far. Where the loader does not tell, another number every 10 ms."""
        self._count = 0
        self._library.dl_iterate_phdr(self._look, None)
        return self._count or -int(monotonic() * 100) - 2

    def _note(self, library: ctypes._Pointer[_Library], size: int, _: int | None) -> int:
        if size >= ctypes.sizeof(_Library):
            self._count = library.contents.loaded
        return 1  # it is the same with each: one is enough
