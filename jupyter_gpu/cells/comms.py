"""Widgets of remote cells, live in both directions for as long as their session: a local stand-in for each remote comm."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from ..wire.codec import BytesLike
from .envelope import Envelope, build

log = logging.getLogger(__name__)

KINDS = frozenset({"comm_open", "comm_msg", "comm_close"})
#: A front end that reloads a page asks it for the state of all widgets at once.
_CONTROL = "jupyter.widget.control"

#: Sends the parts of a Jupyter message to the remote kernel's shell channel.
Forward = Callable[[list[BytesLike]], None]


class Comms:
    """The remote comms of one session. Without ipykernel there is no front end that could show a widget: all is dropped."""

    def __init__(self, shell: Any, forward: Forward) -> None:
        self._kernel = getattr(shell, "kernel", None)
        self._forward = forward
        self._ours: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._ours)

    def received(self, envelope: Envelope) -> bool:
        """Take note of a comm message from the remote kernel. Whether it should go on to the front ends."""
        if self._kernel is None:
            return False
        content = envelope.content
        comm_id = str(content.get("comm_id", ""))
        if envelope.kind == "comm_open":
            self._open(comm_id, str(content.get("target_name", "")))
        elif envelope.kind == "comm_close":
            self._forget(comm_id)
        return True

    def close(self) -> None:
        """The session has ended: front ends learn that nobody answers any more."""
        for comm_id in list(self._ours):
            proxy = self._forget(comm_id)
            if proxy is not None and self._kernel is not None:
                self._kernel.session.send(self._kernel.iopub_socket, "comm_close", {"comm_id": comm_id, "data": {}}, ident=proxy.topic)

    def _open(self, comm_id: str, target: str) -> None:
        manager = _manager()
        if manager is None or comm_id in manager.comms:
            return
        proxy = _proxy_class()(comm_id=comm_id, target_name=target, primary=False)
        proxy.forward = self._send
        self._ours[comm_id] = proxy
        manager.register_comm(proxy)
        _guard_control(manager)

    def _forget(self, comm_id: str) -> Any:
        proxy = self._ours.pop(comm_id, None)
        manager = _manager()
        if proxy is not None:
            proxy.forward = None
            proxy._closed = True
            if manager is not None and manager.comms.get(comm_id) is proxy:
                manager.unregister_comm(proxy)
        return proxy

    def _send(self, message: dict[str, Any]) -> None:
        """Pass a message of a front end's on, under its own header, so that answers name it as their parent."""
        kind = message["header"]["msg_type"]
        if kind == "comm_close":
            self._ours.pop(message["content"].get("comm_id", ""), None)
        buffers: Sequence[BytesLike] = message.get("buffers") or ()
        header = {**message["header"], "subshell_id": None}  # subshells are the local kernel's
        self._forward(
            build(
                kind, message["content"], header=header, metadata=message.get("metadata"), buffers=[bytes(memoryview(b)) for b in buffers]
            )
        )


def _manager() -> Any:
    import comm

    return comm.get_comm_manager()


_class: Any = None


def _proxy_class() -> Any:
    """A comm that stands for a remote one. A plain ``BaseComm``: ipykernel's own has ``_reply_subshell_for``, by which answers are
    rerouted to the main shell, which may be blocked by a cell."""
    global _class
    if _class is None:
        from comm.base_comm import BaseComm

        class RemoteComm(BaseComm):  # type: ignore[misc]
            forward: Callable[[dict[str, Any]], None] | None = None

            def publish_msg(self, msg_type: str, *args: Any, **kwargs: Any) -> None:
                """What the remote end says is published as it came; this end says nothing of its own."""

            def handle_msg(self, msg: dict[str, Any]) -> None:
                if self.forward is not None:
                    self.forward(msg)

            def handle_close(self, msg: dict[str, Any]) -> None:
                if self.forward is not None:
                    self.forward(msg)

        _class = RemoteComm
    return _class


def _guard_control(manager: Any) -> None:
    """The local ipywidgets would answer for its own widgets alone. Where there are remote ones, closing the control comm makes
    front ends ask each widget, which reaches the remote ones too."""
    original = manager.targets.get(_CONTROL)
    if original is None or getattr(original, "_jupyter_gpu", False):
        return

    def control(comm: Any, message: dict[str, Any]) -> None:
        if any(type(c) is _class for c in manager.comms.values()):
            comm.close()
        else:
            original(comm, message)

    control._jupyter_gpu = True  # type: ignore[attr-defined]
    manager.register_target(_CONTROL, control)
