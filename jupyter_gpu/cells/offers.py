"""What a notebook asks its kernel before it sends: which of these do you lack?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..sync.chunks import Parcel
from ..sync.lineage import Question
from ..wire.messages import Offer, Want

if TYPE_CHECKING:
    from .remote import Remote

#: Bytes from which a chunk is worth the question whether another session has sent it.
LARGE = 1 << 20


class Offers:
    """Of one remote. The questions block until the kernel has answered, which it does while no cell runs."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._asked = 0

    def pieces(self, question: Question) -> set[int]:
        """Of a buffer that changed."""
        return self._lacking(question.pieces, base=question.base, step=question.step)

    def leave_out_shared(self, parcel: Parcel) -> None:
        """What the worker's machine has from another session, if sessions share there (docs/trust.md)."""
        large = [name for name in parcel.whole if len(parcel.chunks[name]) >= LARGE]
        session = self._remote.session
        if not large or session is None or not session.shares():
            return
        from blake3 import blake3

        chunks = [parcel.chunks[name] for name in large]
        lacking = self._lacking([blake3(data).digest() for data in chunks], sizes=[len(data) for data in chunks])
        for i, name in enumerate(large):
            if i not in lacking:
                parcel.leave_out(name)

    def _lacking(self, digests: list[bytes], sizes: list[int] | None = None, base: bytes = b"", step: int = 8) -> set[int]:
        self._asked += 1
        asked = self._asked
        self._remote.send(Offer(id=asked, digests=digests, sizes=sizes or [], base=base, step=step))
        return set(self._remote.wait(lambda m, b: m.positions if isinstance(m, Want) and m.id == asked else None))
