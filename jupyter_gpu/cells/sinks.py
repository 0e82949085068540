"""Where outputs of a remote cell go: onto the wire of the local kernel, into whatever captures outputs here, or onto a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol

from .envelope import Envelope


class Sink(Protocol):
    """One cell's place on the screen. ``live``: a display can be changed later. ``ended()``: the cell is over, and with it whatever
    captured its outputs; others may still come."""

    @property
    def live(self) -> bool: ...
    def stream(self, name: str, text: str) -> None: ...
    def message(self, envelope: Envelope) -> None: ...
    def display(self, data: dict[str, Any], metadata: dict[str, Any], transient: dict[str, Any], update: bool) -> None: ...
    def ended(self) -> None: ...


def sink_of(shell: Any) -> Sink:
    """The sink of the cell that is running now."""
    kernel = getattr(shell, "kernel", None)
    if kernel is None or getattr(kernel, "iopub_socket", None) is None:
        return PythonSink(shell)
    return KernelSink(shell, kernel)


def local_parent(kernel: Any) -> dict[str, Any]:
    """Header of the request that the local kernel is working on."""
    parent = kernel.get_parent()
    header = parent.get("header") if isinstance(parent, dict) else None
    return header if isinstance(header, dict) else {}


def send_iopub(kernel: Any, kind: str, content: dict[str, Any] | bytes, parent: dict[str, Any], topic: str = "",
               metadata: dict[str, Any] | None = None, buffers: Sequence[memoryview] = ()) -> None:  # fmt: skip
    """A message of the local kernel. Content that is JSON already goes as it is. Safe on any thread: ipykernel's socket is a proxy."""
    kernel.session.send(
        kernel.iopub_socket,
        kind,
        content=content,
        parent={"header": parent} if parent else None,
        ident=(topic or kind).encode(),
        metadata=metadata,
        buffers=list(buffers),
    )


class PythonSink:
    """Prints and publishes as Python code does: for a terminal, and for what captures outputs (``%%capture``, ``redirect_stdout``)."""

    live = False

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._files = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._publisher = shell.display_pub
        self._hook = sys.displayhook

    def ended(self) -> None:
        # A capture ends with its cell; what comes later goes where prints go then.
        self._files.clear()
        self._publisher, self._hook = self._shell.display_pub, self._shell.displayhook

    def stream(self, name: str, text: str) -> None:
        file = self._files.get(name) or (sys.stderr if name == "stderr" else sys.stdout)
        file.write(text)
        file.flush()

    def display(self, data: dict[str, Any], metadata: dict[str, Any], transient: dict[str, Any], update: bool) -> None:
        self._publisher.publish(data=data, metadata=metadata, transient=transient, update=update)

    def message(self, envelope: Envelope) -> None:
        content = envelope.content
        if envelope.kind in ("display_data", "update_display_data"):
            self.display(content.get("data", {}), content.get("metadata", {}), content.get("transient", {}), envelope.kind[0] == "u")
        elif envelope.kind == "execute_result":
            self._result(content.get("data", {}), content.get("metadata", {}))
        elif envelope.kind == "clear_output":
            self._publisher.clear_output(content.get("wait", False))
        elif envelope.kind == "error":
            self.stream("stderr", "\n".join(content.get("traceback", [])) + "\n")

    def _result(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        captured = getattr(self._hook, "outputs", None)
        if isinstance(captured, list):  # a CapturingDisplayHook
            captured.append({"data": data, "metadata": metadata})
            return
        hook = self._shell.displayhook
        hook.start_displayhook()
        hook.write_output_prompt()
        hook.write_format_data(data, metadata)
        hook.finish_displayhook()


class KernelSink:
    """Sends on the local kernel's iopub socket, under the cell that was running when the sink was made."""

    def __init__(self, shell: Any, kernel: Any) -> None:
        self._kernel = kernel
        self.parent = local_parent(kernel)
        self._captured = _captured_streams()
        self._python = PythonSink(shell) if self._captured or _displays_captured(shell) else None
        self._displays_captured = _displays_captured(shell)
        _flush_first()

    @property
    def live(self) -> bool:
        return not self._displays_captured

    def ended(self) -> None:
        self._captured, self._python, self._displays_captured = set(), None, False

    def stream(self, name: str, text: str) -> None:
        if self._python is not None and name in self._captured:
            self._python.stream(name, text)
        else:
            send_iopub(self._kernel, "stream", {"name": name, "text": text}, self.parent, f"stream.{name}")

    def display(self, data: dict[str, Any], metadata: dict[str, Any], transient: dict[str, Any], update: bool) -> None:
        if self._python is not None and self._displays_captured:
            self._python.display(data, metadata, transient, update)
            return
        content = {"data": data, "metadata": metadata, "transient": transient}
        send_iopub(self._kernel, "update_display_data" if update else "display_data", content, self.parent, "display_data")

    def message(self, envelope: Envelope) -> None:
        if self._python is not None and self._displays_captured:
            self._python.message(envelope)
        else:
            publish(self._kernel, envelope, self.parent)


def publish(kernel: Any, envelope: Envelope, parent: dict[str, Any]) -> None:
    """The message as it came, under another parent."""
    is_json = kernel.session.packer in ("json", "orjson")
    content = envelope.content_bytes if is_json else envelope.content
    send_iopub(kernel, envelope.kind, content, parent, metadata=envelope.metadata, buffers=envelope.buffers)


def _captured_streams() -> set[str]:
    from ipykernel.iostream import OutStream

    return {name for name in ("stdout", "stderr") if not isinstance(getattr(sys, name), OutStream)}


def _displays_captured(shell: Any) -> bool:
    publisher = shell.display_pub
    return not hasattr(publisher, "pub_socket") or bool(getattr(publisher, "_hooks", None))


def _flush_first() -> None:
    """What was printed here before goes first. Waiting for ipykernel's sending thread costs more than all the rest of a short
    cell, so only where something was printed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if getattr(stream, "_flush_pending", True):
            stream.flush()
