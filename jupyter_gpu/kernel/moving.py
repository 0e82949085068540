"""Moving a live kernel: another session takes over what this one has, and then its place.

Two phases. First the old kernel says what it has, a session with the new hardware is opened, and takes it over; until that one says that
everything is in place, the old kernel waits in its cell, and nothing has changed. Then front ends are turned over to the new one, and the
old one is given up. What fails in the first phase (an interrupt, a gateway without such hardware, a kernel that dies) ends the new session.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from ..sync.units import human_bytes
from ..wire import moving
from ..wire.codec import BytesLike
from ..wire.errors import CannotMove, FrameGarbled, JupyterGpuError, KernelLost, MoveFailed
from ..wire.messages import SessionInfo, Wanted
from ..wire.signed import Signed, split
from .progress import Progress
from .remote import Remote, end_session, key_of
from .transit import Transit

if TYPE_CHECKING:
    from .gateway import Where
    from .shim import Shim

_LOCAL = "local"
#: Said by one kernel to the other, and none of ours to read.
_PASSED = {moving.kind_of(kind) for kind in (moving.Want, moving.Piece, moving.Took)}
#: Seconds for a session that is not wanted any more to end.
_GRACE = 5.0


class Mover:
    """Of one shim. At most one move at a time."""

    def __init__(self, shim: Shim) -> None:
        self._shim = shim
        self._move: Move | None = None
        self._transit: Transit | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def moves(self) -> bool:
        return self._move is not None

    def requested(self, frames: list[BytesLike]) -> bool:
        """A message on the control channel; whether it is a front end's wish to move."""
        if b'"' + moving.REQUEST.encode() + b'"' not in b"".join(frames[:6]):
            return False
        with contextlib.suppress(FrameGarbled):
            message = split(frames)
            try:
                if self._move is not None:
                    raise CannotMove(reason="it is being moved", instead="Wait until it is there.")
                self._shim.check_movable()
                wish = msgspec.json.decode(bytes(message.body[3]), type=moving.Leaving)
            except JupyterGpuError as error:
                self._shim.answer(frames, moving.REPLY, failed(error))
            except msgspec.DecodeError as error:
                bad = CannotMove(reason=f"the request cannot be read: {error}", instead='Say {"to": "H100"}.')
                self._shim.answer(frames, moving.REPLY, failed(bad))
            else:
                self._begin(Move(self, self._shim, request=frames))
                self._shim.ask_kernel(moving.LEAVE, msgspec.to_builtins(wish))
        return True

    def heard(self, remote: Remote, channel: str, frames: Sequence[BytesLike]) -> bool:
        """A message of a kernel; whether front ends are not to see it."""
        if channel == "iopub" and frames[0] == moving.LEAVING.encode():
            with contextlib.suppress(FrameGarbled, msgspec.DecodeError):
                message = split(frames)
                wish = msgspec.json.decode(bytes(message.body[3]), type=moving.Leaving)
                if self._move is None:
                    self._begin(Move(self, self._shim))
                assert self._move is not None
                self._move.leaving(wish, message)
            return True
        if self._move is not None and self._move.heard(remote, channel, frames):
            return True
        return remote is not self._shim.remote or (channel == "stdin" and frames[0] == moving.IDENTITY)

    def lost(self, remote: Remote, error: JupyterGpuError | int) -> bool:
        """A kernel is gone; whether it is not the one that front ends have."""
        if self._move is not None:
            self._move.lost(remote, error)
        return remote is not self._shim.remote

    def _begin(self, move: Move) -> None:
        self._move = move
        task = asyncio.ensure_future(move.run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def ended(self) -> None:
        """The notebook is where it was, or has moved: the next one may begin."""
        self._move = None
        self._shim.release()

    def transit(self) -> Transit | None:
        if self._transit is None:
            with contextlib.suppress(OSError):
                self._transit = Transit()
        return self._transit

    async def close(self) -> None:
        """The shim ends: a move that is under way is over, and nothing of it is left."""
        if self._transit is not None:  # first: whoever waits for this process may lose patience
            self._transit.remove()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


class Move:
    """One move. ``request``: the front end's message that asked for it; without one, a cell did."""

    def __init__(self, mover: Mover, shim: Shim, request: list[BytesLike] | None = None) -> None:
        self._mover = mover
        self._shim = shim
        self._request = request
        self._old = shim.remote
        self._new: Remote | None = None
        self._loop = asyncio.get_running_loop()
        self._left: asyncio.Future[tuple[moving.Leaving, Signed]] = self._loop.create_future()
        self._offered: asyncio.Future[moving.Offered] = self._loop.create_future()
        self._manifest: asyncio.Future[tuple[moving.Manifest, list[BytesLike]]] = self._loop.create_future()
        self._arrived: asyncio.Future[moving.Arrived] = self._loop.create_future()
        self._over: asyncio.Future[None] = self._loop.create_future()  #: never a result: what made it fail
        self._settled = asyncio.Event()  #: the new kernel is done with what it was asked
        self._committed = False
        self._key = uuid.uuid4().hex
        self._at: Where | None = None  #: the gateway of the new session
        self._sent = 0
        self._progress: Progress | None = None

    # ------------------------------------------------------------ what the kernels say

    def leaving(self, wish: moving.Leaving, message: Signed) -> None:
        if not self._left.done():
            self._left.set_result((wish, message))

    def heard(self, remote: Remote, channel: str, frames: Sequence[BytesLike]) -> bool:
        if channel == "stdin" and frames[0] == moving.IDENTITY:
            try:
                self._said(remote, frames)
            except (FrameGarbled, ValueError) as error:  # msgspec's and json's errors are ValueErrors
                self._fail(MoveFailed(to="it", reason=f"a kernel said what cannot be read: {error}"))
            return True
        if remote is self._new and not self._committed:
            if channel == "iopub" and bytes(frames[0]).endswith(b"status"):
                with contextlib.suppress(FrameGarbled):
                    message = split(frames)
                    if message.parent.msg_type == moving.ARRIVE and b'"idle"' in bytes(message.body[3]):
                        self._settled.set()
            return True
        return False

    def _said(self, remote: Remote, frames: Sequence[BytesLike]) -> None:
        message = split(frames)
        kind = message.header.msg_type
        if kind in _PASSED:
            self._pass_on(remote, frames)
            return
        step = moving.read(kind, json.loads(bytes(message.body[3])))
        if isinstance(step, moving.Failed):
            from ..wire.errors import from_record

            self._fail(from_record(step.error))
        elif isinstance(step, moving.Offered) and not self._offered.done():
            self._offered.set_result(step)
        elif isinstance(step, moving.Manifest) and not self._manifest.done():
            self._manifest.set_result((step, list(frames)))
        elif isinstance(step, moving.Arrived) and not self._arrived.done():
            self._arrived.set_result(step)

    def _pass_on(self, remote: Remote, frames: Sequence[BytesLike]) -> None:
        """As it came: both kernels have one key. How much is on its way they settle between themselves."""
        other = self._new if remote is self._old else self._old
        if other is None or self._committed:
            return
        if remote is self._old:
            self._sent += sum(map(len, frames[7:]))
            if self._progress is not None:
                self._progress.goes_on(f"sent {human_bytes(self._sent)}")
        with contextlib.suppress(JupyterGpuError):
            other.send("stdin", frames, 0)

    def lost(self, remote: Remote, error: JupyterGpuError | int) -> None:
        if remote in (self._new, self._old):
            self._fail(error if isinstance(error, JupyterGpuError) else KernelLost(reason=f"it ended by itself with exit code {error}"))

    def _fail(self, error: BaseException) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    # ------------------------------------------------------------ the way of it

    async def run(self) -> None:
        shim = self._shim
        shim.hold()
        began = time.perf_counter()
        wish = moving.Leaving(to="")
        try:
            wish, message = await self._either(self._left)
            self._progress = Progress(shim, None if self._request else message.body[1], wish.to)
            self._progress.phase("looking at what it has")
            transit = self._mover.transit()
            told = ("", "") if transit is None else (str(transit.path), transit.nonce)
            go = moving.Go(folder=told[0], nonce=told[1], session=message.header.session)
            self._say(self._old, go)
            offered = await self._either(self._offered)
            self._progress.phase(f"starting, for {human_bytes(offered.size)}")
            await self._open(wish.to)
            assert self._new is not None
            self._say(self._new, go)
            manifest, frames = await self._either(self._manifest)
            self._progress.phase(f"handing over {human_bytes(offered.size)}")
            self._new.send("stdin", frames, 0)
            arrived = await self._either(self._arrived)
            await self._either(asyncio.ensure_future(self._settled.wait()))
            if len(arrived.names) != offered.count:
                raise MoveFailed(to=wish.to, reason=f"{len(arrived.names)} of {offered.count} variables arrived")
        except asyncio.CancelledError:
            await self._undo(MoveFailed(to=wish.to, reason="the kernel is being shut down"))
            raise
        except Exception as error:
            what = error if isinstance(error, JupyterGpuError) else MoveFailed(to=wish.to, reason=repr(error))
            await self._undo(what)
            return
        self._commit(wish.to, message, offered, manifest, arrived, time.perf_counter() - began)
        await self._give_up()

    async def _either(self, wanted: asyncio.Future[Any]) -> Any:
        await asyncio.wait([wanted, self._over], return_when=asyncio.FIRST_COMPLETED)
        if self._over.done():
            wanted.cancel()
            self._over.result()
        return wanted.result()

    async def _open(self, to: str) -> None:
        shim = self._shim
        wanted, own = wanted_of(to)
        where = self._at = await shim.where(own)
        order = replace(self._old.order, key=key_of(self._key), wanted=wanted)
        new = self._new = Remote(where, lambda c, f, n: shim.from_remote(new, c, f, n), lambda e: shim.remote_over(new, e), self._news)
        opening = asyncio.ensure_future(new.open(order))
        try:
            await self._either(opening)
            await self._either(asyncio.ensure_future(new.up.wait()))
        finally:
            if not opening.done():
                opening.cancel()
            await asyncio.wait([opening])  # what it had begun is ended then
        shim.ask_kernel(moving.ARRIVE, {}, new)

    def _news(self, info: SessionInfo) -> None:
        if self._progress is not None:
            place = f", {info.queue_position} in the queue" if info.queue_position else ""
            self._progress.phase(f"{info.label}: {info.state.value}{place}")

    def _say(self, remote: Remote, step: moving.Step) -> None:
        content = json.loads(msgspec.json.encode(step))
        with contextlib.suppress(JupyterGpuError):
            remote.send("stdin", self._shim.message(moving.kind_of(step), content), 0)

    async def _undo(self, error: JupyterGpuError) -> None:
        """The notebook stays where it is; the old kernel says why, under its cell."""
        if self._new is not None:
            if not hasattr(self._new, "info") and self._at is not None:  # asked for, and not answered yet
                with contextlib.suppress(JupyterGpuError, OSError, asyncio.TimeoutError):
                    await asyncio.wait_for(end_session(*await self._at.now(), key_of(self._key)), _GRACE)
            await self._end(self._new, kill=True)
        if self._progress is not None:
            self._progress.end(f"not moved: {error.reason}" if isinstance(error, MoveFailed) else "not moved")
        self._mover.ended()
        self._say(self._old, moving.Failed(error=error.to_record()))
        if self._request is not None:
            self._shim.answer(self._request, moving.REPLY, failed(error))

    @staticmethod
    async def _end(remote: Remote, *, kill: bool) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            if hasattr(remote, "info"):
                await asyncio.wait_for(remote.stop(kill), _GRACE)
            await asyncio.wait_for(remote.close(), _GRACE)

    def _commit(
        self, to: str, message: Signed, offered: moving.Offered, manifest: moving.Manifest, arrived: moving.Arrived, seconds: float
    ) -> None:
        """From here on front ends have the new kernel."""
        assert self._new is not None and self._progress is not None
        self._committed = True
        names = {name for name, _ in manifest.chunks}
        transit = self._mover.transit()
        if transit is not None:
            transit.keep_only(names)
        sent = manifest.written + self._sent + sum(size for place, (_, size) in enumerate(manifest.chunks) if place in manifest.inline)
        summary = summary_of(self._new.info.label, seconds, offered, sent, arrived.notes)
        self._progress.end(summary)
        self._say(self._old, moving.Moved())
        reply = {"status": "ok", "execution_count": offered.execution_count, "user_expressions": {}, "payload": []}
        self._shim.take_place(self._new, self._key, to, message.parent.msg_id, reply, message.body[1])
        if self._request is not None:
            content = {"status": "ok", "label": self._new.info.label, "seconds": seconds, "bytes": offered.size, "sent": sent}
            more = {"variables": offered.count, "behind": offered.behind, "summary": summary}
            self._shim.answer(self._request, moving.REPLY, content | more)
        self._mover.ended()

    async def _give_up(self) -> None:
        """In its own time at first: it may have files to write."""
        await self._end(self._old, kill=False)


def wanted_of(to: str) -> tuple[list[Wanted], bool]:
    """What to ask a gateway for, and whether it must be one of the person's own. Raises ``BadHardware``."""
    from ..cells.options import parse_gpu

    if to.lower() == _LOCAL:
        return list(parse_gpu("cpu")), True
    return list(parse_gpu(to)), False


def failed(error: JupyterGpuError) -> dict[str, Any]:
    """Content of a reply."""
    content = {"status": "error", "ename": type(error).__name__, "evalue": error.sentence, "hint": error.hint}
    return content | {"traceback": error._render_traceback_(), "fields": error.fields()}


def summary_of(label: str, seconds: float, offered: moving.Offered, sent: int, notes: list[str]) -> str:
    variables = "1 variable" if offered.count == 1 else f"{offered.count} variables"
    line = f"moved to {label} in {seconds:.1f} s: {variables}, {human_bytes(offered.size)}"
    if sent < offered.size // 2:
        line += f" ({human_bytes(sent)} of it new)"
    if offered.behind:
        line += "; stayed behind: " + ", ".join(offered.behind)
    return "\n".join([line, *offered.notes, *notes])
