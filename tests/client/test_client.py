from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest

from jupyter_gpu.client import Gateway, Session
from jupyter_gpu.config import JupyterGPU
from jupyter_gpu.rpc import check_versions, here
from jupyter_gpu.wire.errors import (
    GatewayUnreachable,
    NoSuchHardware,
    PythonMismatch,
    SessionLost,
    SessionNotFound,
    TokenRefused,
    WorkerDied,
    WorkerStartFailed,
)
from jupyter_gpu.wire.link import Lane
from jupyter_gpu.wire.messages import (
    CellDone,
    Fetch,
    Fetched,
    Interrupt,
    Jupyter,
    KernelExited,
    Offer,
    RunCell,
    SessionInfo,
    SessionState,
    Versions,
    Wanted,
)

pytestmark = pytest.mark.timeout(60)
CPU = [Wanted(type="CPU")]


def until(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)


def cell(run_id: str = "r1") -> RunCell:
    return RunCell(run_id=run_id, code="pass", execution_count=1)


def done(run_id: str = "r1") -> CellDone:
    return CellDone(run_id=run_id, status="ok", execution_count=1)


# ---------------------------------------------------------------- gateways


def test_one_connection_per_address(beside: Any, client: Gateway) -> None:
    assert Gateway.connect(beside.config()) is client and client.alive
    client.close()
    assert not client.alive
    again = Gateway.connect(beside.config())
    assert again is not client and again.alive
    assert again.welcome.gateway_id
    again.close()


def test_a_wrong_token_is_not_tried_again(beside: Any) -> None:
    began = time.monotonic()
    with pytest.raises(TokenRefused):
        Gateway.connect(JupyterGPU(gateway=beside.running.url, token="wrong"))
    assert time.monotonic() - began < 1, "it does not become right by waiting"


