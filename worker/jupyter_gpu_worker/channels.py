"""The agent's end of a whole kernel: its ZMQ sockets on one side, the link on the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jupyter_gpu.transport.sockets import Sockets, zmq
from jupyter_gpu.wire.codec import BytesLike, encode
from jupyter_gpu.wire.errors import FrameGarbled
from jupyter_gpu.wire.messages import Activity, Jupyter, KernelHello, KernelTerms
from jupyter_gpu.wire.signed import Signer, body, join, split

from . import versions
from .aborts import Aborts
from .whole import connection

if TYPE_CHECKING:
    from .agent import Agent

_log = logging.getLogger(__name__)

_SENT = ("stdin", "control", "shell")
#: Clients of which there are sockets; one that was forgotten gets new ones with its next message.
_MOST = 64


class Channels:
    """Frames pass as they are; those of the shell are looked at (``Aborts``), and those that say busy or idle."""

    def __init__(self, agent: Agent, folder: str, terms: KernelTerms) -> None:
        self._agent = agent
        self._signer = Signer(terms.key.encode(), terms.scheme)
        self._aborts = Aborts(self._signer)
        self._early: list[tuple[str, Sequence[BytesLike]]] | None = []
        self._sockets = Sockets(zmq.Context(), self._from_kernel)
        self._info = connection(folder, terms)
        self._clients: dict[bytes, bytes] = {}  # identity at the kernel -> that of the client, the least recent first
        socket = self._sockets.add("iopub", zmq.SUB, reconnect_ivl=1)
        socket.subscribe(b"")
        self._connect("iopub", "iopub", socket)
        self._gone = self._sockets.monitor("iopub")

    def _connect(self, name: str, channel: str, socket: Any) -> None:
        socket.connect(f"ipc://{self._info['ip']}-{self._info[channel + '_port']}")
        self._sockets.watch(name)

    def _client(self, found: bytes) -> str:
        """Sockets of this client's own, with its identity: the kernel sees its clients as if they were here."""
        # One that begins with a zero was made by ZMQ, and is not for others to use.
        identity = b"z" + found.hex().encode() if found[:1] in (b"", b"\0") else found
        name = identity.hex()
        if identity in self._clients:
            self._clients[identity] = self._clients.pop(identity)
            return name
        self._clients[identity] = found
        for channel in _SENT:  # stdin first: it is asked for by who sends on shell
            socket = self._sockets.add(f"{channel} {name}", zmq.DEALER, reconnect_ivl=1, identity=identity)
            self._connect(f"{channel} {name}", channel, socket)
        if len(self._clients) > _MOST:
            oldest = next(iter(self._clients))
            del self._clients[oldest]
            self._sockets.close(*(f"{channel} {oldest.hex()}" for channel in _SENT))
        return name

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
        name = f"{message.channel} {self._client(bytes(frames[0]))}"
        if self._early is not None:
            self._early.append((name, frames[1:]))
        else:
            self._sockets.send(name, frames[1:])

    def shut_down(self) -> None:
        """Ask the kernel to end, as its client would."""
        request = body("shutdown_request", {"restart": False}, session="jupyter-gpu")
        self._sockets.send(f"control {self._client(b'jupyter-gpu')}", join([], self._signer, request))

    # ------------------------------------------------------------ from the kernel

    def _from_kernel(self, name: str, frames: list[bytes]) -> None:
        channel, _, client = name.partition(" ")
        if client:
            frames = [self._clients[bytes.fromhex(client)], *frames]
        if channel == "iopub":
            if self._early is not None:  # subscribed: from here on nothing that it publishes is missed
                early, self._early = self._early, None
                self._agent.tell_client(encode(KernelHello(pid=self._agent.kernel_pid, versions=versions.here(), cwd="", whole=True)))
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
        for name in self._sockets.names():
            self._sockets.drain(name)

    def close(self) -> None:
        self._sockets.close()
        self._sockets.context.term()
