"""The agent's end of a whole kernel: its ZMQ sockets on one side, the link on the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jupyter_gpu.transport.sockets import Sockets, zmq
from jupyter_gpu.wire.codec import BytesLike, encode
from jupyter_gpu.wire.errors import FrameGarbled
from jupyter_gpu.wire.messages import Activity, Jupyter, KernelTerms
from jupyter_gpu.wire.signed import Signer, body, join, split

from .aborts import Aborts
from .whole import connection

if TYPE_CHECKING:
    from .agent import Agent

_log = logging.getLogger(__name__)

_SENT = ("shell", "control", "stdin")


class Channels:
    """Frames pass as they are; those of the shell are looked at (``Aborts``), and those that say busy or idle."""

    def __init__(self, agent: Agent, folder: str, terms: KernelTerms) -> None:
        self._agent = agent
        self._signer = Signer(terms.key.encode(), terms.scheme)
        self._aborts = Aborts(self._signer)
        self._early: list[tuple[str, Sequence[BytesLike]]] | None = []
        self._sockets = Sockets(zmq.Context(), self._from_kernel)
        info = connection(folder, terms)
        identity = os.urandom(8).hex().encode()  # the same on all: an input_request goes to the identity that asked
        for name in (*_SENT, "iopub"):
            socket = self._sockets.add(name, zmq.SUB if name == "iopub" else zmq.DEALER, reconnect_ivl=1)
            if name == "iopub":
                socket.subscribe(b"")
            else:
                socket.identity = identity
            socket.connect(f"ipc://{info['ip']}-{info[name + '_port']}")
            self._sockets.watch(name)
        self._gone = self._sockets.monitor("iopub")

    # ------------------------------------------------------------ towards the kernel

    def from_client(self, message: Jupyter, frames: list[memoryview]) -> None:
        if message.channel not in _SENT:
            return
        if message.channel == "shell":
            try:
                instead = self._aborts.asked(split(frames), message.seen, self._agent.driver.link.peer_epoch)
            except FrameGarbled as error:
                _log.warning("dropped: %s", error)  # as a kernel does
                return
            for channel, said in instead:
                self._to_client(channel, said)
            if instead:
                return
        if self._early is not None:
            self._early.append((message.channel, frames))
        else:
            self._sockets.send(message.channel, frames)

    def shut_down(self) -> None:
        """Ask the kernel to end, as its client would."""
        request = body("shutdown_request", {"restart": False}, session="jupyter-gpu")
        self._sockets.send("control", join([], self._signer, request))

    # ------------------------------------------------------------ from the kernel

    def _from_kernel(self, channel: str, frames: list[bytes]) -> None:
        if channel == "iopub":
            if self._early is not None:  # subscribed: from here on nothing that it publishes is missed
                early, self._early = self._early, None
                for name, waiting in early:
                    self._sockets.send(name, waiting)
            if frames[0].endswith(b".status"):
                self._status(frames)
            elif b'"iopub_welcome"' in frames[min(2, len(frames) - 1)]:
                return  # the client's end says this to each of its own subscribers
        elif channel == "shell":
            with contextlib.suppress(FrameGarbled):
                self._aborts.answered(split(frames))
        self._to_client(channel, frames)

    def _to_client(self, channel: str, frames: Sequence[BytesLike]) -> None:
        self._agent.tell_client(encode(Jupyter(channel=channel, seen=self._aborts.failures), frames))

    def _status(self, frames: list[bytes]) -> None:
        """What the gateway counts as work is cells, not what front ends ask about the kernel."""
        with contextlib.suppress(FrameGarbled):
            message = split(frames)
            if message.parent.msg_type == "execute_request":
                self._agent.busy = b'"busy"' in message.body[3]
                self._agent.driver.notify(Activity(busy=self._agent.busy))

    # ------------------------------------------------------------ ends and pauses

    def pause_reading(self) -> None:
        self._sockets.pause("iopub")

    def resume_reading(self) -> None:
        self._sockets.resume("iopub")

    async def last_words(self, within: float) -> None:
        """Read what a kernel said that is gone: until its end of the socket is closed."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        while loop.time() < end and not self._gone():
            await asyncio.sleep(0.002)
        for name in ("iopub", *_SENT):
            self._sockets.drain(name)

    def close(self) -> None:
        self._sockets.close()
        self._sockets.context.term()
