"""iopub at the pace that a jupyter_server takes: merged, paced, in order, and nothing left out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from jupyter_client.session import Session

from jupyter_gpu.kernel.publisher import Publisher
from jupyter_gpu.wire.codec import BytesLike
from jupyter_gpu.wire.signed import Signer, split


def stream(session: Session, text: str, parent: dict[str, Any], name: str = "stdout") -> list[bytes]:
    return session.serialize(session.msg("stream", {"name": name, "text": text}, parent=parent), ident=b"stream." + name.encode())


def test_what_waits_is_merged_paced_and_signed() -> None:
    """15: a spool that is replayed exceeds jupyter_server's limits, which drops what does."""
    session = Session(key=b"k")
    sent: list[Sequence[BytesLike]] = []

    async def test() -> None:
        publisher = Publisher(sent.append, Signer(b"k"), limited=True)
        first, second = session.msg("execute_request"), session.msg("execute_request")
        for n in range(5000):
            publisher.publish(stream(session, f"{n}\n", first))
        assert not sent, "nobody listens yet"
        publisher.begin()
        for n in range(5000):
            publisher.publish(stream(session, f"{n}\n", second))
            publisher.publish(session.serialize(session.msg("display_data", {"n": n}, parent=second), ident=b"display_data"))
        burst = len(sent)
        assert 500 < burst < 1000, "as much as the server takes at once, and no more"
        publisher.flush()

    asyncio.run(test())
    found = [session.deserialize(session.feed_identities([bytes(f) for f in frames])[1]) for frames in sent]
    numbers = "".join(f"{n}\n" for n in range(5000))
    parents = list(dict.fromkeys(m["parent_header"]["msg_id"] for m in found))
    for parent in parents:
        assert (
            "".join(m["content"]["text"] for m in found if m["msg_type"] == "stream" and m["parent_header"]["msg_id"] == parent) == numbers
        )
    assert [m["content"]["n"] for m in found if m["msg_type"] == "display_data"] == list(range(5000))
    assert all(Signer(b"k").fits(split(f).signature, split(f).body) for f in sent)
    assert sum(1 for m in found if m["parent_header"]["msg_id"] == parents[0]) == 1


def test_too_much_that_waits_holds_up_the_kernels_end() -> None:
    async def test() -> None:
        sent: list[Sequence[BytesLike]] = []
        publisher = Publisher(sent.append, Signer(b""), limited=True)
        publisher.begin()
        held = None
        for n in range(3000):
            held = publisher.publish([b"display_data", b"%d" % n]) or held
        assert held is not None and not held.done()
        publisher.flush()
        assert held.done() and [f[1] for f in sent] == [b"%d" % n for n in range(3000)]

    asyncio.run(test())


def test_where_no_server_listens_nothing_waits() -> None:
    async def test() -> None:
        sent: list[Sequence[BytesLike]] = []
        publisher = Publisher(sent.append, Signer(b""), limited=False)
        publisher.begin()
        for n in range(5000):
            assert publisher.publish([b"status", b"%d" % n]) is None
        assert len(sent) == 5000

    asyncio.run(test())


def test_what_is_no_message_passes_as_it_is() -> None:
    """A kernel may send what it likes under the name of a stream."""

    async def test() -> None:
        sent: list[Sequence[BytesLike]] = []
        publisher = Publisher(sent.append, Signer(b"k"), limited=True)
        odd: list[list[BytesLike]] = [
            [b"stream.stdout", b"no delimiter"],
            [b"stream.stdout", b"<IDS|MSG>", b"", b"{}", b"{}", b"{}", b"[1"],
        ]
        for frames in odd * 2:
            publisher.publish(frames)
        publisher.begin()
        assert sent == odd * 2

    asyncio.run(test())
