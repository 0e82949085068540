"""Memory that shows a file, privately: whether something was written to it since it was mapped, without reading it.

A page of a private mapping is the file's until the first write to it; then it is a copy, which belongs to the process, and the system's
table of pages says so. What shows the file still has the file's name, and need not be hashed to be known.
"""

from __future__ import annotations

import mmap
import os
import weakref

_PAGE = mmap.PAGESIZE
_ENTRY = 8
#: Entries of ``/proc/self/pagemap`` (Documentation/admin-guide/mm/pagemap.rst): bit 63 there, 62 swapped out, 61 the file's.
_PRESENT, _SWAPPED, _FILE = 1 << 63, 1 << 62, 1 << 61
#: Pages that are looked at in one go.
_BLOCK = 1 << 16

#: (address, bytes) -> (the mapping, name).
_known: dict[tuple[int, int], tuple[weakref.ref[mmap.mmap], bytes]] = {}


def address_of(view: memoryview) -> int:
    import numpy

    return int(numpy.frombuffer(view, numpy.uint8).__array_interface__["data"][0])


def remember(memory: mmap.mmap, name: bytes) -> None:
    """``memory`` was mapped from a file of this name just now."""
    for key in [key for key, (held, _) in _known.items() if held() is None]:
        del _known[key]
    _known[address_of(memoryview(memory)), len(memory)] = weakref.ref(memory), name


def name_of(view: memoryview) -> bytes | None:
    """The name of the file that these bytes show, all of it, and as it was; None: read them."""
    if not _known or not view.nbytes:
        return None
    at = address_of(view)
    held, name = _known.get((at, view.nbytes), (None, b""))
    if held is None or held() is None or not _is_untouched(at, view.nbytes):
        return None
    return name


def _is_untouched(at: int, size: int) -> bool:
    import numpy

    count = -(-size // _PAGE)
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as table:
            for first in range(0, count, _BLOCK):
                wanted = min(_BLOCK, count - first)
                data = os.pread(table.fileno(), wanted * _ENTRY, (at // _PAGE + first) * _ENTRY)
                entries = numpy.frombuffer(data, numpy.uint64)
                if len(entries) != wanted:
                    return False
                ours = (entries & numpy.uint64(_PRESENT) != 0) & (entries & numpy.uint64(_FILE) == 0)
                if ours.any() or (entries & numpy.uint64(_SWAPPED)).any():
                    return False
    except OSError:
        return False
    return True
