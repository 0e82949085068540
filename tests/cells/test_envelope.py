"""Jupyter messages inside of ours."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from jupyter_gpu.cells.envelope import Envelope, build
from jupyter_gpu.wire.errors import FrameGarbled


def views(*parts: bytes) -> list[memoryview]:
    return [memoryview(p) for p in parts]


def test_what_is_built_can_be_read() -> None:
    parts = build("comm_msg", {"x": 1}, {"msg_id": "p"}, metadata={"m": 2}, buffers=[b"raw"])
    got = Envelope.of([memoryview(p) for p in parts])
    assert (got.kind, got.parent_id, got.content, got.metadata, got.parent) == ("comm_msg", "p", {"x": 1}, {"m": 2}, {"msg_id": "p"})
    assert [bytes(b) for b in got.buffers] == [b"raw"]


def test_header_of_a_front_end_is_kept() -> None:
    header = {"msg_id": "front", "msg_type": "comm_msg", "date": datetime(2026, 1, 1, tzinfo=timezone.utc)}
    got = json.loads(build("comm_msg", {}, header=header)[0])
    assert got["msg_id"] == "front" and got["date"].startswith("2026-01-01")


def test_not_a_number_in_a_display() -> None:
    got = Envelope.of(views(b'{"msg_type":"display_data"}', b"{}", b"{}", b'{"data":{"x":NaN}}'))
    assert got.content["data"]["x"] != got.content["data"]["x"]


@pytest.mark.parametrize("parts", [(), (b"{}", b"{}"), (b"nonsense", b"{}", b"{}", b"{}"), (b"[]", b"{}", b"{}", b"{}")])
def test_garbage(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(FrameGarbled):
        Envelope.of(views(*parts))


def test_garbled_content() -> None:
    got = Envelope.of(views(b'{"msg_type":"stream"}', b"{}", b"{}", b'{"name":'))
    with pytest.raises(FrameGarbled):
        got.stream()
    with pytest.raises(FrameGarbled):
        got.content  # noqa: B018
