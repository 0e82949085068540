from __future__ import annotations

import mmap
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpu.wire import frames, lanes
from jupyter_gpu.wire.errors import FrameGarbled, FrameTooLarge, JupyterGpuError, LinkBroken, SpoolFull
from jupyter_gpu.wire.frames import FIRST, LAST, Ack, Data, Lane, Resume
from jupyter_gpu.wire.link import CONTROL_LIMIT, Link
from jupyter_gpu.wire.spool import Spool

ONLY = FIRST | LAST


def joined(link: Link, limit: int | None = None) -> list[bytes]:
    return [b"".join(frame) for frame in link.frames(limit)]


def exchange(a: Link, b: Link) -> list[tuple[Lane, bytes]]:
    """Everything that a has for b."""
    return [(lane, bytes(payload)) for frame in joined(a) for lane, payload in b.receive(frame)]


def attach(a: Link, b: Link) -> None:
    for link in (a, b):
        link.attached()
    assert exchange(a, b) == [] and exchange(b, a) == []
    assert a.is_resumed and b.is_resumed


def pair(**options: int) -> tuple[Link, Link]:
    a, b = Link(epoch=1, **options), Link(epoch=2, **options)  # type: ignore[arg-type]
    attach(a, b)
    return a, b


def test_a_round_trip_costs_two_frames() -> None:
    a, b = pair()
    a.send([b"ques", b"tion"])
    assert exchange(a, b) == [(Lane.DATA, b"question")]
    assert b.owes_ack
    b.send([b"answer"])
    assert exchange(b, a) == [(Lane.DATA, b"answer")]
    assert not b.owes_ack and a.backlog == 0 and a.owes_ack
    assert joined(a) == []
    a.acknowledge()
    (ack,) = joined(a)
    assert isinstance(frames.parse(ack), Ack)
    b.receive(ack)
    assert b.backlog == 0
    a.acknowledge()
    assert joined(a) == []


def test_acknowledgements_are_due_after_frames_or_bytes() -> None:
    a, b = pair(ack_frames=3, window=400)
    for i in range(3):
        assert joined(b) == []
        a.send([b"x"])
        exchange(a, b)
    assert len(joined(b)) == 1
    a.send([b"x" * 99])
    exchange(a, b)
    assert joined(b) == []
    a.send([b"x"])
    exchange(a, b)
    assert len(joined(b)) == 1


def test_control_overtakes_data_between_frames() -> None:
    a, b = pair(max_frame=10)
    a.send([b"d" * 25])
    got = [lane_payload for lane_payload in exchange_some(a, b, 1)]
    a.send([b"stop!"], Lane.CONTROL)
    got += exchange(a, b)
    assert got == [(Lane.CONTROL, b"stop!"), (Lane.DATA, b"d" * 25)]


def exchange_some(a: Link, b: Link, limit: int) -> list[tuple[Lane, bytes]]:
    return [(lane, bytes(payload)) for frame in joined(a, limit) for lane, payload in b.receive(frame)]


def test_the_window_stops_data_but_not_control() -> None:
    a, _ = pair(max_frame=10, window=25)
    a.send([b"d" * 100])
    assert len(joined(a)) == 2
    assert joined(a) == []
    a.send([b"stop!"], Lane.CONTROL)
    assert len(joined(a)) == 1


def test_the_window_opens_as_acknowledgements_come() -> None:
    a, b = pair(max_frame=10, window=30)
    a.send([b"d" * 100])
    for left in (70, 40, 10):
        assert exchange(a, b) == []
        b.acknowledge()
        exchange(b, a)
        assert a.backlog == left
    assert exchange(a, b) == [(Lane.DATA, b"d" * 100)]


def test_what_the_peer_saw_before_a_cut_is_not_sent_again() -> None:
    a, b = pair(max_frame=10)
    a.send([b"d" * 50])
    for frame in joined(a)[:3]:
        b.receive(frame)
    a.detached()
    b.detached()
    attach(a, b)
    assert not b.owes_ack
    assert a.backlog == 20 and len(joined(a)) == 2


def test_the_first_frame_always_has_room() -> None:
    a, b = pair(window=4)
    a.send([b"larger than the window"])
    a.send([b"x"])
    assert exchange(a, b) == [(Lane.DATA, b"larger than the window")]
    exchange(b, a)
    assert exchange(a, b) == [(Lane.DATA, b"x")]


def test_nothing_is_said_before_the_peer_has_resumed() -> None:
    a = Link()
    a.send([b"x"])
    assert joined(a) == []
    a.attached()
    assert a.is_attached
    assert [type(frames.parse(frame)) for frame in joined(a)] == [Resume]
    assert joined(a) == []
    assert a.receive(frames.data_header(Lane.DATA, 1, (0, 0), ONLY, 0)) == []  # of the connection before
    a.receive(frames.resume(9, 0, (0, 0), True))
    assert len(joined(a)) == 1


