"""The link over a network that cuts, drops, repeats, delays and reorders: nothing lost, nothing twice, order kept.

Two ways through the same network: Hypothesis chooses each step (and shrinks what fails), and long walks by a seeded dice,
which reach states that short examples don't.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jupyter_gpu.wire.errors import FrameGarbled, SpoolFull
from jupyter_gpu.wire.link import Lane, Link
from jupyter_gpu.wire.spool import Spool


class Network:
    """``wire[side]``: frames on their way from ``side``. ``old[side]``: all that it ever sent."""

    def __init__(self, max_frame: int, window: int, ack_frames: int, memory: int, disk: int) -> None:
        self.links = [
            Link(
                spool=Spool(memory=memory, disk=disk),
                max_frame=max_frame,
                window=window,
                max_payload=200,
                ack_frames=ack_frames,
                epoch=side + 1,
            )
            for side in (0, 1)
        ]
        self.wire: list[list[bytes]] = [[], []]
        self.old: list[list[bytes]] = [[], []]
        self.sent: list[dict[Lane, list[bytes]]] = [{lane: [] for lane in Lane} for _ in range(2)]
        self.got: list[dict[Lane, list[bytes]]] = [{lane: [] for lane in Lane} for _ in range(2)]
        self.connected = False
        self.gaps = 0

    def send(self, side: int, lane: Lane, dice: random.Random) -> None:
        size = dice.choice([0, 1, 3, 8, 9, 20, 40])
        payload = dice.randbytes(size)
        places = sorted({0, size, *(dice.randrange(size) for _ in range(2 if size else 0))})
        parts: list[bytes | bytearray] = [bytearray(payload[start:end]) for start, end in zip(places, [*places[1:], size], strict=True)]
        try:
            self.links[side].send(parts, lane)
        except SpoolFull:
            return
        self.sent[side][lane].append(payload)

    def write(self, side: int, limit: int | None) -> None:
        for parts in self.links[side].frames(limit):
            if self.connected:
                self.wire[side].append(b"".join(parts))
                self.old[side].append(self.wire[side][-1])

    def deliver(self, side: int, count: int) -> None:
        while self.wire[side] and count:
            count -= 1
            frame = self.wire[side].pop(0)
            try:
                for lane, payload in self.links[1 - side].receive(frame):
                    self.got[1 - side][lane].append(bytes(payload))
            except FrameGarbled:  # a gap: a driver drops the connection
                self.gaps += 1
                self.cut(0, 0)

    def cut(self, *under_way: int) -> None:
        """Some frames are still under way, and may come after the next connection is there."""
        self.connected = False
        for side, keep in enumerate(under_way):
            del self.wire[side][keep:]
            self.links[side].detached()

    def attach(self, *sides: int) -> None:
        self.connected = True
        for side in sides:
            self.links[side].attached()

    def repeat(self, side: int, dice: random.Random) -> None:
        if self.old[side]:
            self.wire[side].insert(dice.randint(0, len(self.wire[side])), dice.choice(self.old[side][-12:]))

    def drop(self, side: int, dice: random.Random) -> None:
        if self.wire[side]:
            del self.wire[side][dice.randrange(len(self.wire[side]))]

    def step(self, action: str, side: int, dice: random.Random) -> None:
        if action == "data":
            self.send(side, Lane.DATA, dice)
        elif action == "control":
            self.send(side, Lane.CONTROL, dice)
        elif action == "write":
            self.write(side, dice.choice([None, 1, 10, 40]))
        elif action == "deliver":
            self.deliver(side, dice.choice([1, 2, 3, 10]))
        elif action == "acknowledge":
            self.links[side].acknowledge()
        elif action == "hold":
            self.links[side].hold()
        elif action == "release":
            self.links[side].release()
        elif action == "cut":
            self.cut(dice.randrange(5), dice.randrange(5))
        elif action == "attach":
            if not self.connected:
                self.attach(side, 1 - side)
        elif action == "attach one":  # one end is told of a change that the other one does not notice
            if self.connected:
                self.attach(side)
        elif action == "repeat":
            self.repeat(side, dice)
        else:
            self.drop(side, dice)
        self.check()

    def check(self) -> None:
        for side, link in enumerate(self.links):
            for lane in Lane:
                got = self.got[1 - side][lane]
                assert got == self.sent[side][lane][: len(got)]
            assert link.backlog == link.spool.memory + link.spool.disk + link._control_spool.memory
            assert sum(map(len, (payload for lane in Lane for payload in self.sent[side][lane]))) >= link.backlog

    def heal(self) -> None:
        """The network gets well again: everything arrives."""
        self.cut(0, 0)
        for link in self.links:
            link.release()
        self.attach(0, 1)
        for _ in range(2000):
            before = [link.backlog for link in self.links]
            for side in (0, 1):
                self.links[side].acknowledge()
                self.write(side, None)
            if not any(self.wire) and before == [0, 0]:
                break
            for side in (0, 1):
                self.deliver(side, 10**6)
            assert self.connected
        self.check()
        for side in (0, 1):
            assert self.got[1 - side] == self.sent[side]
            assert self.links[side].backlog == 0
            self.links[side].close()


ACTIONS = {
    "data": 7,
    "control": 3,
    "write": 18,
    "deliver": 18,
    "acknowledge": 8,
    "hold": 0.3,
    "release": 2,
    "cut": 1,
    "attach": 8,
    "attach one": 0.5,
    "repeat": 1,
    "drop": 0.5,
}
SIZES = {
    "max_frame": st.integers(1, 9),
    "window": st.integers(1, 24),
    "ack_frames": st.integers(1, 6),
    "memory": st.integers(0, 30),
    "disk": st.integers(20, 90),
}


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32), st.fixed_dictionaries(SIZES), st.booleans())
def test_long_walks(seed: int, sizes: dict[str, int], honest: bool) -> None:
    """``honest``: as TCP and a gateway that works behave, which cut, and lose what was under way, but neither repeat nor drop."""
    dice = random.Random(seed)
    network = Network(**sizes)
    actions = {action: weight for action, weight in ACTIONS.items() if not honest or action not in ("repeat", "drop", "attach one")}
    for action in dice.choices(list(actions), list(actions.values()), k=400):
        network.step(action, dice.randrange(2), dice)
    if honest:
        assert network.gaps == 0
    network.heal()


class Steps(RuleBasedStateMachine):
    @initialize(sizes=st.fixed_dictionaries(SIZES))
    def begin(self, sizes: dict[str, int]) -> None:
        self.network = Network(**sizes)
        self.network.attach(0, 1)

    # One rule, since Hypothesis leaves out some rules altogether in each example, and without "write" nothing happens.
    @rule(action=st.sampled_from(list(ACTIONS)), side=st.integers(0, 1), dice=st.randoms(use_true_random=False))
    def step(self, action: str, side: int, dice: random.Random) -> None:
        self.network.step(action, side, dice)

    @rule(side=st.integers(0, 1), lane=st.sampled_from(Lane), dice=st.randoms(use_true_random=False))
    def transfer(self, side: int, lane: Lane, dice: random.Random) -> None:
        self.network.send(side, lane, dice)
        for end in (0, 1):
            self.network.write(end, None)
            self.network.deliver(end, 100)

    @invariant()
    def nothing_is_wrong_so_far(self) -> None:
        self.network.check()

    def teardown(self) -> None:
        if hasattr(self, "network"):
            self.network.heal()


TestSteps = Steps.TestCase
TestSteps.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
