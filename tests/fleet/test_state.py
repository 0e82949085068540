"""Events in, instructions out: lists are compared, and no clock runs."""

from __future__ import annotations

import itertools

from jupyter_gpu_gateway.fleet.state import (
    TRANSITIONS,
    Activity,
    AssignWorker,
    Changed,
    Clients,
    Ended,
    Fleet,
    Instruction,
    Opened,
    ReleaseWorker,
    Restarted,
    Session,
    StartWorker,
    Stopped,
    Tick,
    Warm,
    Worker,
    WorkerAssigned,
    WorkerBack,
    WorkerGone,
    WorkerReady,
)

from jupyter_gpu.wire.errors import JupyterGpuError, NoSuchHardware, SessionLost, WorkerDied, WorkerStartFailed
from jupyter_gpu.wire.messages import Gpu, SessionState, Versions, Wanted

S = SessionState
BOOM = WorkerStartFailed(phase="fork", reason="no memory", log="")


def gpus(*kinds: str) -> list[Gpu]:
    return [Gpu(uuid=f"GPU-{n}", type=kind, name=kind, memory=80 << 30, index=n) for n, kind in enumerate(kinds)]


def fleet(*kinds: str, standby: int = 0, alone: float = 0.0) -> Fleet:
    numbers = itertools.count(1)
    return Fleet(gpus(*kinds), standby=standby, alone=alone, new_id=lambda: f"w{next(numbers)}")


def opened(session: str, *wanted: str, interpreter: str = "", idle: float = 0.0) -> Opened:
    choices = [Wanted(type=w.partition(":")[0], count=int(w.partition(":")[2] or 1)) for w in wanted or ("CPU",)]
    return Opened(session, "key-" + session, tuple(choices), interpreter, idle)


def running(found: Fleet, session: str, *wanted: str, now: float = 0.0, idle: float = 0.0) -> str:
    """Open a session and bring it to READY; its worker."""
    found.handle(opened(session, *wanted, idle=idle), now)
    worker = found.sessions[session].worker_id
    found.handle(WorkerReady(worker), now)
    found.handle(WorkerAssigned(worker), now)
    assert found.sessions[session].state == S.READY
    return worker


def ended(instructions: list[Instruction]) -> dict[str, JupyterGpuError]:
    return {i.session_id: i.error for i in instructions if isinstance(i, Ended)}


def without_errors(instructions: list[Instruction]) -> list[object]:
    return [("ended", i.session_id) if isinstance(i, Ended) else i for i in instructions]


def uuids(found: Fleet, session: str) -> list[str]:
    return [g.uuid for g in found.sessions[session].gpus]


# ---------------------------------------------------------------- life of a session


def test_the_life_of_a_session() -> None:
    found = fleet("H100")
    assert found.handle(opened("a", "H100"), 1) == [StartWorker("w1", ""), Changed("a")]
    assert found.sessions["a"].state == S.STARTING and not found.sessions["a"].warm
    assert found.handle(WorkerReady("w1", None, 77), 2) == [AssignWorker("w1", "a")]
    assert found.sessions["a"].pid == 77
    assert found.handle(WorkerAssigned("w1"), 3) == [Changed("a")]
    assert found.handle(Activity("a", True), 4) == [Changed("a")]
    assert found.sessions["a"].state == S.BUSY
    assert found.handle(Activity("a", True), 4) == []
    assert found.handle(Activity("a", False), 5) == [Changed("a")]
    assert found.sessions["a"].state == S.IDLE
    stopped = found.handle(Stopped("a", kill=True, reason="it was stopped"), 6)
    assert without_errors(stopped) == [("ended", "a"), ReleaseWorker("w1", kill=True)]
    error = ended(stopped)["a"]
    assert isinstance(error, SessionLost) and error.reason == "it was stopped"
    assert found.sessions == {}
    assert found.handle(WorkerGone("w1"), 7) == [] and found.workers == {}


def test_every_state_before_the_end_can_be_stopped_and_nothing_leaves_an_end() -> None:
    assert {s for s, what in TRANSITIONS if what == "stop"} == {S.QUEUED, S.STARTING, S.READY, S.BUSY, S.IDLE}
    assert not {s for s, _ in TRANSITIONS} & {S.ENDED, S.LOST}


def test_the_session_of_a_key_is_found_while_it_is_alive() -> None:
    found = fleet("H100")
    found.handle(opened("a"), 0)
    session = found.find("key-a")
    assert session is not None and session.session_id == "a" and found.find("key-b") is None
    found.handle(Stopped("a"), 1)
    assert found.find("key-a") is None


