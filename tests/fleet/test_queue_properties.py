"""What holds of the queue whatever comes: no GPU twice, nobody overtaken by who takes what it waits for, nobody waiting for ever."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from jupyter_gpu_gateway.fleet.state import Fleet, Opened, Session, Stopped, WorkerAssigned, WorkerReady

from jupyter_gpu.wire.messages import Gpu, SessionState, Wanted

KINDS = ("H100", "A100")
GPUS = [Gpu(uuid=f"GPU-{n}", type=kind, name=kind, memory=1) for n, kind in enumerate(("H100", "H100", "H100", "A100", "A100"))]

choices = st.builds(lambda kind, count: Wanted(type=kind, count=count), st.sampled_from([*KINDS, "ANY", "CPU"]), st.integers(1, 6))
wishes = st.lists(choices, min_size=1, max_size=3).map(tuple)
#: A wish opens a session; a number ends one of those that run.
steps = st.lists(st.one_of(wishes, st.integers(0, 5)), min_size=1, max_size=40)


def usable(wanted: tuple[Wanted, ...] | list[Wanted], gpu: Gpu) -> bool:
    """Written anew here, on purpose: some choice that could come true has a use for this GPU."""
    totals = {kind: sum(1 for g in GPUS if kind in ("ANY", g.type)) for kind in (*KINDS, "ANY")}
    return any(c.type != "CPU" and c.type in ("ANY", gpu.type) and totals[c.type] >= c.count for c in wanted)


def holders(fleet: Fleet) -> list[Session]:
    return [s for s in fleet.sessions.values() if s.gpus]


def check(fleet: Fleet, waiting_before: list[Session]) -> None:
    owners = [g.uuid for s in holders(fleet) for g in s.gpus]
    assert len(owners) == len(set(owners)), "one GPU, two sessions"
    still = [s for s in waiting_before if s.state == SessionState.QUEUED]
    for placed in holders(fleet):
        for earlier in still:
            if list(fleet.sessions).index(placed.session_id) > list(fleet.sessions).index(earlier.session_id):
                assert not any(usable(earlier.wanted, g) for g in placed.gpus), f"{placed} overtook {earlier}"
    queue = fleet.queue()
    if queue:
        free = [g for g in GPUS if g.uuid not in owners]
        for choice in queue[0].wanted:
            fitting = [g for g in free if choice.type in ("ANY", g.type)]
            assert choice.type != "CPU" and len(fitting) < choice.count, f"{queue[0]} waits for what is free"
    assert [s.position for s in queue] == list(range(1, len(queue) + 1))


@settings(max_examples=300, deadline=None)
@given(steps)
def test_whatever_comes(stream: list[tuple[Wanted, ...] | int]) -> None:
    numbers = itertools.count()
    fleet = Fleet(GPUS, standby=0, alone=0, new_id=lambda: f"w{next(numbers)}")
    for n, step in enumerate(stream):
        waiting = fleet.queue()
        if isinstance(step, int):
            running = [s for s in fleet.sessions.values() if s.state != SessionState.QUEUED]
            if running:
                fleet.handle(Stopped(running[step % len(running)].session_id), n)
        else:
            fleet.handle(Opened(f"s{n}", f"k{n}", step), n)
        check(fleet, waiting)


@settings(max_examples=200, deadline=None)
@given(st.lists(wishes, max_size=6), wishes, st.lists(wishes, min_size=1, max_size=8), st.data())
def test_nobody_waits_for_ever(
    before: list[tuple[Wanted, ...]], wish: tuple[Wanted, ...], later: list[tuple[Wanted, ...]], data: st.DataObject
) -> None:
    """Sessions end, and for each that ends another one comes, wishing something of ``later``: for ever. Those before it are served in
    finite time, and then it is."""
    numbers = itertools.count()
    fleet = Fleet(GPUS, standby=0, alone=0, new_id=lambda: f"w{next(numbers)}")
    for n, each in enumerate(before):
        fleet.handle(Opened(f"b{n}", f"b{n}", each), 0)
    fleet.handle(Opened("it", "it", wish), 0)
    if "it" not in fleet.sessions:
        return  # refused at once: there never is such hardware
    everybody = itertools.cycle(later)
    for n in range(60):
        if fleet.sessions["it"].state != SessionState.QUEUED:
            break
        fleet.handle(Opened(f"l{n}", f"l{n}", next(everybody)), n)
        running = [s for s in fleet.sessions.values() if s.state != SessionState.QUEUED and s.session_id != "it"]
        # The longest-running one ends now and then, so that each ends some day; else one at random does.
        victim = running[0] if n % 3 == 0 else data.draw(st.sampled_from(running))
        fleet.handle(Stopped(victim.session_id), n)
    assert fleet.sessions["it"].state == SessionState.STARTING
    worker = fleet.sessions["it"].worker_id
    fleet.handle(WorkerReady(worker), 100)
    fleet.handle(WorkerAssigned(worker), 100)
    assert fleet.sessions["it"].state == SessionState.READY