def test_a_resume_that_comes_too_late_is_of_no_use() -> None:
    a = Link()
    assert a.receive(frames.resume(9, 0, (0, 0), True)) == []
    assert not a.is_resumed and a.peer_epoch == 0


def test_held_data_stops_the_peer_and_leaves_control() -> None:
    a, b = pair(max_frame=10, window=20, ack_frames=1)
    b.release()
    b.hold()
    b.hold()
    a.send([b"d" * 50])
    a.send([b"one"], Lane.CONTROL)
    assert exchange(a, b) == [(Lane.CONTROL, b"one")]
    exchange(b, a)
    assert a.backlog == 50
    assert exchange(a, b) == []
    a.send([b"two"], Lane.CONTROL)
    assert exchange(a, b) == [(Lane.CONTROL, b"two")]
    exchange(b, a)
    b.release()
    got = []
    for _ in range(4):
        exchange(b, a)
        got += exchange(a, b)
        b.acknowledge()
    assert got == [(Lane.DATA, b"d" * 50)] and a.backlog == 0


def test_payloads_are_writable_and_large_ones_begin_at_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_OWN_PAGES_FROM", 3000)
    a, b = pair(max_frame=1000)
    big = bytearray(b"0123456789" * 500)
    for payload in (b"small", b"m" * 2000, big):
        a.send([payload])
        ((_, got),) = [found for frame in joined(a) for found in b.receive(frame)]
        assert bytes(got) == payload
        got[0] = 1
        assert bytes(got[1:]) == bytes(payload[1:])
    assert isinstance(got.obj, mmap.mmap)


def test_large_parts_are_not_copied_while_they_wait() -> None:
    a, _ = pair(max_frame=100)
    big = bytearray(1000)
    a.send([b"head", big])
    big[500] = 7
    assert b"".join(joined(a)).count(7) >= 1


def test_parts_of_other_item_sizes() -> None:
    a, b = pair(max_frame=8)
    a.send([memoryview(b"abcdefghijkl")])
    assert exchange(a, b) == [(Lane.DATA, b"abcdefghijkl")]


def test_the_file_is_used_and_read_again_after_a_cut() -> None:
    a, b = Link(spool=Spool(memory=5, disk=1000), max_frame=10, epoch=1), Link(max_frame=10, epoch=2)
    for i in range(4):
        a.send([bytes([65 + i]) * 25])
    assert a.spool.disk == 75
    for _ in range(2):
        attach(a, b)
        joined(a)  # lost
        a.detached()
        b.detached()
    attach(a, b)
    assert [payload[:1] for _, payload in exchange(a, b)] == [b"A", b"B", b"C", b"D"]
    b.acknowledge()
    exchange(b, a)
    assert a.backlog == a.spool.disk == a.spool.memory == 0
    a.close()


def test_limits_of_what_is_taken() -> None:
    a, _ = pair(max_payload=100)
    with pytest.raises(FrameTooLarge):
        a.send([b"x" * 101])
    a = Link(spool=Spool(memory=1, disk=10))
    a.send([b"xx"])
    with pytest.raises(SpoolFull):
        a.send([b"x" * 11])
    assert a.backlog == 2
    a.send([bytes(CONTROL_LIMIT)], Lane.CONTROL)
    with pytest.raises(SpoolFull):
        a.send([b"x"], Lane.CONTROL)
    a.send([b""], Lane.CONTROL)


def reborn(a: Link, b: Link) -> bytes:
    return frames.resume(77, 1, (0, 0), True)


def mistaken(a: Link, b: Link) -> bytes:
    return frames.resume(2, 78, (0, 0), True)


def prophet(a: Link, b: Link) -> bytes:
    return frames.resume(2, 1, (0, 5), True)


@pytest.mark.parametrize("make", [reborn, mistaken, prophet])
def test_a_peer_that_lost_its_state_breaks_the_link_for_good(make: Callable[[Link, Link], bytes]) -> None:
    a, b = pair()
    a.send([b"x"])
    a.attached()
    with pytest.raises(LinkBroken) as caught:
        a.receive(make(a, b))
    for call in (a.attached, a.frames, lambda: a.send([b"x"]), lambda: a.receive(frames.ack((0, 0)))):
        with pytest.raises(LinkBroken, match=caught.value.reason):
            call()
    assert a.backlog == 0 and not a.is_attached
    a.detached()
    a.close()


