"""Compression of pieces (zstd), only where that is sooner there: tried on a part, and held against the rate of the link as it was
measured."""

from __future__ import annotations

import sys
import time
from typing import Any

from ..wire.errors import SnapshotRefused

#: Bytes that are tried.
_SAMPLE = 128 << 10
#: What compression must win at least: its estimate is one.
_GAIN = 0.8
_LEVEL = 1
_WINDOW = 8 << 20
#: Seconds for which a measured rate is believed.
_VALID = 60.0
#: Bytes of which the rate is told. What is less says more of buffers than of the link.
_MEASURED = 2 << 20

if sys.version_info >= (3, 14):

    def compress(data: memoryview) -> bytes:
        from compression import zstd

        return zstd.compress(data, _LEVEL)

    def decompress(data: memoryview, size: int) -> memoryview:
        """Exactly ``size`` bytes, and never more memory than that. Raises ``SnapshotRefused``."""
        from compression import zstd

        it = zstd.ZstdDecompressor()
        try:
            found = it.decompress(data, size)
        except (zstd.ZstdError, ValueError, OverflowError) as error:
            raise _refused(str(error)) from None
        if not it.eof or it.unused_data or len(found) != size:
            raise _refused(f"it is not of {size} bytes")
        return memoryview(found)
else:

    def compress(data: memoryview) -> bytes:
        import zstandard

        return zstandard.ZstdCompressor(level=_LEVEL).compress(data)

    def decompress(data: memoryview, size: int) -> memoryview:
        """Exactly ``size`` bytes, and never more memory than that. Raises ``SnapshotRefused``."""
        import zstandard

        try:
            if zstandard.frame_content_size(data) != size:  # it would be believed, whatever limit is given
                raise _refused(f"it is not of {size} bytes")
            found = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompress(data, max_output_size=size, allow_extra_data=False)
        except (zstandard.ZstdError, ValueError, OverflowError) as error:
            raise _refused(str(error)) from None
        if len(found) != size:
            raise _refused(f"it is not of {size} bytes")
        return memoryview(found)


def _refused(why: str) -> SnapshotRefused:
    return SnapshotRefused(reason=f"a piece of a chunk cannot be decompressed: {why}")


class Meter:
    """The rate of a link, in bytes per second, as it was last seen when it had always something to do. 0: not known."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._at = 0.0

    @property
    def rate(self) -> float:
        return self._rate if time.monotonic() - self._at < _VALID else 0.0

    def seen(self, count: int, seconds: float) -> bool:
        """``count`` bytes got through in ``seconds``. False: too few to tell."""
        if count < _MEASURED or seconds <= 0:
            return False
        self._rate, self._at = count / seconds, time.monotonic()
        return True

    def pays(self, data: Any) -> bool:
        """Whether to compress a chunk that looks like this piece of it."""
        rate = self.rate
        if not rate:
            return False
        sample = memoryview(data)
        start = max(0, (len(sample) - _SAMPLE) // 2)
        sample = sample[start : start + _SAMPLE]
        began = time.perf_counter()
        share = len(compress(sample)) / len(sample)
        took = (time.perf_counter() - began) / len(sample)
        return took + share / rate < _GAIN / rate
