"""What ipykernel takes for its ZMQ sockets: each sends to the agent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import zmq
from jupyter_client.session import DELIM

from jupyter_gpu.wire.codec import encode
from jupyter_gpu.wire.messages import Jupyter

from .pipe import Pipe

ZmqFrame: Any = zmq.Frame  # type: ignore[attr-defined]  # pyzmq exports it without saying so

#: Messages about a request that ``CellDone`` tells: not sent.
_SILENT = (b".status", b".execute_input")


class Outlet:
    """One channel. Nothing goes out before it has its pipe."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.pipe: Pipe | None = None
        self.on_reply: Callable[[Sequence[Any]], bool] | None = None
        self.before: Callable[[], None] | None = None  #: called before anything but a stream goes out

    def send_multipart(self, parts: Sequence[Any], *args: Any, **kwargs: Any) -> None:
        if self.pipe is None or (self.channel == "iopub" and parts[0].endswith(_SILENT)):
            return
        if self.before is not None and not parts[0].startswith(b"stream."):
            self.before()
        at = list(parts).index(DELIM)
        body = [p.bytes if isinstance(p, ZmqFrame) else p for p in parts[at + 2 :]]
        if self.on_reply is not None and self.on_reply(body):
            return
        self.pipe.send(encode(Jupyter(channel=self.channel), body))

    def send(self, part: Any, *args: Any, **kwargs: Any) -> None:
        """ZMQ's single-part send: nothing of ipykernel's needs it here."""


class NoChannelThread:
    """ipykernel asks which thread is the main one."""

    parent_thread = threading.main_thread()

    def __bool__(self) -> bool:
        return False
