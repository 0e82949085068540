"""What a worker is at is known again after a cut, and after the gateway was restarted."""

from __future__ import annotations

from pathlib import Path

from played import USABLE, VERSIONS, Running, go

from jupyter_gpu.wire.errors import from_record
from jupyter_gpu.wire.messages import Activity, Assign, Assigned, OpenSession, PeerAttached, SessionState, Wanted
from jupyter_gpu.wire.messages import Opened as SessionOpened


def test_a_busy_session_is_busy_after_a_restart(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = await gateway.rpc()
            session, worker, spec = await gateway.ready(rpc, "kept")
            await worker.say(Activity(busy=True))
            await rpc.reaches(session, SessionState.BUSY)
            await gateway.killed()
            rpc = await gateway.rpc()
            await rpc.open("kept")
            worker = await gateway.worker(spec, session, busy=True)
            info = (await rpc.reaches(session, SessionState.BUSY)).session
            assert info.versions == VERSIONS and info.pid == 77, "what must agree is known again too"
            await worker.say(Activity(busy=False))
            await rpc.reaches(session, SessionState.IDLE)

    go(test())


def test_a_session_that_works_is_not_ended_for_idleness_before_its_worker_is_back(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder, alone=1.5) as gateway:
            rpc = await gateway.rpc()
            request = lambda i: OpenSession(id=i, key="kept", wanted=[Wanted(type="CPU")], idle=0.1)  # noqa: E731
            session = (await rpc.ask(request, SessionOpened)).session.session_id
            spec = await gateway.event("start")
            worker = await gateway.worker(spec)
            await worker.hears(Assign)
            await worker.say(Activity(busy=True))
            await worker.say(Assigned(session_id=session))
            await worker.say(Activity(busy=True))
            await rpc.reaches(session, SessionState.BUSY)
            await gateway.killed()
            rpc, other = await gateway.rpc(), await gateway.rpc()
            assert (await rpc.ask(request, SessionOpened)).session.session_id == session
            left = (await other.open("another")).session_id
            await other.socket.close()
            while left in await rpc.sessions():  # fifteen times as long as its idle=
                pass
            assert session in await rpc.sessions()
            worker = await gateway.worker(spec, session, busy=True)
            await rpc.reaches(session, SessionState.BUSY)
            await worker.say(Activity(busy=False))
            over = await rpc.reaches(session, SessionState.ENDED)
            assert over.error is not None and "no cell ran" in str(from_record(over.error))

    go(test())


def test_a_cell_that_ended_during_a_cut(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = await gateway.rpc()
            session, worker, spec = await gateway.ready(rpc)
            await worker.say(Activity(busy=True))
            await rpc.reaches(session, SessionState.BUSY)
            await worker.socket.close()
            worker = await gateway.worker(spec, session, busy=False)
            await rpc.reaches(session, SessionState.IDLE)
            client = await gateway.link(session)
            await client.hears(PeerAttached)

    go(test())


def test_a_worker_that_was_cut_before_it_could_say_that_it_is_assigned(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = await gateway.rpc()
            info = await rpc.open("a notebook")
            spec = await gateway.event("start")
            worker = await gateway.worker(spec)
            await worker.hears(Assign)
            await worker.socket.close()
            worker = await gateway.worker(spec, info.session_id)
            await rpc.reaches(info.session_id, *USABLE)

    go(test())


def test_a_gateway_that_was_killed_while_a_session_started(folder: Path) -> None:
    """Its worker dials in late, and was never told whose it is: a session on it would never answer."""

    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = await gateway.rpc()
            info = await rpc.open("a notebook")
            spec = await gateway.event("start")
            await gateway.killed()
            rpc = await gateway.rpc()
            await rpc.open("a notebook")
            worker = await gateway.worker(spec)
            await worker.closed()
            over = await rpc.reaches(info.session_id, SessionState.ENDED, SessionState.LOST)
            assert over.error is not None and "restarted while it started" in str(from_record(over.error))
            assert (await gateway.event("stop"))["worker_id"] == spec["worker_id"]
            await gateway.ready(rpc, "a notebook")

    go(test())