def test_stopped_while_it_starts() -> None:
    found = fleet("H100")
    found.handle(opened("a", "H100"), 0)
    assert without_errors(found.handle(Stopped("a"), 1)) == [("ended", "a"), ReleaseWorker("w1", kill=False)]
    assert found.handle(WorkerReady("w1"), 2) == [ReleaseWorker("w1", kill=True)], "it serves one session, and dies"
    assert found.handle(opened("b", "H100"), 3) == [StartWorker("w2", ""), Changed("b")]


def test_stopped_in_the_queue() -> None:
    found = fleet("H100")
    running(found, "a", "H100")
    found.handle(opened("b", "H100"), 1)
    found.handle(opened("c", "H100"), 2)
    assert without_errors(found.handle(Stopped("b"), 3)) == [("ended", "b"), Changed("c")]
    assert found.sessions["c"].position == 1


# ---------------------------------------------------------------- hardware


def test_the_first_choice_that_is_free() -> None:
    found = fleet("A100", "H100")
    running(found, "a", "H100", "A100")
    running(found, "b", "H100", "A100")
    running(found, "c", "H100", "A100", "CPU")
    assert (uuids(found, "a"), uuids(found, "b"), uuids(found, "c")) == (["GPU-1"], ["GPU-0"], [])


def test_any_gpu() -> None:
    found = fleet("A100", "H100")
    running(found, "a", "ANY")
    running(found, "b", "ANY")
    assert uuids(found, "a") + uuids(found, "b") == ["GPU-0", "GPU-1"]
    found.handle(opened("c", "ANY"), 0)
    assert found.sessions["c"].state == S.QUEUED


def test_cpu_sessions_are_not_counted() -> None:
    found = fleet()
    for name in "abc":
        running(found, name, "CPU")
    assert found.queue() == [] and found.inventory() == []


def test_a_gpu_has_one_session() -> None:
    found = fleet("H100", "H100", "A100")
    running(found, "a", "H100:2")
    assert [g.session_id for g in found.inventory()] == ["a", "a", ""]
    assert [g.session_id for g in found.sessions["a"].gpus] == ["a", "a"]
    assert found.handle(opened("b", "H100"), 1) == [Changed("b")]
    assert found.sessions["b"].position == 1 and uuids(found, "b") == []


def test_a_gpu_is_free_again_when_its_session_ends() -> None:
    found = fleet("H100")
    running(found, "a", "H100")
    found.handle(opened("b", "H100"), 1)
    assert without_errors(found.handle(Stopped("a"), 2)) == [
        ("ended", "a"),
        ReleaseWorker("w1", kill=False),
        StartWorker("w2", ""),
        Changed("b"),
    ]
    assert found.sessions["b"].position == 0


def test_positions_in_the_queue_are_told_when_they_change() -> None:
    found = fleet("H100")
    running(found, "a", "H100")
    assert found.handle(opened("b", "H100"), 1) == [Changed("b")]
    assert found.handle(opened("c", "H100"), 2) == [Changed("c")]
    assert [(s.session_id, s.position) for s in found.queue()] == [("b", 1), ("c", 2)]
    assert found.handle(Tick(), 3) == [], "nothing to tell"
    found.handle(Stopped("a"), 4)
    assert [(s.session_id, s.position) for s in found.queue()] == [("c", 1)]


def test_who_fits_need_not_wait_for_who_does_not() -> None:
    found = fleet("H100", "A100")
    running(found, "a", "H100")
    found.handle(opened("b", "H100"), 1)
    running(found, "c", "A100")
    assert [s.session_id for s in found.queue()] == ["b"]


def test_small_wishes_do_not_keep_a_large_one_waiting_for_ever() -> None:
    found = fleet("H100", "H100")
    running(found, "small-0", "H100")
    running(found, "small-1", "H100")
    found.handle(opened("large", "H100:2"), 1)
    found.handle(opened("late", "H100"), 2)
    found.handle(Stopped("small-0"), 3)
    assert uuids(found, "late") == [], "it would take what the large one waits for"
    assert [(s.session_id, s.position) for s in found.queue()] == [("large", 1), ("late", 2)]
    found.handle(Stopped("small-1"), 4)
    assert len(uuids(found, "large")) == 2
    found.handle(Stopped("large"), 5)
    assert len(uuids(found, "late")) == 1


