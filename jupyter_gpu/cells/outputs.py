"""Outputs of remote cells on their way to the screen: each under the local cell that caused it, in order, text merged."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Any

import msgspec

from .envelope import Envelope
from .pace import Pace
from .sinks import Sink, send_iopub
from .sinks import publish as publish_raw

#: Seconds within which text of one stream is merged into one message. The first text after a silence goes at once.
MERGE = 0.03
#: Bytes of merged text that go without waiting for more.
FULL = 256 << 10
#: Cells of which late outputs still find their place.
REMEMBERED = 1000

_OUTPUTS = frozenset({"display_data", "update_display_data", "execute_result", "clear_output", "error"})


class _Plain(msgspec.Struct):
    plain: str = msgspec.field(name="text/plain", default="")


class _Result(msgspec.Struct):
    data: _Plain


class Publisher:
    """One for a shell, whichever sessions its cells run in, since order and rate are those of one notebook. Thread-safe."""

    def __init__(self, shell: Any, pace: Pace | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._shell = shell
        self._kernel = getattr(shell, "kernel", None)
        self._pace = pace or Pace()
        self._clock = clock
        self._lock = threading.RLock()
        self._places: OrderedDict[str, Sink] = OrderedDict()
        self._texts: list[str] = []
        self._size = 0
        self._to: tuple[str, str] = ("", "")  #: (parent msg_id, stream) of what is merged now
        self._parent: dict[str, Any] = {}
        self._sent_at = float("-inf")
        self._timer: threading.Timer | None = None
        self.running = 0  #: cells that pump; without any, a timer sends what was merged

    # ------------------------------------------------------------ cells

    def begin(self, run_id: str, sink: Sink) -> None:
        """Outputs whose parent is ``run_id`` go to ``sink``."""
        with self._lock:
            self._places[run_id] = sink
            self.running += 1
            while len(self._places) > REMEMBERED:
                self._places.popitem(last=False)

    def end(self, run_id: str) -> None:
        """The cell is over. What still comes from it (threads, callbacks) finds its place."""
        with self._lock:
            self.flush()
            self.running -= 1

    # ------------------------------------------------------------ messages

    def publish(self, envelope: Envelope) -> None:
        """A message of the remote iopub channel."""
        with self._lock:
            self._show(envelope)

    def due(self) -> float | None:
        """Seconds until ``flush_if_due`` is to be called; None: nothing is held back."""
        return max(0.0, self._sent_at + MERGE - self._clock()) if self._texts else None

    def flush_if_due(self) -> None:
        if self._texts and self._sent_at + MERGE <= self._clock():
            self.flush()

    def flush(self) -> None:
        """Send the text that was merged so far."""
        with self._lock:
            if not self._texts:
                return
            text = "".join(self._texts)
            self._texts, self._size = [], 0
            self._pace.before(text, may_wait=self.running > 0)
            parent_id, name = self._to
            sink = self._places.get(parent_id)
            if sink is not None:
                sink.stream(name, text)
            elif self._kernel is not None:
                send_iopub(self._kernel, "stream", {"name": name, "text": text}, self._parent, f"stream.{name}")
            self._sent_at = self._clock()

    # ------------------------------------------------------------ inside

    def _text(self, envelope: Envelope, name: str, text: str) -> None:
        to = (envelope.parent_id, name)
        if self._texts and to != self._to:
            self.flush()
        if not self._texts:
            self._to = to
            if envelope.parent_id not in self._places:
                self._parent = envelope.parent
        self._texts.append(text)
        self._size += len(text)
        if self._size >= FULL or self._sent_at + MERGE <= self._clock():
            self.flush()
        elif not self.running:
            self._flush_later()

    def _flush_later(self) -> None:
        if self._timer is None or not self._timer.is_alive():
            self._timer = threading.Timer(MERGE, self.flush)
            self._timer.daemon = True
            self._timer.start()

    def _show(self, envelope: Envelope) -> None:
        if envelope.kind == "stream":
            content = envelope.stream()
            self._text(envelope, content.name, content.text)
            return
        self.flush()
        self._pace.before(may_wait=self.running > 0)
        sink = self._places.get(envelope.parent_id)
        if envelope.kind == "execute_result" and sink is not None:
            self._remember(envelope)
        if sink is not None and envelope.kind in _OUTPUTS:
            sink.message(envelope)
        elif self._kernel is not None:
            # The parent is a message of a front end's that was passed on (a widget's), or nobody's.
            publish_raw(self._kernel, envelope, getattr(sink, "parent", None) or envelope.parent)

    def _remember(self, envelope: Envelope) -> None:
        """In IPython's history, as a local displayhook does."""
        history = getattr(self._shell, "history_manager", None)
        if history is None:
            return
        try:
            text = msgspec.json.decode(envelope.raw[3], type=_Result).data.plain
        except msgspec.DecodeError:
            return  # NaN, which JSON does not know: shown all the same
        history.output_hist_reprs[self._shell.displayhook.prompt_count] = text
