"""A gateway in a process of its own, between clients and workers that the test plays."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil
import pytest
from plain_client import dial
from played import TOKEN, USABLE, VERSIONS, End, Rpc, Running, go

from jupyter_gpu.transport.envelope import SUBPROTOCOL, open_envelope
from jupyter_gpu.wire.errors import ProtocolMismatch as Mismatch
from jupyter_gpu.wire.errors import SessionNotFound, TokenRefused, from_record
from jupyter_gpu.wire.messages import (
    PROTOCOL,
    Activity,
    Assign,
    Assigned,
    Done,
    Failed,
    GetInventory,
    Hello,
    Inventory,
    OpenSession,
    PeerAttached,
    PeerDetached,
    Release,
    SessionEnded,
    SessionState,
    StopSession,
    Wanted,
    Welcome,
)

AUTHORIZED = f"Authorization: Bearer {TOKEN}"
SPOKEN = f"Sec-WebSocket-Protocol: {SUBPROTOCOL}"


async def works(gateway: Running, session: str, worker: End) -> None:
    """A new client reaches the worker, and the other way round."""
    client = await gateway.link(session)
    await client.hears(PeerAttached)
    await client.frame(b"there")
    while await worker.hears_frame() != b"there":
        pass  # what came before
    await worker.frame(b"and back")
    assert await client.hears_frame() == b"and back"
    await client.socket.close()


# ---------------------------------------------------------------- who may come in


def test_the_door(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            assert (await gateway.http("/healthz"))[0] == 200
            assert (await gateway.http("/healthz"))[1].endswith("\r\n\r\nok\n")
            for path in ("/v1/rpc", "/v1/worker", "/v1/sessions/s-1/link", "/", "/nothing"):
                for header in ("X-Nothing: 1", "Authorization: Bearer wrong", "Authorization: Basic " + TOKEN, "Authorization: Bearer"):
                    status, text = await gateway.http(path, SPOKEN, header)
                    assert status == 401 and TOKEN not in text, (path, header)
            assert (await gateway.http("/v1/worker", SPOKEN, AUTHORIZED))[0] == 401, "a client is no worker"
            assert (await gateway.http("/v1/sessions/s-1/link", SPOKEN, AUTHORIZED))[0] == 404
            assert (await gateway.http("/v2/rpc", SPOKEN, AUTHORIZED))[0] == 404
            assert (await gateway.http("/v1/rpc", SPOKEN, AUTHORIZED))[0] == 101
            for header in ("X-Nothing: 1", "Sec-WebSocket-Protocol: jupyter-gpu.v0, chat"):
                status, text = await gateway.http("/v1/rpc", AUTHORIZED, header)
                assert status == 426 and f"sec-websocket-protocol: {SUBPROTOCOL}" in text.lower()
            with pytest.raises(TokenRefused):
                await dial(gateway.url, "/v1/rpc", "wrong")
            with pytest.raises(SessionNotFound):
                await gateway.link("s-nobody")
            assert (folder / "gateway.sock").stat().st_mode & 0o777 == 0o600
            rpc = await gateway.rpc()
            _, _, spec = await gateway.ready(rpc)
            with pytest.raises(TokenRefused):  # user code runs in workers: their secrets open nothing else
                await dial(gateway.url, "/v1/rpc", f"{spec['worker_id']}:{spec['secret']}")

    go(test())


def test_another_protocol(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = Rpc(await dial(gateway.url, "/v1/rpc", TOKEN))
            await rpc.send(Hello(protocol=PROTOCOL + 7, versions=VERSIONS))
            answer = await rpc.next()
            assert isinstance(answer, Failed) and answer.id == 0
            error = from_record(answer.error)
            assert isinstance(error, Mismatch) and (error.here, error.there) == (str(PROTOCOL + 7), str(PROTOCOL)), "as the client reads it"
            await rpc.socket.wait_closed()

    go(test())


def test_a_worker_of_another_protocol_fails_the_start_at_once(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = await gateway.rpc()
            info = await rpc.open("a notebook")
            for _ in range(2):
                spec = await gateway.event("start")
                worker = await gateway.worker(spec, protocol=PROTOCOL + 7)
                assert (await worker.hears(Failed)).error.code == Mismatch.code
                await worker.closed()
                assert (await gateway.event("stop"))["worker_id"] == spec["worker_id"]
            over = await rpc.reaches(info.session_id, SessionState.ENDED)
            assert over.error is not None
            error = from_record(over.error)
            assert isinstance(error, Mismatch)
            assert error.sentence == f"The worker speaks protocol {PROTOCOL + 7}, this side protocol {PROTOCOL}."

    go(test())


# ---------------------------------------------------------------- what nobody should send


@pytest.mark.parametrize("data", ["text", b"", b"\xff" * 100, os.urandom(1000)], ids=["text", "nothing", "ff", "random"])
def test_garbage_on_the_rpc_websocket(folder: Path, data: str | bytes) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            good = await gateway.rpc()
            for greeted in (False, True):
                bad = await gateway.rpc() if greeted else Rpc(await dial(gateway.url, "/v1/rpc", TOKEN))
                await bad.socket.send(data)
                answer = await bad.next()
                assert isinstance(answer, Failed) and answer.id == 0 and answer.error.code == "wire.garbled"
                await bad.socket.wait_closed()
            assert await good.sessions() == {}

    go(test())


def test_messages_that_are_no_requests(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            early = Rpc(await dial(gateway.url, "/v1/rpc", TOKEN))
            await early.send(GetInventory(id=1))
            assert isinstance(await early.next(), Failed), "a Hello was due"
            rpc = await gateway.rpc()
            assert await rpc.refused(lambda i: Done(id=i)) == "wire.garbled"
            assert await rpc.refused(lambda i: StopSession(id=i, session_id="s-nobody")) == SessionNotFound.code
            await rpc.send(Welcome(protocol=1, software="", gateway_id="", own=False))
            answer = await rpc.next()
            assert isinstance(answer, Failed) and answer.id == 0
            await rpc.socket.wait_closed()

    go(test())


GARBAGE: dict[str, str | bytes] = {
    "text": "text",
    "nothing": b"",
    "first byte": b"\x07abc",
    "notice": b"\x00\xff\xff\xff",
    "too large": b"\x01" * (2 << 20),
}


def test_garbage_on_a_link(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = await gateway.rpc()
            one, one_worker, _ = await gateway.ready(rpc, "one")
            two, two_worker, _ = await gateway.ready(rpc, "two")
            other = await gateway.link(two)
            await other.hears(PeerAttached)
            for what, data in GARBAGE.items():
                client = await gateway.link(one)
                await client.hears(PeerAttached)
                await one_worker.hears(PeerAttached)
                await client.socket.send(data)
                assert await client.closed() == (1009 if what == "too large" else 1007), what
                await one_worker.hears(PeerDetached)
            await works(gateway, one, one_worker)
            await other.frame(b"still here")
            assert await two_worker.hears_frame() == b"still here"
            assert set(await rpc.sessions()) == {one, two}

    go(test())


def test_garbage_on_a_worker_websocket(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = await gateway.rpc()
            session, worker, spec = await gateway.ready(rpc)
            client = await gateway.link(session)
            await client.hears(PeerAttached)
            for data in GARBAGE.values():
                await worker.socket.send(data)
                await worker.closed()
                await client.hears(PeerDetached)
                worker = await gateway.worker(spec, session)
                await client.hears(PeerAttached)
            await client.frame(b"there")
            assert await worker.hears_frame() == b"there"
            for first in ("text", b"", b"\x00\xff", b"\x01frame"):  # instead of a WorkerHello
                bad = End(await dial(gateway.url, "/v1/worker", f"{spec['worker_id']}:{spec['secret']}"))
                await bad.socket.send(first)
                await bad.closed()
            await client.frame(b"again")
            assert await worker.hears_frame() == b"again"

    go(test())


# ---------------------------------------------------------------- sessions


def test_a_session_from_its_opening_to_its_end(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder, simulate="H100:2") as gateway:
            rpc = await gateway.rpc()
            refused = await rpc.ask(lambda i: OpenSession(id=i, key="x", wanted=[Wanted(type="B200")]), Failed)
            assert "2 × H100 (simulated)" in str(from_record(refused.error))
            info = await rpc.open("a notebook", "H100")
            spec = await gateway.event("start")
            worker = await gateway.worker(spec)
            assign = await worker.hears(Assign)
            assert assign.label == "H100 (simulated)" and assign.env["CUDA_VISIBLE_DEVICES"] == "SIM-H100-0"
            with pytest.raises(SessionNotFound):
                await gateway.link(info.session_id)  # not before it can be used
            await worker.say(Assigned(session_id=info.session_id))
            await rpc.reaches(info.session_id, SessionState.READY)
            assert (await rpc.open("a notebook", "H100")).session_id == info.session_id
            gpus = (await rpc.ask(lambda i: GetInventory(id=i), Inventory)).gpus
            assert [g.session_id for g in gpus if g.simulated] == [info.session_id, ""]
            await worker.say(Activity(busy=True))
            await rpc.reaches(info.session_id, SessionState.BUSY)
            client = await gateway.link(info.session_id)
            await client.hears(PeerAttached)
            await rpc.ask(lambda i: StopSession(id=i, session_id=info.session_id), Done)
            assert "it was stopped" in str(from_record((await client.hears(SessionEnded)).error))
            await client.closed()
            await worker.hears(PeerAttached)
            while not isinstance(last := open_envelope(await worker.socket.recv()), Release):
                assert isinstance(last, PeerDetached)
            assert not last.kill
            assert await rpc.sessions() == {}

    go(test())


def test_two_clients_on_one_session(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = await gateway.rpc()
            session, worker, _ = await gateway.ready(rpc)
            first = await gateway.link(session)
            await first.hears(PeerAttached)
            second = await gateway.link(session)
            assert await first.closed() == 4000 and "another client" in (first.socket.close_reason or "")
            await second.hears(PeerAttached)
            for kind in (PeerAttached, PeerDetached, PeerAttached):
                await worker.hears(kind)
            await worker.frame(b"to the second")
            assert await second.hears_frame() == b"to the second"
            await second.frame(b"from the second")
            assert await worker.hears_frame() == b"from the second"

    go(test())


def test_a_worker_cannot_take_another_ones_session(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = await gateway.rpc()
            one, one_worker, _ = await gateway.ready(rpc, "one")
            _, two_worker, two_spec = await gateway.ready(rpc, "two")
            await two_worker.socket.close()
            thief = await gateway.worker(two_spec, session_id=one)
            assert (await thief.hears(Release)).kill
            await thief.closed()
            await works(gateway, one, one_worker)

    go(test())


def test_a_worker_that_was_away_when_its_session_ended(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = await gateway.rpc()
            session, worker, spec = await gateway.ready(rpc)
            await worker.socket.close()
            await rpc.ask(lambda i: StopSession(id=i, session_id=session), Done)
            assert (await gateway.event("stop"))["worker_id"] == spec["worker_id"], "it cannot be told, and is ended"

    go(test())


def test_who_waits_for_hardware_is_not_alone(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder, simulate="H100", alone=0.5) as gateway:
            rpc, waiting = await gateway.rpc(), await gateway.rpc()
            first, _, _ = await gateway.ready(rpc, "one", "H100")
            link = await gateway.link(first)
            await link.hears(PeerAttached)
            queued = await waiting.open("two", "H100")
            assert queued.queue_position == 1
            other = await gateway.rpc()
            left = (await other.open("three")).session_id
            await other.socket.close()
            while left in await rpc.sessions():  # its time, which began later, is over
                await asyncio.sleep(0.05)
            assert set(await rpc.sessions()) == {first, queued.session_id}
            await waiting.socket.close()
            while queued.session_id in await rpc.sessions():
                await asyncio.sleep(0.05)
            assert set(await rpc.sessions()) == {first}

    go(test())


# ---------------------------------------------------------------- bytes


def test_a_slow_reader_holds_up_the_sender_and_not_our_memory(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = await gateway.rpc()
            session, worker, _ = await gateway.ready(rpc)
            client = await gateway.link(session)
            await client.hears(PeerAttached)
            client.socket.transport.pause_reading()
            memory = psutil.Process(gateway.process.pid).memory_info
            before = most = memory().rss
            sent = 0

            async def push() -> None:
                nonlocal sent
                for n in range(200):
                    await worker.frame(n.to_bytes(4, "big") + bytes((1 << 20) - 4))
                    sent += 1

            pushing = asyncio.ensure_future(push())
            seen, quiet = -1, 0
            while quiet < 10:  # until the sender stands still
                await asyncio.wait([pushing], timeout=0.05)
                seen, quiet = sent, quiet + 1 if sent == seen else 0
                most = max(most, memory().rss)
            assert not pushing.done() and sent < 60, f"{sent} MiB went nowhere"
            assert most - before < 32 << 20, f"{(most - before) >> 20} MiB"
            assert list(await rpc.sessions()) == [session], "nobody else waits"
            client.socket.transport.resume_reading()
            for n in range(200):
                assert (await client.hears_frame())[:4] == n.to_bytes(4, "big")
            most = max(most, memory().rss)
            await pushing
            assert most - before < 32 << 20, f"{(most - before) >> 20} MiB"

    go(test())


# ---------------------------------------------------------------- restarts and ends


def test_a_gateway_that_was_killed_takes_its_sessions_back(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder, simulate="H100:2") as gateway:
            rpc = await gateway.rpc()
            session, _, spec = await gateway.ready(rpc, "kept", "H100")
            await gateway.killed()

            rpc = await gateway.rpc()
            found = await rpc.sessions()
            assert found[session].state in USABLE and found[session].key == "kept" and found[session].worker_id == spec["worker_id"]
            gpus = (await rpc.ask(lambda i: GetInventory(id=i), Inventory)).gpus
            assert session in [g.session_id for g in gpus], "its GPU is not given away"
            assert (await rpc.open("kept", "H100")).session_id == session
            worker = await gateway.worker(spec, session)
            await works(gateway, session, worker)

    go(test())


def test_workers_that_died_with_the_gateway_are_not_taken_back(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = await gateway.rpc()
            session, _, spec = await gateway.ready(rpc)
            (folder / f"ended-{spec['worker_id']}").touch()
            await gateway.killed()
            rpc = await gateway.rpc()
            assert await rpc.sessions() == {}
            with pytest.raises(TokenRefused):
                await gateway.worker(spec, session)

    go(test())


def test_the_death_of_a_worker_that_was_taken_back_is_noticed(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = await gateway.rpc()
            session, _, spec = await gateway.ready(rpc)
            await gateway.killed()
            worker = await gateway.worker(spec, session)
            rpc = await gateway.rpc()
            await rpc.open("a notebook")
            client = await gateway.link(session)
            await client.hears(PeerAttached)
            await worker.socket.close()
            (folder / f"ended-{spec['worker_id']}").touch()
            assert (await rpc.reaches(session, SessionState.ENDED)).error is not None
            await client.hears(PeerDetached)
            await client.hears(SessionEnded)

    go(test())


def test_workers_that_cannot_start(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder, standby=1) as gateway:
            (folder / "no-more-workers").touch()
            rpc = await gateway.rpc()
            info = await rpc.open("a notebook")
            over = await rpc.reaches(info.session_id, SessionState.ENDED)
            assert over.error is not None and "no more workers" in str(from_record(over.error))
            (folder / "no-more-workers").unlink()
            await gateway.ready(rpc, "another")

    go(test())


def test_what_stands_by_comes_after_who_needs_it(folder: Path) -> None:
    """Whoever got a worker has the machine to itself for a moment; who needs the next one does not wait for that."""

    async def test() -> None:
        async with Running(folder, standby=1, first=600) as gateway:
            rpc = await gateway.rpc()
            for number in range(3):
                await gateway.ready(rpc, f"notebook {number}")
                assert sum(e["event"] == "start" for e in gateway.events) == max(2, number + 1)

    go(test())


def test_an_orderly_end(folder: Path) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            rpc = await gateway.rpc()
            _, worker, spec = await gateway.ready(rpc)
            gateway.process.terminate()
            assert (await worker.hears(Release)).kill
            assert (await gateway.event("stop"))["worker_id"] == spec["worker_id"]
            await gateway.event("closed")
            assert await gateway.process.wait() == 0
            assert not (folder / "gateway.sock").exists()
            await rpc.socket.wait_closed()
            await gateway.start()
            assert await (await gateway.rpc()).sessions() == {}, "nothing is kept of what was ended"

    go(test())
