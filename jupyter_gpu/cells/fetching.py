"""Bringing the value of a handle here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..wire.errors import SnapshotRefused, UntrustedValue, ValueCannotTravel
from ..wire.messages import Fetch, Fetched
from .progress import Progress
from .sinks import sink_of
from .tables import human_bytes

if TYPE_CHECKING:
    from .remote import Remote

_MISSING = object()


def fetch(remote: Remote, key: str) -> Any:
    """The value, copied; what the key is bound to here, if anything, stays. Raises ``ValueCannotTravel`` and the like."""
    handle = remote.held.of(key)
    shown, size = (key, -1) if handle is None else (handle.info.name, handle.size)
    progress = Progress(sink_of(remote.shell))
    progress.phase(f"{remote.label}: bringing {shown}" + (f" ({human_bytes(size)})" if size > 0 else ""))
    try:
        reply, buffers = _ask(remote, key)
    finally:
        progress.finish([])
    if reply.snapshot is None:
        if reply.stuck:
            why = reply.stuck[0]
            path = shown + why.path.removeprefix(key)
            raise ValueCannotTravel(name=shown, path=path, type=why.type, reason=why.reason)
        raise SnapshotRefused(reason=f"the worker has no {shown!r} any more")
    if key not in reply.snapshot.names:
        raise SnapshotRefused(reason=f"the worker sent no {shown!r}")
    namespace = remote.shell.user_ns
    before = namespace.get(key, _MISSING)
    try:
        remote.take_over(reply.snapshot, buffers)
    except UntrustedValue as error:  # a person knows it by another name than its key
        raise UntrustedValue(variable=shown, what=error.what, reason=error.reason) from None
    value = namespace[key]
    if before is _MISSING:
        del namespace[key]
    else:
        namespace[key] = before
    return value


def _ask(remote: Remote, key: str) -> tuple[Fetched, list[memoryview]]:
    remote.fetches += 1
    wanted = remote.fetches
    remote.send(Fetch(id=wanted, names=[key]))
    return remote.wait(lambda m, b: (m, b) if isinstance(m, Fetched) and m.id == wanted else None)