def test_who_waits_keeps_only_what_it_can_use() -> None:
    found = fleet("H100", "H100", "A100")
    running(found, "a", "H100")
    found.handle(opened("large", "H100:2", "A100:7"), 1)  # seven A100 never come: they are not waited for
    running(found, "b", "A100")
    running(found, "c", "CPU")
    found.handle(opened("d", "H100", "CPU"), 2)
    assert found.sessions["d"].state == S.STARTING and uuids(found, "d") == [], "its second choice"


def test_whoever_waits_for_any_gpu_keeps_all() -> None:
    found = fleet("H100", "A100", "A100")
    running(found, "a", "H100")
    found.handle(opened("large", "ANY:3"), 1)
    found.handle(opened("b", "A100"), 2)
    assert [s.session_id for s in found.queue()] == ["large", "b"]


def test_what_there_never_is_is_refused_at_once() -> None:
    found = fleet("H100", "H100", "A100")
    (only,) = found.handle(opened("a", "B200", "H100:3"), 0)
    assert isinstance(only, Ended) and isinstance(only.error, NoSuchHardware)
    assert only.error.wanted == ["B200", "H100:3"]
    assert only.error.available == ["2 × H100", "A100", "CPU"]
    assert found.sessions == {} and found.workers == {}


def test_nonsense_is_no_choice() -> None:
    found = fleet("H100", "H100")
    (only,) = found.handle(opened("a", "H100:-1"), 0)
    assert isinstance(only, Ended) and isinstance(only.error, NoSuchHardware)
    found.handle(opened("b", "H100:-1", "H100"), 1)
    assert uuids(found, "b") == ["GPU-0"]


def test_simulated_hardware_says_so() -> None:
    declared = [*gpus("H100"), Gpu(uuid="SIM-0", type="H100", name="simulated H100", memory=1, simulated=True)]
    assert Fleet(declared, standby=0, alone=0, new_id=str).describe() == ["H100", "H100 (simulated)", "CPU"]


# ---------------------------------------------------------------- standby


def test_the_pool_is_filled_taken_from_and_refilled() -> None:
    found = fleet("H100", standby=2)
    assert found.handle(Warm(""), 0) == [StartWorker("w1", ""), StartWorker("w2", "")]
    assert found.handle(WorkerReady("w2"), 1) == []
    assert found.handle(opened("a", "H100"), 2) == [Changed("a"), AssignWorker("w2", "a"), StartWorker("w3", "")]
    assert found.sessions["a"].warm and found.sessions["a"].worker_id == "w2"


def test_one_that_is_coming_up_is_taken_rather_than_another_started() -> None:
    found = fleet(standby=1)
    found.handle(Warm(""), 0)
    assert found.handle(opened("a"), 1) == [Changed("a"), StartWorker("w2", "")]
    assert not found.sessions["a"].warm
    assert found.handle(WorkerReady("w1"), 2) == [AssignWorker("w1", "a")]


def test_a_pool_for_each_interpreter_that_was_used() -> None:
    found = fleet(standby=1)
    found.handle(Warm(""), 0)
    found.handle(WorkerReady("w1"), 0)
    started = found.handle(opened("a", interpreter="other-python"), 1)
    assert started == [StartWorker("w2", "other-python"), Changed("a"), StartWorker("w3", "other-python")]
    assert found.workers["w1"].session_id == ""


def test_a_standby_worker_that_died_is_replaced() -> None:
    found = fleet(standby=1)
    found.handle(Warm(""), 0)
    found.handle(WorkerReady("w1"), 1)
    assert found.handle(WorkerGone("w1"), 2) == [StartWorker("w2", "")]


def test_a_standby_worker_that_never_came_up_is_not_tried_for_ever() -> None:
    found = fleet(standby=1)
    found.handle(Warm(""), 0)
    assert found.handle(WorkerGone("w1", BOOM), 1) == []
    assert found.handle(Tick(), 2) == []
    assert found.handle(opened("a"), 3) == [StartWorker("w2", ""), Changed("a"), StartWorker("w3", "")]


def test_a_session_stopped_while_it_starts_does_not_empty_the_pool() -> None:
    found = fleet(standby=1)
    found.handle(opened("a"), 0)
    found.handle(WorkerReady("w2"), 0)
    found.handle(Stopped("a"), 1)
    found.handle(WorkerGone("w1"), 2)
    found.handle(WorkerReady("w2"), 3)
    assert found.handle(opened("b"), 4) == [Changed("b"), AssignWorker("w2", "b"), StartWorker("w3", "")]


