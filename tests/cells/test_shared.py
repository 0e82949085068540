"""What a client offers where sessions share, and what it does with the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from jupyter_gpu.wire.errors import SnapshotRefused
from jupyter_gpu.wire.messages import Chunk, Offer, Want

Run = Callable[[str], Any]
R = "%%remote gpu=H100\n"
LARGE = 1 << 20


@pytest.fixture
def session(run: Run, gateway: Any) -> Any:
    """Open, and nothing sent."""
    run(R + "pass").raise_error()
    (found,) = gateway.opened
    found.elsewhere = {}
    found.sent.clear()
    return found


def offers(session: Any) -> list[Offer]:
    return [m for m in session.sent if isinstance(m, Offer)]


def chunks(session: Any) -> int:
    return sum(isinstance(m, Chunk) for m in session.sent)


def test_only_large_buffers_that_would_go_whole_are_offered(session: Any, run: Run, shell: Any) -> None:
    rng = np.random.default_rng(0)
    large, small = rng.bytes(LARGE), rng.bytes(LARGE - 1)
    shell.user_ns.update(a=np.frombuffer(large, np.uint8).copy(), b=np.frombuffer(small, np.uint8).copy())
    run(R + "a, b").raise_error()
    (offer,) = offers(session)
    assert offer.digests == [blake3(large).digest()] and offer.sizes == [LARGE] and not offer.base
    assert chunks(session) == 2


def test_nothing_is_offered_where_nothing_is_shared(session: Any, run: Run, shell: Any) -> None:
    session.elsewhere = None
    shell.user_ns["a"] = np.zeros(LARGE)
    run(R + "a").raise_error()
    assert not offers(session) and chunks(session) == 1


def test_what_is_there_is_not_sent(session: Any, run: Run, shell: Any) -> None:
    here, there = np.arange(LARGE), np.arange(LARGE) + 1
    session.elsewhere = {blake3(there.tobytes()).digest(): there.tobytes()}
    shell.user_ns.update(here=here, there=there)
    run(R + "total = int(here.sum() - there.sum())").raise_error()
    assert len(offers(session)[0].digests) == 2 and chunks(session) == 1
    assert shell.user_ns["total"] == -LARGE


def test_a_change_is_told_by_what_changed(session: Any, run: Run, shell: Any) -> None:
    shell.user_ns["a"] = np.zeros(LARGE)
    run(R + "a").raise_error()
    session.sent.clear()
    shell.user_ns["a"] = np.append(shell.user_ns["a"], 1.0)
    session.store.copies = session.replica.lineage.copies
    run(R + "assert len(a) == 1048577 and a[-1] == 1").raise_error()
    assert not offers(session)


def test_a_worker_that_says_it_has_what_it_has_not_refuses_the_cell(session: Any, run: Run, shell: Any) -> None:
    session.answer = lambda offer: session.tell(Want(id=offer.id, positions=[7, -1]))
    shell.user_ns["a"] = np.zeros(LARGE)
    assert isinstance(run(R + "b = a").error_in_exec, SnapshotRefused)
    assert "b" not in shell.user_ns and chunks(session) == 0