def test_a_gateway_that_was_named_is_not_started_in_its_place(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jupyter_gpu.embedded.find_or_start", lambda config: pytest.fail("the person named another"))
    with pytest.raises(GatewayUnreachable, match="no such socket"):
        Gateway.connect(JupyterGPU(gateway=f"unix://{tmp_path}/none.sock", token="t"))


def test_looking_for_an_own_gateway_starts_none(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(GatewayUnreachable, match="first %%remote cell starts it"):
        Gateway.connect(JupyterGPU(), start=False)
    assert list(tmp_path.iterdir()) == []


def test_requests(beside: Any, client: Gateway) -> None:
    assert [g.type for g in client.inventory()] == ["H100"] and client.sessions() == []
    with pytest.raises(SessionNotFound):
        client.stop("s-nobody")
    with pytest.raises(NoSuchHardware, match="B200"):
        client.open("k", [Wanted(type="B200")])


def test_requests_go_on_after_the_gateway_was_restarted(beside: Any, client: Gateway) -> None:
    beside.do(beside.running.killed())
    assert client.sessions() == []


def test_a_gateway_that_is_gone(beside: Any, client: Gateway) -> None:
    beside.running.process.kill()
    beside.do(beside.running.process.wait())
    until(lambda: not client.alive, "the loss is noticed")
    with pytest.raises(GatewayUnreachable):
        client.sessions()


def test_many_threads_ask_at_once(client: Gateway) -> None:
    found: SimpleQueue[int] = SimpleQueue()
    threads = [threading.Thread(target=lambda: [found.put(len(client.inventory())) for _ in range(20)]) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert [found.get() for _ in range(160)] == [1] * 160


# ---------------------------------------------------------------- opening a session


def test_opening_tells_each_phase_and_finds_the_same_session_again(beside: Any, client: Gateway) -> None:
    phases: list[SessionState] = []
    session = client.open("k", [Wanted(type="H100")], on_change=lambda info: phases.append(info.state))
    assert phases[0] == SessionState.STARTING and phases[-1] == SessionState.READY and session.info.label == "H100 (simulated)"
    until(lambda: session.hello is not None, "the link")
    again = client.open("k", [Wanted(type="H100")])
    assert again.info.session_id == session.info.session_id and len(beside.workers) == 1
    with pytest.raises(SessionLost, match="another client took over"):
        session.receive(10)  # and it does not take it back: the two would throw each other out for ever


def test_a_session_that_was_stopped(client: Gateway, session: Session) -> None:
    client.stop(session.info.session_id)
    with pytest.raises(SessionLost, match="it was stopped"):
        session.receive(10)
    with pytest.raises(SessionLost):
        session.send(cell())


def test_a_worker_of_another_python_ends_with_the_attempt(beside: Any, client: Gateway) -> None:
    beside.versions = Versions(software="x", python="3.7.1", cloudpickle=here().cloudpickle)
    with pytest.raises(PythonMismatch, match="3.7"):
        client.open("k", CPU)
    assert client.sessions() == []
    assert beside.workers[0].released.wait(10)


def test_an_interrupt_while_it_starts_ends_what_it_began_and_nothing_else(client: Gateway) -> None:
    def stop(info: SessionInfo) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.open("k", CPU, on_change=stop)
    assert client.sessions() == []
    session = client.open("k", CPU)
    with pytest.raises(KeyboardInterrupt):
        client.open("k", CPU, on_change=stop)
    assert [s.session_id for s in client.sessions()] == [session.info.session_id], "it was there before"


def test_a_worker_that_cannot_start(beside: Any, client: Gateway) -> None:
    (beside.running.folder / "no-more-workers").touch()
    with pytest.raises(WorkerStartFailed, match="no more workers"):
        client.open("k", CPU)


def test_a_gateway_that_dies_while_a_session_starts(beside: Any, client: Gateway) -> None:
    beside.serving.cancel()  # no worker comes

    def die(info: SessionInfo) -> None:
        beside.running.process.kill()

    with pytest.raises(GatewayUnreachable, match="while a session started"):
        client.open("k", CPU, on_change=die)


# ---------------------------------------------------------------- a session


@pytest.fixture
def session(beside: Any, client: Gateway) -> Session:
    found = client.open("k", CPU)
    until(lambda: found.hello is not None, "the kernel's hello")
    return found


def test_what_comes_during_a_cell_waits_and_what_comes_after_it_is_heard_at_once(beside: Any, session: Session) -> None:
    heard: SimpleQueue[Any] = SimpleQueue()
    session.listener = lambda message, buffers: heard.put(message)
    worker = beside.workers[0]
    session.send(cell())
    until(lambda: worker.got != [], "the cell has come")
    for message in (Jupyter(channel="iopub"), done(), Offer(id=1, digests=[], sizes=[])):
        worker.tell(message)
    first, second = session.receive(), session.receive()
    assert first is not None and isinstance(first[0], Jupyter) and second is not None and isinstance(second[0], CellDone)
    assert isinstance(heard.get(timeout=10), Offer)
    assert session.receive(timeout=0) is None
    session.send(Fetch(id=1, names=["x"]))
    worker.tell(Fetched(id=1))
    got = session.receive(10)
    assert got is not None and isinstance(got[0], Fetched)


def test_an_interrupt_names_its_cell_and_goes_ahead_of_data(beside: Any, session: Session) -> None:
    worker = beside.workers[0]
    session.send(cell("r7"))
    session.interrupt()
    until(lambda: len(worker.got) == 2, "both have come")
    assert (Lane.CONTROL, Interrupt(run_id="r7")) in worker.got
    session.send(Fetch(id=1, names=["x"]))
    session.interrupt()
    until(lambda: len(worker.got) == 4, "both have come")
    assert (Lane.CONTROL, Interrupt(run_id="")) in worker.got, "a fetch is no cell"


def test_the_kernels_death_is_told_to_everybody_who_asks(beside: Any, session: Session) -> None:
    session.send(cell())
    beside.workers[0].tell(KernelExited(code=-9, detail="killed by SIGKILL"), Lane.CONTROL)
    for _ in range(3):
        with pytest.raises(WorkerDied, match="SIGKILL"):
            session.receive(10)
    with pytest.raises(WorkerDied):
        session.send(cell("r2"))


def test_what_was_said_before_the_death_is_heard_before_it(beside: Any, session: Session) -> None:
    session.send(cell())
    beside.workers[0].tell(Jupyter(channel="iopub"))
    got = session.receive(10)
    assert got is not None and isinstance(got[0], Jupyter)
    session.kill()
    with pytest.raises(SessionLost):
        session.receive(10)


def test_killing_where_no_gateway_answers_ends_the_wait_all_the_same(beside: Any, session: Session) -> None:
    beside.running.process.kill()
    beside.do(beside.running.process.wait())
    session.kill()
    with pytest.raises(GatewayUnreachable):
        session.receive(10)


def test_a_closed_session_says_so(session: Session) -> None:
    session.close()
    with pytest.raises(SessionLost, match="closed"):
        session.receive(10)


def test_messages_survive_a_restart_of_the_gateway(beside: Any, session: Session) -> None:
    worker = beside.workers[0]
    beside.do(beside.running.killed())
    session.send(cell("while it was away"))
    until(lambda: any(isinstance(m, RunCell) and m.run_id == "while it was away" for _, m in worker.got), "it arrives", 20)
    worker.tell(done("while it was away"))
    got = session.receive(20)
    assert got is not None and isinstance(got[0], CellDone)
    assert sum(isinstance(m, RunCell) for _, m in worker.got) == 1, "once"


def test_a_large_send_waits_until_most_of_it_is_there(beside: Any, session: Session) -> None:
    worker = beside.workers[0]
    holding: list[asyncio.Future[None]] = []

    def take(lane: Lane, payload: memoryview) -> Any:
        worker.got.append((lane, None))
        if not holding:
            holding.append(beside.loop.create_future())
            return holding[0]
        return None

    worker.driver._on_payload = take
    big = bytes(1 << 20)
    state = {"sent": 0}

    def push() -> None:
        for n in range(160):
            session.send(Offer(id=n, digests=[], sizes=[]), [big])
            state["sent"] += 1

    pushing = threading.Thread(target=push)
    pushing.start()
    until(lambda: bool(holding), "the first is there")
    seen = -1
    while seen != state["sent"]:  # until the sender stands still
        seen = state["sent"]
        pushing.join(0.3)
    assert pushing.is_alive() and state["sent"] < 120, state
    beside.loop.call_soon_threadsafe(holding[0].set_result, None)
    pushing.join(30)
    assert state["sent"] == 160
    until(lambda: len(worker.got) == 160, "all of it arrives")


# ---------------------------------------------------------------- versions


@pytest.mark.parametrize(
    ("python", "cloudpickle", "what"),
    [("3.9.1", None, "Python"), ("4.11.0", None, "Python"), (None, "1.2.0", "cloudpickle"), (None, None, "")],
)
def test_versions_that_agree(python: str | None, cloudpickle: str | None, what: str) -> None:
    there = Versions(software="other", python=python or here().python, cloudpickle=cloudpickle or here().cloudpickle)
    if what:
        with pytest.raises(PythonMismatch) as caught:
            check_versions(there)
        assert caught.value.what == what
    else:
        check_versions(there)
    check_versions(None)  # it has not said anything yet


def test_another_patch_release_is_the_same() -> None:
    major, minor, _ = here().python.split(".")
    check_versions(Versions(software="x", python=f"{major}.{minor}.999", cloudpickle=here().cloudpickle))