def data(
    number: int, flags: int = ONLY, chunk: bytes = b"", total: int = 0, lane: Lane = Lane.DATA, seen: tuple[int, int] = (0, 0)
) -> bytes:
    return frames.data_header(lane, number, seen, flags, total) + chunk


BAD = {
    "a gap": [data(2)],
    "an acknowledgement of nothing": [frames.ack((0, 1))],
    "an acknowledgement of nothing, with data": [data(1, seen=(1, 0))],
    "a middle without a beginning": [data(1, 0, b"x")],
    "an end without a beginning": [data(1, LAST, b"x")],
    "a beginning in the middle": [data(1, FIRST, b"x", 3), data(2, FIRST, b"x", 3)],
    "a whole one in the middle": [data(1, FIRST, b"x", 3), data(2, ONLY, b"x")],
    "more than was announced": [data(1, FIRST, b"x", 3), data(2, LAST, b"xyz")],
    "less than was announced": [data(1, FIRST, b"x", 3), data(2, LAST, b"x")],
    "an end that is none": [data(1, FIRST, b"x", 3), data(2, 0, b"xy")],
    "nothing in the middle": [data(1, FIRST, b"x", 3), data(2, 0, b"")],
    "nothing at the beginning": [data(1, FIRST, b"", 3)],
    "all in a beginning": [data(1, FIRST, b"xyz", 3)],
    "garbage": [b"\x99"],
}


@pytest.mark.parametrize("wrong", BAD)
def test_a_bad_frame_changes_nothing(wrong: str) -> None:
    a, _ = pair(max_frame=10)
    *before, bad = BAD[wrong]
    for frame in before:
        assert a.receive(frame) == []
    for _ in range(2):
        with pytest.raises(FrameGarbled):
            a.receive(bad)
    if before:
        assert a.receive(data(2, LAST, b"yz")) == [(Lane.DATA, memoryview(b"xyz"))]
    else:
        assert a.receive(data(1, ONLY, b"abc")) == [(Lane.DATA, memoryview(b"abc"))]


@pytest.mark.parametrize("frame", [data(1, ONLY, b"x" * 11), data(1, FIRST, b"x", 101), data(1, FIRST, b"x", 2**64 - 1)])
def test_what_is_too_large_is_refused_before_it_is_taken(frame: bytes) -> None:
    a, _ = pair(max_frame=10, max_payload=100)
    with pytest.raises(FrameTooLarge):
        a.receive(frame)
    assert a.receive(data(1, ONLY, b"abc")) == [(Lane.DATA, memoryview(b"abc"))]


def test_memory_that_cannot_be_had() -> None:
    a, _ = pair(max_payload=2**64)
    with pytest.raises(FrameTooLarge):
        a.receive(data(1, FIRST, b"x", 2**62))


def test_duplicates_are_dropped_and_acknowledged_again() -> None:
    a, b = pair()
    a.send([b"x"])
    (frame,) = joined(a)
    assert len(b.receive(frame)) == 1
    b.acknowledge()
    joined(b)  # lost
    assert b.receive(frame) == []
    assert b.owes_ack
    b.acknowledge()
    exchange(b, a)
    assert a.backlog == 0


def test_old_acknowledgements_are_harmless() -> None:
    a, b = pair()
    for i in range(2):
        a.send([b"x"])
    exchange(a, b)
    b.acknowledge()
    exchange(b, a)
    a.receive(frames.ack((0, 1)))
    assert a.backlog == 0


def test_epochs_are_random() -> None:
    assert len({Link().epoch for _ in range(20)}) == 20


PLAUSIBLE = st.builds(
    lambda kind, number, seen, total, chunk: struct.pack("<BQQQ", kind, number, *seen) + total + chunk,
    st.integers(0x20, 0x27),
    st.integers(0, 4),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.sampled_from([b"", *(struct.pack("<Q", total) for total in (0, 1, 5, 20, 300, 2**63))]),
    st.binary(max_size=15),
)
GARBAGE = st.builds(lambda kind, rest: bytes([kind]) + rest, st.integers(0, 0x28), st.binary(max_size=50))


@settings(max_examples=400)
@given(st.lists(PLAUSIBLE | GARBAGE, max_size=12), st.booleans())
def test_garbage_raises_only_our_errors(received: list[bytes], resumed: bool) -> None:
    a = Link(max_frame=10, max_payload=200)
    a.send([b"x" * 25])
    a.attached()
    joined(a)
    if resumed:
        a.receive(frames.resume(9, 0, (0, 0), False))
        joined(a)
    for frame in received:
        try:
            a.receive(frame)
            a.frames()
        except JupyterGpuError:
            pass