# ---------------------------------------------------------------- failures


def test_a_failed_start_is_tried_once_more() -> None:
    found = fleet("H100")
    found.handle(opened("a", "H100"), 0)
    assert found.handle(WorkerGone("w1", BOOM), 1) == [Changed("a"), StartWorker("w2", ""), Changed("a")]
    assert found.sessions["a"].state == S.STARTING and uuids(found, "a") == ["GPU-0"]
    over = found.handle(WorkerGone("w2", BOOM), 2)
    assert over == [Ended("a", BOOM)]
    assert found.sessions == {} and found.workers == {} and found.inventory()[0].session_id == ""


def test_a_worker_that_dies_takes_its_session_along_and_frees_its_gpu() -> None:
    for activity in (None, True, False):
        found = fleet("H100")
        worker = running(found, "a", "H100")
        found.handle(opened("b", "H100"), 1)
        if activity is not None:
            found.handle(Activity("a", True), 2)
            found.handle(Activity("a", activity), 2)
        error = WorkerDied(exit=-9, detail="")
        assert found.handle(WorkerGone(worker, error), 3) == [Ended("a", error), StartWorker("w2", ""), Changed("b")]


def test_a_worker_that_is_gone_without_a_reason() -> None:
    found = fleet()
    worker = running(found, "a")
    error = ended(found.handle(WorkerGone(worker), 1))["a"]
    assert isinstance(error, SessionLost) and "its worker is gone" in error.sentence


# ---------------------------------------------------------------- workers that come back


def back(worker: str, busy: bool) -> WorkerBack:
    return WorkerBack(worker, Versions(software="s", python="3.11.7", cloudpickle="3.1"), 78, busy)


def test_a_worker_that_comes_back_says_what_it_is_at() -> None:
    found = fleet("H100")
    worker = running(found, "a", "H100", idle=30)
    assert found.handle(back(worker, True), 10) == [Changed("a")] and found.sessions["a"].state == S.BUSY
    assert found.sessions["a"].pid == 78 and found.sessions["a"].versions is not None
    assert found.handle(Tick(), 1000) == [], "a cell that runs is no idleness"
    assert found.handle(back(worker, True), 1000) == []
    assert found.handle(back(worker, False), 1000) == [Changed("a")] and found.sessions["a"].state == S.IDLE
    assert found.handle(back(worker, False), 1029) == [], "a cut is no cell"
    assert list(ended(found.handle(Tick(), 1030))) == ["a"]


def test_a_worker_whose_being_assigned_was_never_heard() -> None:
    found = fleet("H100")
    found.handle(opened("a", "H100"), 0)
    found.handle(WorkerReady("w1"), 1)
    assert found.handle(back("w1", False), 2) == [Changed("a")] and found.sessions["a"].state == S.READY
    found = fleet("H100")
    found.handle(opened("a", "H100"), 0)
    found.handle(WorkerReady("w1"), 1)
    assert found.handle(back("w1", True), 2) == [Changed("a"), Changed("a")] and found.sessions["a"].state == S.BUSY


def test_an_earlier_lifes_session_is_not_idle_before_its_worker_was_heard() -> None:
    found = fleet("H100")
    found.sessions["a"] = Session("a", "key", [Wanted(type="CPU")], 0, idle=30, state=S.IDLE, worker_id="w")
    found.workers["w"] = Worker("w", "", ready=False, session_id="a")
    assert found.handle(Tick(), 1000) == []
    found.handle(back("w", True), 1000)
    found.handle(Activity("a", False), 1001)
    assert found.handle(Tick(), 1030) == []
    assert list(ended(found.handle(Tick(), 1031))) == ["a"]


# ---------------------------------------------------------------- time


def test_a_session_without_cells_ends_after_its_idle_time() -> None:
    found = fleet("H100")
    running(found, "a", "H100", now=100, idle=30)
    assert found.handle(Tick(), 129) == []
    found.handle(Activity("a", True), 129)
    assert found.handle(Tick(), 1000) == [], "a cell that runs is no idleness"
    found.handle(Activity("a", False), 1000)
    assert found.handle(Tick(), 1029.9) == []
    over = found.handle(Tick(), 1030)
    assert without_errors(over) == [("ended", "a"), ReleaseWorker("w1", kill=False)]
    assert "no cell ran for 30 seconds" in str(ended(over)["a"])


