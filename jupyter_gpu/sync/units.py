"""Sizes as people write and read them."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def human_bytes(count: float) -> str:
    """``3.2 MB``; powers of 1,000."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 999.5:
            return (
                f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.2g} {unit}" if count < 9.95 else f"{count:.0f} {unit}"
            )
        count /= 1000
    return f"{count:,.1f} TB"


def parse_bytes(text: str) -> int | None:
    """``256MB``, ``1.5 GiB``, ``4096``: bytes. None: it is no size."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].lower()])
