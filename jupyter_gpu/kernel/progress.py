"""How a move goes on, under the cell that asked for it: one output, which changes."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from ..wire.codec import BytesLike

if TYPE_CHECKING:
    from .shim import Shim

#: Seconds between two changes.
_PACE = 0.1


class Progress:
    """``parent``: header of the cell; None: there is none, and nothing is shown."""

    def __init__(self, shim: Shim, parent: BytesLike | None, to: str) -> None:
        self._shim = shim
        self._parent = parent
        self._to = to
        self._display = uuid.uuid4().hex
        self._began = self._last = time.monotonic()
        self._shown = False

    def phase(self, text: str) -> None:
        """Something else begins."""
        self._last = time.monotonic()
        self._show(f"moving to {self._to}: {text} · {self._last - self._began:.1f} s")

    def goes_on(self, text: str) -> None:
        if time.monotonic() - self._last > _PACE:
            self.phase(text)

    def end(self, text: str) -> None:
        self._show(text)

    def _show(self, text: str) -> None:
        if self._parent is None:
            return
        kind = "update_display_data" if self._shown else "display_data"
        self._shown = True
        content = {"data": {"text/plain": text}, "metadata": {}, "transient": {"display_id": self._display}}
        self._shim.publish(kind, content, self._parent)
