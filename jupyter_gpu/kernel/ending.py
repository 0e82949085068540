"""How a kernel behind a shim ends: it is interrupted, asked to end, restarted, or left where it is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..wire.errors import FrameGarbled, JupyterGpuError
from ..wire.signed import Signer, split

if TYPE_CHECKING:
    from ..wire.codec import BytesLike
    from .channels import Channels
    from .kept import Kept, Record
    from .messages import Voice
    from .publisher import Publisher
    from .remote import Remote

#: Seconds for a kernel to end by itself before its session is ended; longer than a manager's patience, who then kills.
_GRACE = 10.0
#: Seconds for a gateway to hear of it.
_STOP = 4.0
#: Seconds between two looks whether whoever started this process is still there.
_PARENT = 1.0


class Ending(ABC):
    """A shim's ways to its end, for ``Shim``, whose attributes these are."""

    _ended: asyncio.Future[int]
    _open: bool
    _leaving: bool
    _asked_to_end: bool
    _seen: int
    _remote: Remote | None
    _kept: Kept | None
    _record: Record
    _channels: Channels
    _publisher: Publisher
    _voice: Voice
    _signer: Signer
    _far: Signer | None

    @abstractmethod
    def _spawn(self, coroutine: object) -> None:
        """As a task that ends with the shim."""

    @staticmethod
    @abstractmethod
    def _sign(frames: Sequence[BytesLike], by: Signer, anew: Signer | None) -> Sequence[BytesLike]:
        """As they are, unless the two ends sign with different keys."""

    def _interrupt(self) -> None:
        if self._open and self._remote is not None:
            with contextlib.suppress(JupyterGpuError):
                self._remote.signal(signal.SIGINT)

    async def _terminate(self) -> None:
        """The kernel gets the signal itself, and may do something about it; not for ever."""
        if self._open and self._remote is not None and not self._leaving:
            self._asked_to_end = True
            with contextlib.suppress(JupyterGpuError):
                self._remote.signal(signal.SIGTERM)
            await asyncio.wait([self._ended], timeout=_GRACE)
        if not self._ended.done():
            await self._end(128 + signal.SIGTERM, kill=True)

    def _shutdown(self, frames: list[BytesLike]) -> None:
        restart = False
        with contextlib.suppress(FrameGarbled, ValueError):
            restart = bool(json.loads(bytes(split(frames).body[3])).get("restart"))
        if not self._leaving:
            self._leaving = True
            self._spawn(self._shut_down(frames, restart))

    async def _shut_down(self, frames: list[BytesLike], restart: bool) -> None:
        """The kernel is asked itself, so that what it has to do at its end is done; a restart keeps the hardware."""
        remote = self._remote
        if not restart and self._open and remote is not None:
            self._leaving = False
            self._asked_to_end = True
            with contextlib.suppress(JupyterGpuError):
                remote.send("control", self._sign(frames, self._signer, self._far), self._seen)
            await asyncio.wait([self._ended], timeout=_GRACE)
            self._leaving = True
        else:
            with contextlib.suppress(FrameGarbled):
                content = {"status": "ok", "restart": restart}
                self._channels.send("control", self._voice.reply(frames, "shutdown_reply", content))
                self._publisher.publish(self._voice.iopub("shutdown_reply", content, split(frames).body[0]))
            if restart and self._open and remote is not None:
                try:
                    await remote.restart()
                    self._record.fresh = True
                    if self._kept is not None:
                        self._kept.write(self._record)
                    self._leave(0)
                    return
                except JupyterGpuError:
                    pass  # then without its hardware
        await self._end(0, kill=False)

    async def _end(self, code: int, *, kill: bool) -> None:
        """End the session, then this process."""
        self._leaving = True
        if self._remote is not None and hasattr(self._remote, "info"):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._remote.stop(kill), _STOP)
        if self._kept is not None:
            self._kept.remove()
        self._leave(code)

    def _leave(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)

    def _leave_session(self) -> None:
        """The provisioner kills this process, and sees to the session itself: it may be a restart, which keeps the hardware."""
        self._leaving = True
        self._leave(-signal.SIGKILL)

    async def _watch_parent(self) -> None:
        parent = os.getppid()
        if str(parent) != os.environ.get("JPY_PARENT_PID"):
            return
        while os.getppid() == parent:
            await asyncio.sleep(_PARENT)
        await self._abandoned()

    async def _abandoned(self) -> None:
        """Whoever started this process is gone. The kernel of a notebook waits for the notebook to come back."""
        if self._open and self._record.notebook:
            self._leaving = True
            self._leave(0)
        else:
            await self._end(0, kill=False)
