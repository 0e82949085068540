"""Carries out what ``fleet/state.py`` decides."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from jupyter_gpu.transport.envelope import TAKEN_OVER
from jupyter_gpu.wire.errors import InternalError, JupyterGpuError, WorkerDied, WorkerStartFailed
from jupyter_gpu.wire.messages import Assign, Gpu, Release, SessionEnded, SessionInfo, SessionState

from ..auth import Keys
from ..backends.base import Backend, Checkpoint, WorkerSpec
from ..relay import Pair, tell
from ..store import Store
from . import state
from .state import Fleet
from .told import gpu_env, info, label

_log = logging.getLogger(__name__)

#: Seconds for a started worker to dial in.
_DIAL_IN = 60.0
#: Seconds for workers of an earlier gateway to come back.
_COME_BACK = 30.0
_TICK = 1.0
#: Seconds that a gateway which ends waits for workers that are just being started.
_FORK = 5.0


class Manager:
    """Sessions and workers of one gateway. ``on_change(session, error)`` hears of each change; ``error`` when it is over."""

    def __init__(
        self,
        gpus: list[Gpu],
        backend_of: Callable[[Callable[[str, int], None]], Backend],
        store: Store,
        keys: Keys,
        url: str,
        *,
        standby: int,
        alone: float,
        lease: float,
        worker_env: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.fleet = Fleet(gpus, standby=standby, alone=alone, new_id=lambda: "w-" + secrets.token_hex(6))
        self.pairs: dict[str, Pair] = {}
        self.options: dict[str, Assign] = {}  #: session -> env, cwd and kernel, as its client wants them
        self.on_change: Callable[[SessionInfo, JupyterGpuError | None], None] = lambda info, error: None
        self._backend = backend_of(self._exited)
        self._store = store
        self._keys = keys
        self._url = url
        self._lease = lease
        self._worker_env = dict(worker_env)
        self._workers: dict[str, Pair] = {}  #: worker -> the pair that its connection is in
        self._checkpoints: dict[str, Checkpoint] = {}
        self._came_back: dict[str, str] = {}  #: worker of an earlier life -> its session
        self._starts: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._missed: set[str] = set()  #: workers that were not there when they were last looked for
        self.closing = False

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Take back what an earlier gateway left, then serve."""
        await self._reconcile()
        self.spawn(self._ticking())

    async def _reconcile(self) -> None:
        kept = self._store.workers()
        lives = await self._backend.check([w.checkpoint or {"pid": 0, "started": ""} for w in kept])
        alive = {w.worker_id: w for w, lives_on in zip(kept, lives) if lives_on}
        for worker in kept:
            if worker.worker_id not in alive:
                self._store.drop_worker(worker.worker_id)
        sessions = {s.worker_id: s for s in self._store.sessions()}
        for session in sessions.values():
            if session.worker_id not in alive:
                self._store.drop_session(session.session_id)
        for worker_id, worker in alive.items():
            self._checkpoints[worker_id] = worker.checkpoint or {}
            found = sessions.get(worker_id)
            if found is None:
                self.spawn(self._stop_worker(worker_id))  # it stood by, or its session had ended
                continue
            self._keys.workers[worker_id] = worker.secret
            session = found
            session.state = SessionState.IDLE
            session.active = session.alone_since = time.monotonic()
            self.fleet.sessions[session.session_id] = session
            self.fleet.workers[worker_id] = state.Worker(worker_id, worker.interpreter, ready=False, session_id=session.session_id)
            self._came_back[worker_id] = session.session_id
            self.spawn(self._await_return(worker_id))

    async def _await_return(self, worker_id: str) -> None:
        await asyncio.sleep(_COME_BACK)
        if worker_id in self._came_back:
            del self._came_back[worker_id]
            self.handle(state.WorkerGone(worker_id))
            await self._stop_worker(worker_id)

    async def _ticking(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self.handle(state.Tick())
            await self._look_after()

    async def _look_after(self) -> None:
        """Workers whose end nobody reported: an earlier gateway's, or those of a zygote that died. Missed twice, so that a report with
        the exit code comes first where there is one."""
        known = dict(self._checkpoints)
        lives = await self._backend.check(list(known.values()))
        gone = {worker_id for worker_id, alive in zip(known, lives) if not alive and worker_id in self._checkpoints}
        for worker_id in gone & self._missed:
            self._forget(worker_id)
            self.handle(state.WorkerGone(worker_id))
        self._missed = gone

    async def close(self) -> None:
        """End all workers, then the backend. Nothing is left behind."""
        self.closing = True  # what ends now is not to be replaced
        await self._forks_done()
        for worker_id, pair in list(self._workers.items()):
            if pair.worker is not None:
                await tell(pair.worker, Release(kill=True))
            with contextlib.suppress(JupyterGpuError):
                self._store.drop_worker(worker_id)
        for session_id in list(self.fleet.sessions):
            with contextlib.suppress(JupyterGpuError):
                self._store.drop_session(session_id)
        tasks = [*self._tasks, *self._starts.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.gather(*(self._backend.stop(c) for c in self._checkpoints.values() if c), return_exceptions=True)
        await self._backend.close()

    async def _forks_done(self) -> None:
        """What is being started has no checkpoint yet, and could not be stopped."""
        end = time.monotonic() + _FORK
        while time.monotonic() < end and any(w not in self._checkpoints and not t.done() for w, t in self._starts.items()):
            await asyncio.sleep(0.01)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------ events and instructions

    def handle(self, event: state.Event) -> None:
        if self.closing:
            return
        for instruction in self.fleet.handle(event, time.monotonic()):
            self._carry_out(instruction)

    def _carry_out(self, instruction: state.Instruction) -> None:
        if isinstance(instruction, state.StartWorker):
            self._starts[instruction.worker_id] = task = asyncio.ensure_future(self._start_worker(instruction))
            task.add_done_callback(lambda _: self._starts.pop(instruction.worker_id, None))
        elif isinstance(instruction, state.AssignWorker):
            self.spawn(self._assign(instruction.worker_id, instruction.session_id))
        elif isinstance(instruction, state.ReleaseWorker):
            self.spawn(self._release(instruction.worker_id, instruction.kill))
        elif isinstance(instruction, state.Changed):
            self._changed(instruction.session_id)
        else:
            self._over(instruction.session_id, instruction.error)

    def _changed(self, session_id: str) -> None:
        session = self.fleet.sessions.get(session_id)
        if session is None:
            return
        if session.worker_id:
            try:
                self._store.save_session(session)
            except JupyterGpuError as error:
                _log.error("%s", error)  # the session works; only a restart of the gateway would lose it
        self.on_change(info(session, self.fleet), None)

    def _over(self, session_id: str, error: JupyterGpuError) -> None:
        with contextlib.suppress(JupyterGpuError):
            self._store.drop_session(session_id)
        self.options.pop(session_id, None)
        pair = self.pairs.pop(session_id, None)
        if pair is not None and pair.client is not None:
            self.spawn(_say_end(pair, error))
        self.on_change(
            SessionInfo(session_id=session_id, key="", state=SessionState.ENDED, label="", created=0.0, reason=error.sentence), error
        )

    # ------------------------------------------------------------ workers

    async def _start_worker(self, instruction: state.StartWorker) -> None:
        worker_id = instruction.worker_id
        try:
            secret = self._keys.new_worker(worker_id)
            self._store.save_worker(worker_id, self._keys.workers[worker_id], instruction.interpreter, None)
            spec = WorkerSpec(worker_id, secret, self._url, instruction.interpreter, self._lease, self._worker_env)
            async for checkpoint in self._backend.start(spec):
                self._checkpoints[worker_id] = checkpoint
                self._store.save_worker(worker_id, self._keys.workers[worker_id], instruction.interpreter, checkpoint)
            await asyncio.sleep(_DIAL_IN)
            worker = self.fleet.workers.get(worker_id)
            if worker is not None and not worker.ready:
                raise WorkerStartFailed(phase="dial", reason=f"the worker did not report within {_DIAL_IN:g} seconds", log="")
        except asyncio.CancelledError:
            raise
        except Exception as error:
            shown = error if isinstance(error, JupyterGpuError) else InternalError(id=worker_id, text=repr(error))
            _log.error("worker %s: %s", worker_id, shown, exc_info=not isinstance(error, JupyterGpuError))
            await self._stop_worker(worker_id)
            self.handle(state.WorkerGone(worker_id, shown))

    def _exited(self, worker_id: str, code: int) -> None:
        """From the backend: the agent's process is gone."""
        start = self._starts.get(worker_id)
        if start is not None:
            start.cancel()
        self._forget(worker_id)
        if worker_id in self.fleet.workers:
            self.handle(state.WorkerGone(worker_id, WorkerDied(exit=code, detail=f"its agent ended with exit code {code}")))

    def _forget(self, worker_id: str) -> None:
        self._keys.workers.pop(worker_id, None)
        self._checkpoints.pop(worker_id, None)
        self._workers.pop(worker_id, None)
        self._came_back.pop(worker_id, None)
        with contextlib.suppress(JupyterGpuError):
            self._store.drop_worker(worker_id)

    def pair_of_worker(self, worker_id: str, session_id: str) -> Pair:
        """Where the connection of a worker belongs. One that stands by has a pair of its own until it is assigned."""
        pair = self._workers.get(worker_id)
        if pair is None:
            pair = self._workers[worker_id] = self.pairs.setdefault(session_id, Pair()) if session_id else Pair()
        return pair

    def restart(self, session_id: str) -> None:
        """A fresh worker on the same hardware; whoever is connected is the client of the old one."""
        pair = self.pairs.pop(session_id, None)
        self.handle(state.Restarted(session_id))
        if pair is not None and pair.client is not None:
            self.spawn(pair.client.close(TAKEN_OVER, "the kernel is restarted"))

    def is_back(self, worker_id: str) -> str:
        """The session of a worker that an earlier gateway started, told once; "" if there is none."""
        return self._came_back.pop(worker_id, "")

    def refuse(self, worker_id: str, error: JupyterGpuError) -> None:
        """A worker that cannot be used."""
        self.spawn(self._stop_worker(worker_id))
        self.handle(state.WorkerGone(worker_id, error))

    def belongs(self, worker_id: str, session_id: str) -> bool:
        """Whether this session is the worker's: its own word would let it take another's."""
        worker = self.fleet.workers.get(worker_id)
        return worker is not None and worker.session_id == session_id and session_id in self.fleet.sessions

    async def _assign(self, worker_id: str, session_id: str) -> None:
        session = self.fleet.sessions.get(session_id)
        pair = self._workers.get(worker_id)
        if session is None or pair is None or pair.worker is None:
            return
        self.pairs[session_id] = pair
        wanted = self.options.get(session_id) or Assign(session_id=session_id)
        env = {**wanted.env, **gpu_env(session.gpus)}
        await tell(pair.worker, msgspec.structs.replace(wanted, env=env, label=label(session.gpus)))

    async def _release(self, worker_id: str, kill: bool) -> None:
        pair = self._workers.pop(worker_id, None)
        if pair is not None and pair.worker is not None:
            await tell(pair.worker, Release(kill=kill))
        if pair is None or pair.worker is None or kill:
            await self._stop_worker(worker_id)

    async def _stop_worker(self, worker_id: str) -> None:
        checkpoint = self._checkpoints.get(worker_id)
        if checkpoint:
            await self._backend.stop(checkpoint)
        self._forget(worker_id)


async def _say_end(pair: Pair, error: JupyterGpuError) -> None:
    if pair.client is not None:
        await tell(pair.client, SessionEnded(error=error.to_record()))
        await pair.client.close()