def test_data_tuples_are_what_the_link_reads() -> None:
    assert isinstance(frames.parse(data(1)), Data)


def test_an_answer_to_a_resume_does_not_send_anything_again() -> None:
    a, b = pair()
    a.send([b"one"])
    a.send([b"two"])
    lost = joined(a)
    b.receive(lost[0])
    assert a.receive(frames.resume(2, 1, (0, 1), False)) == []
    assert a.backlog == 3 and joined(a) == []
    a.receive(frames.resume(2, 1, (0, 1), True))
    again = joined(a)
    assert [type(frames.parse(frame)) for frame in again] == [Resume, Data]
    assert b.receive(again[0]) == []
    assert b.receive(again[1]) == [(Lane.DATA, memoryview(b"two"))]


@pytest.mark.parametrize("size", [20, 21, 29])
def test_cuts_at_and_off_the_border_of_a_frame(size: int) -> None:
    a, b = pair(max_frame=10)
    payload = bytes(range(size))
    a.send([payload[:4], payload[4:]])
    assert exchange(a, b) == [(Lane.DATA, payload)]


def test_a_frame_in_writable_memory_is_given_on_as_it_is() -> None:
    a, b = Link(), Link()
    for one, other in ((a, b), (b, a)):
        one.attached()
    for _ in range(2):
        for one, other in ((a, b), (b, a)):
            for parts in one.frames():
                other.receive(b"".join(parts))
    a.send([b"payload"])
    (parts,) = a.frames()
    frame = bytearray(b"".join(parts))
    ((_, payload),) = b.receive(frame)
    assert payload == b"payload" and payload.obj is frame
    a.send([b"payload"])
    (parts,) = a.frames()
    ((_, payload),) = b.receive(b"".join(parts))
    assert not payload.readonly


def heirs(*links: Link) -> None:
    for link in links:
        link.expect_heirs()


def attach_heir(old: Link, new: Link) -> list[bytes]:
    """What the new end receives, until neither has anything to say."""
    old.attached(), new.attached()
    got: list[bytes] = []
    for _ in range(4):
        got += [payload for _, payload in exchange(old, new)]
        assert exchange(new, old) == []
    assert old.is_resumed and new.is_resumed
    return got


def test_an_heir_gets_what_was_not_acknowledged() -> None:
    a, b = Link(epoch=1, max_frame=10), Link(epoch=2, max_frame=10)
    heirs(a, b)
    attach(a, b)
    a.send([b"first"])
    assert exchange(a, b) == [(Lane.DATA, b"first")]
    b.acknowledge()
    assert exchange(b, a) == []
    a.send([b"second"])
    a.send([b"control"], Lane.CONTROL)
    assert len(exchange(a, b)) == 2  # and b dies before it says so
    a.send([b"third"])
    a.detached()
    heir = Link(epoch=3, max_frame=10)
    heirs(heir)
    assert attach_heir(a, heir) == [b"control", b"second", b"third"]
    heir.acknowledge()
    exchange(heir, a)
    assert a.backlog == 0
    heir.send([b"question"])
    a.send([b"answer"])
    assert exchange(heir, a) == [(Lane.DATA, b"question")] and exchange(a, heir) == [(Lane.DATA, b"answer")]


def test_an_heir_gets_a_payload_from_its_beginning() -> None:
    a, b = Link(epoch=1, max_frame=10), Link(epoch=2, max_frame=10)
    heirs(a, b)
    attach(a, b)
    a.send([b"d" * 35])
    assert exchange_some(a, b, 1) == exchange_some(a, b, 1) == []
    b.acknowledge()
    exchange(b, a)
    assert a.backlog == 35
    heir = Link(epoch=3, max_frame=10)
    heirs(heir)
    assert attach_heir(a, heir) == [b"d" * 35]
    heir.acknowledge()
    exchange(heir, a)
    assert a.backlog == 0


def test_an_end_that_expects_heirs_resumes_as_any_other() -> None:
    a, b = Link(epoch=1), Link(epoch=2)
    heirs(a, b)
    attach(a, b)
    a.send([b"once"])
    assert exchange(a, b) == [(Lane.DATA, b"once")]
    a.detached(), b.detached()
    a.attached(), b.attached()
    assert exchange(a, b) == [] and exchange(b, a) == [] and a.backlog == 0


def test_one_that_was_replaced_cannot_come_back() -> None:
    a, b, heir = Link(epoch=1), Link(epoch=2), Link(epoch=3)
    heirs(a, b, heir)
    attach(a, b)
    assert attach_heir(a, heir) == []
    a.attached(), b.attached()
    with pytest.raises(LinkBroken):
        exchange(a, b)
