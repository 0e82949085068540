"""What a whole kernel says to its shim, and through it to another kernel, and waits for: on its main thread, in the middle of a cell."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

import msgspec

from jupyter_gpu.transport.sockets import zmq
from jupyter_gpu.wire import moving
from jupyter_gpu.wire.errors import JupyterGpuError, from_record

_log = logging.getLogger(__name__)

T = TypeVar("T", bound=moving.Step)

#: Milliseconds of a wait; an interrupt ends it at once.
_WAIT = 1000


class Said(Exception):
    """The other side says that it failed, and why; it knows of it."""

    def __init__(self, error: JupyterGpuError) -> None:
        self.error = error


class Line:
    """On the kernel's own stdin socket, where ``input()`` waits too. The shim speaks first: ZMQ knows where it is from then on."""

    def __init__(self, kernel: Any) -> None:
        self._session = kernel.session
        self._socket = kernel.stdin_socket
        self._parent = kernel.get_parent("shell")

    def send(self, step: moving.Step, buffers: Sequence[Any] = ()) -> None:
        content = msgspec.to_builtins(step, str_keys=True)
        self._session.send(
            self._socket, moving.kind_of(step), content, parent=self._parent, ident=moving.IDENTITY, buffers=list(buffers) or None
        )

    def receive(self) -> tuple[moving.Step, list[memoryview]]:
        """The next step that the other side takes. Raises ``Said``."""
        while True:
            if not self._socket.poll(_WAIT):
                continue
            try:
                idents, message = self._session.recv(self._socket, mode=zmq.NOBLOCK, copy=False)
                if message is None or [bytes(i) for i in idents] != [moving.IDENTITY]:
                    continue  # an answer to an ``input()`` of which nobody knows any more
            except ValueError as error:  # not signed as it should be
                _log.warning("dropped: %s", error)
                continue
            step = moving.read(message["header"]["msg_type"], message["content"])
            if isinstance(step, moving.Failed):
                raise Said(from_record(step.error))
            if step is not None:
                return step, message["buffers"]

    def expect(self, kind: type[T]) -> tuple[T, list[memoryview]]:
        """The next step, which must be this one."""
        step, buffers = self.receive()
        if not isinstance(step, kind):
            self.unexpected(step)
        return step, buffers

    @staticmethod
    def unexpected(step: moving.Step) -> NoReturn:
        raise RuntimeError(f"{type(step).__name__} came out of its turn")

    def fail(self, error: JupyterGpuError) -> None:
        self.send(moving.Failed(error=error.to_record()))

    def is_over(self, error: JupyterGpuError) -> bool:
        """Say that it failed here, and wait until the shim has undone what it did; True: it is too late for that, and this kernel is given
        up. Another interrupt ends the wait."""
        self.fail(error)
        try:
            while True:
                if isinstance(self.receive()[0], moving.Moved):
                    return True
        except Said:
            return False