def test_without_an_idle_time_it_stays() -> None:
    found = fleet("H100")
    running(found, "a", "H100")
    assert found.handle(Tick(), 1e9) == []


def test_a_session_that_nobody_is_connected_to_ends() -> None:
    found = fleet("H100", alone=60)
    running(found, "a", "H100", now=0)
    found.handle(Clients("a", 1), 50)
    assert found.handle(Tick(), 500) == []
    found.handle(Clients("a", 0), 500)
    found.handle(opened("b", "H100"), 520)
    assert found.handle(Tick(), 559) == []
    over = found.handle(Tick(), 560)
    assert list(ended(over)) == ["a"] and "no notebook was connected for 60 seconds" in str(ended(over)["a"])
    assert StartWorker("w2", "") in over, "the next one in the queue gets its GPU"


def test_who_waits_in_the_queue_with_a_client_is_not_alone() -> None:
    found = fleet("H100", alone=60)
    running(found, "a", "H100")
    found.handle(Clients("a", 1), 0)
    found.handle(opened("b", "H100"), 0)
    found.handle(Clients("b", 1), 0)
    assert found.handle(Tick(), 1000) == []
    found.handle(Clients("b", 0), 1000)
    assert list(ended(found.handle(Tick(), 1060))) == ["b"]


# ---------------------------------------------------------------- what is not known


def test_ids_that_nobody_knows_change_nothing() -> None:
    found = fleet("H100")
    running(found, "a", "H100")
    for event in (Stopped("x"), WorkerAssigned("x"), back("x", True), WorkerGone("x"), Activity("x", True), Clients("x", 1)):
        assert found.handle(event, 1) == [], event
    assert list(found.sessions) == ["a"] and found.sessions["a"].state == S.READY


def test_a_worker_of_an_earlier_life_is_sent_away() -> None:
    assert fleet().handle(WorkerReady("x"), 0) == [ReleaseWorker("x", kill=True)]


def test_a_standby_worker_has_no_session_to_be_assigned_to() -> None:
    found = fleet(standby=1)
    found.handle(Warm(""), 0)
    assert found.handle(WorkerAssigned("w1"), 1) == []


# ---------------------------------------------------------------- whole kernels


def test_a_restart_keeps_the_hardware_and_takes_a_fresh_worker() -> None:
    found = fleet("H100", standby=1)
    worker = running(found, "a", "H100")
    found.handle(opened("b", "H100"), 1)
    spare = next(w.worker_id for w in found.workers.values() if not w.session_id)
    found.handle(WorkerReady(spare), 2)
    said = found.handle(Restarted("a"), 3)
    assert ReleaseWorker(worker, kill=False) in said and AssignWorker(spare, "a") in said
    assert found.sessions["a"].state == S.STARTING and found.sessions["a"].worker_id == spare
    assert uuids(found, "a") == ["GPU-0"] and found.sessions["b"].state == S.QUEUED, "who waits for the hardware goes on waiting"
    found.handle(WorkerAssigned(spare), 4)
    assert found.sessions["a"].state == S.READY
    assert ended(found.handle(WorkerGone(worker), 5)) == {}, "the end of the worker before is no end of the session"


def test_a_restart_of_what_never_ran_changes_nothing() -> None:
    found = fleet("H100")
    found.handle(opened("a", "H100"), 1)
    assert found.handle(Restarted("a"), 2) == [] and found.handle(Restarted("nobody"), 2) == []


def test_a_restart_whose_worker_died_at_this_moment() -> None:
    found = fleet("H100")
    worker = running(found, "a", "H100")
    del found.workers[worker]
    said = found.handle(Restarted("a"), 2)
    assert not any(isinstance(i, ReleaseWorker) for i in said) and any(isinstance(i, StartWorker) for i in said)


def test_a_session_may_say_how_long_it_waits_alone() -> None:
    found = fleet("H100", "H100", alone=10)
    for name, alone in (("a", -1.0), ("b", 100.0), ("c", 0.0)):
        found.handle(Opened(name, name, (Wanted(type="CPU"),), alone=alone), 0)
        found.handle(WorkerReady(found.sessions[name].worker_id), 0)
        found.handle(WorkerAssigned(found.sessions[name].worker_id), 0)
        found.handle(Clients(name, 0), 0)
    assert set(ended(found.handle(Tick(), 11))) == {"a"}
    assert set(ended(found.handle(Tick(), 101))) == {"b"}
    assert set(ended(found.handle(Tick(), 1e6))) == set()
