from __future__ import annotations

import pytest

from jupyter_gpu.transport.envelope import MAX_MESSAGE, frame, notice, open_envelope
from jupyter_gpu.wire import frames
from jupyter_gpu.wire.errors import FrameGarbled
from jupyter_gpu.wire.link import Link
from jupyter_gpu.wire.messages import PeerDetached


def test_both_kinds() -> None:
    assert open_envelope(notice(PeerDetached(reason="gone"))) == PeerDetached(reason="gone")
    found = open_envelope(frame([b"ab", memoryview(b"cd")]))
    assert isinstance(found, memoryview) and bytes(found) == b"abcd"


@pytest.mark.parametrize("data", ["text", b"", b"\x02abc", b"\x00", b"\x00garbage"])
def test_garbage(data: bytes | str) -> None:
    with pytest.raises(FrameGarbled):
        open_envelope(data)


def test_the_largest_frame_fits() -> None:
    link = Link()
    link.attached()
    link.frames()
    link.receive(frames.resume(5, 0, (0, 0), False))
    link.send([bytes(3 << 20)])
    assert max(len(frame(parts)) for parts in link.frames()) <= MAX_MESSAGE
