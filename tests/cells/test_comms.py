"""Stand-ins for remote comms, against a comm manager without a kernel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import comm
import pytest
from comm.base_comm import CommManager

from jupyter_gpu.cells.comms import Comms
from jupyter_gpu.cells.envelope import Envelope


def envelope(kind: str, **content: Any) -> Envelope:
    return Envelope.of([memoryview(json.dumps(p).encode()) for p in ({"msg_type": kind}, {}, {}, content)])


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[CommManager]:
    found = CommManager()
    monkeypatch.setattr(comm, "get_comm_manager", lambda: found)
    yield found


@pytest.fixture
def setup(manager: CommManager) -> tuple[Comms, list[Any], list[Any]]:
    forwarded: list[Any] = []
    sent: list[Any] = []
    kernel = SimpleNamespace(session=SimpleNamespace(send=lambda *a, **k: sent.append(a)), iopub_socket=None)
    return Comms(SimpleNamespace(kernel=kernel), forwarded.append), forwarded, sent


def test_messages_of_the_front_end_go_there_under_their_own_header(manager: CommManager, setup: Any) -> None:
    comms, forwarded, _ = setup
    assert comms.received(envelope("comm_open", comm_id="c1", target_name="jupyter.widget"))
    assert not hasattr(manager.comms["c1"], "_reply_subshell_for")
    header = {"msg_id": "front", "msg_type": "comm_msg"}
    manager.comm_msg(None, "", {"header": header, "content": {"comm_id": "c1", "data": {"x": 1}}, "metadata": {}, "buffers": [b"raw"]})  # type: ignore[arg-type]
    (parts,) = forwarded
    assert json.loads(parts[0])["msg_id"] == "front" and json.loads(parts[3])["data"] == {"x": 1} and parts[4] == b"raw"


def test_close_from_either_end(manager: CommManager, setup: Any) -> None:
    comms, forwarded, _ = setup
    for name in ("c1", "c2"):
        comms.received(envelope("comm_open", comm_id=name, target_name="t"))
    comms.received(envelope("comm_close", comm_id="c1"))
    assert list(manager.comms) == ["c2"]
    manager.comm_close(None, "", {"header": {"msg_type": "comm_close", "msg_id": "x"}, "content": {"comm_id": "c2"}})  # type: ignore[arg-type]
    assert len(forwarded) == 1 and len(comms) == 0 and not manager.comms


def test_front_ends_learn_of_the_end(manager: CommManager, setup: Any) -> None:
    comms, forwarded, sent = setup
    comms.received(envelope("comm_open", comm_id="c1", target_name="t"))
    comms.close()
    assert not manager.comms and sent[0][1] == "comm_close" and sent[0][2]["comm_id"] == "c1" and not forwarded


def test_local_comms_stay_local(manager: CommManager, setup: Any) -> None:
    comms, _, _ = setup
    mine = SimpleNamespace(comm_id="local", handle_msg=lambda m: None)
    manager.register_comm(mine)  # type: ignore[arg-type]
    comms.received(envelope("comm_open", comm_id="local", target_name="t"))
    assert manager.comms["local"] is mine  # type: ignore[comparison-overlap]


def test_local_ipywidgets_does_not_answer_for_remote_ones(manager: CommManager, setup: Any) -> None:
    comms, _, _ = setup
    asked: list[Any] = []
    manager.register_target("jupyter.widget.control", lambda c, m: asked.append(c))
    comms.received(envelope("comm_open", comm_id="c1", target_name="jupyter.widget"))
    closed: list[int] = []
    control = SimpleNamespace(close=lambda: closed.append(1))
    manager.targets["jupyter.widget.control"](control, {})  # type: ignore[arg-type]
    assert closed and not asked
    comms.received(envelope("comm_close", comm_id="c1"))
    manager.targets["jupyter.widget.control"](control, {})  # type: ignore[arg-type]
    assert asked == [control]


def test_plain_ipython_drops_them(manager: CommManager) -> None:
    assert not Comms(SimpleNamespace(), lambda parts: None).received(envelope("comm_open", comm_id="c", target_name="t"))
    assert not manager.comms
