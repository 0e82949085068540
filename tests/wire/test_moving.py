from __future__ import annotations

import json

import msgspec
import pytest

from jupyter_gpu.wire import moving
from jupyter_gpu.wire.moving import Failed, Go, Manifest, Moved, Offered, Piece, Took, Want
from jupyter_gpu.wire.records import ErrorRecord

STEPS = [
    Go(folder="/f", nonce="n", session="s"),
    Offered(count=3, size=5, execution_count=2, behind=["lock (a lock)"]),
    Manifest(chunks=[("00ff", 2)], inline={0: 0}, written=7),
    Want(places=[1, 2]),
    Piece(place=1, offset=5),
    Took(size=4),
    moving.Arrived(names=["x"], notes=["note"]),
    Moved(),
    Failed(error=ErrorRecord(code="move.failed", fields={"to": "H100"})),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_steps_travel_as_json(step: moving.Step) -> None:
    """As Jupyter's messages do: the keys of objects are text there."""
    content = json.loads(json.dumps(msgspec.to_builtins(step, str_keys=True)))
    assert moving.read(moving.kind_of(step), content) == step
    assert moving.kind_of(type(step)) == moving.kind_of(step)


def test_what_is_about_something_else_is_none() -> None:
    assert moving.read("input_reply", {"value": "x"}) is None


def test_what_is_no_step_is_refused() -> None:
    with pytest.raises(ValueError, match="places"):
        moving.read(moving.kind_of(Want), {})
