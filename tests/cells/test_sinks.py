from __future__ import annotations

import contextlib
import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from jupyter_gpu.cells.envelope import Envelope, build
from jupyter_gpu.cells.sinks import KernelSink, PythonSink, local_parent, sink_of


class Kernel:
    """As far as a sink knows one: what went onto iopub is in ``sent``."""

    iopub_socket = "the socket"

    def __init__(self, packer: str = "json") -> None:
        self.sent: list[tuple[str, Any, Any, bytes]] = []
        self.parent: Any = {"header": {"msg_id": "cell-1"}}
        self.session = SimpleNamespace(packer=packer, send=self._send)

    def _send(self, socket: Any, kind: str, content: Any, parent: Any, ident: bytes, metadata: Any, buffers: list[Any]) -> None:
        assert socket == self.iopub_socket
        self.sent.append((kind, content, parent, ident))

    def get_parent(self) -> Any:
        return self.parent


class OutStream(io.StringIO):
    pass


def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a kernel. In the test itself: pytest puts its own ones there when a test begins."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, OutStream())


@pytest.fixture
def kernel(shell: Any, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """The shell as it is in a kernel: streams and displays of ipykernel's kinds."""
    import ipykernel.iostream

    monkeypatch.setattr(ipykernel.iostream, "OutStream", OutStream)
    found = Kernel()
    monkeypatch.setattr(shell, "kernel", found, raising=False)
    monkeypatch.setattr(shell, "display_pub", SimpleNamespace(pub_socket=1, _hooks=[], publish=None))
    return found


def envelope(kind: str, **content: Any) -> Envelope:
    return Envelope.of([memoryview(bytes(p)) for p in build(kind, content, {"msg_id": "far"})])


# ---------------------------------------------------------------- which one


def test_a_terminal_and_a_kernel(shell: Any, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(sink_of(shell), KernelSink)
    monkeypatch.setattr(kernel, "iopub_socket", None)
    assert isinstance(sink_of(shell), PythonSink), "a kernel embedded in a terminal"
    monkeypatch.delattr(shell, "kernel")
    assert isinstance(sink_of(shell), PythonSink)


@pytest.mark.parametrize("parent", [{}, None, {"header": None}, "nonsense"])
def test_without_a_request(kernel: Kernel, parent: Any) -> None:
    kernel.parent = parent
    assert local_parent(kernel) == {}


# ---------------------------------------------------------------- onto the wire


def test_all_goes_under_the_cell_that_ran_when_it_was_made(shell: Any, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    streams(monkeypatch)
    sink = sink_of(shell)
    kernel.parent = {"header": {"msg_id": "cell-2"}}
    sink.stream("stderr", "x")
    sink.display({"text/plain": "d"}, {}, {"display_id": "i"}, False)
    sink.display({"text/plain": "e"}, {}, {"display_id": "i"}, True)
    sink.message(envelope("clear_output", wait=True))
    assert [(kind, ident) for kind, _, _, ident in kernel.sent] == [
        ("stream", b"stream.stderr"),
        ("display_data", b"display_data"),
        ("update_display_data", b"display_data"),
        ("clear_output", b"clear_output"),
    ]
    assert {parent["header"]["msg_id"] for _, _, parent, _ in kernel.sent} == {"cell-1"}
    assert sink.live


@pytest.mark.parametrize(("packer", "kind"), [("json", memoryview), ("orjson", memoryview), ("msgpack", dict)])
def test_content_goes_as_it_came_where_the_kernel_speaks_json(shell: Any, kernel: Kernel, packer: str, kind: type) -> None:
    kernel.session.packer = packer
    sink_of(shell).message(envelope("display_data", data={"text/plain": "x"}))
    content = kernel.sent[0][1]
    assert isinstance(content, kind if kind is dict else (bytes, memoryview))


def test_what_was_printed_before_goes_first(shell: Any, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    for name, pending in (("stdout", True), ("stderr", False)):
        stream = OutStream()
        stream._flush_pending = pending  # type: ignore[attr-defined]
        stream.flush = lambda name=name: flushed.append(name)  # type: ignore[method-assign]
        monkeypatch.setattr(sys, name, stream)
    sink_of(shell)
    assert flushed == ["stdout"], "waiting for ipykernel's thread costs more than a short cell"


def test_captured_streams_go_to_the_capture_and_the_rest_does_not(shell: Any, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    streams(monkeypatch)
    capture = io.StringIO()
    with contextlib.redirect_stdout(capture):
        sink = sink_of(shell)
        sink.stream("stdout", "caught")
        sink.stream("stderr", "not caught")
    assert capture.getvalue() == "caught"
    assert [(c["name"], c["text"]) for _, c, _, _ in kernel.sent] == [("stderr", "not caught")]
    sink.ended()
    sink.stream("stdout", "of a thread, later")
    assert capture.getvalue() == "caught" and kernel.sent[-1][1]["text"] == "of a thread, later"


def test_captured_displays(shell: Any, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    caught: list[Any] = []
    capture = SimpleNamespace(publish=lambda **what: caught.append(what), clear_output=lambda wait: caught.append(wait))
    monkeypatch.setattr(shell, "display_pub", capture)  # a CapturingDisplayPublisher has no socket
    sink = sink_of(shell)
    assert not sink.live
    sink.message(envelope("display_data", data={"text/plain": "x"}))
    sink.display({"text/plain": "y"}, {}, {}, True)
    assert [(c["data"], c["update"]) for c in caught] == [({"text/plain": "x"}, False), ({"text/plain": "y"}, True)]
    assert kernel.sent == []
    sink.ended()
    sink.display({"text/plain": "later"}, {}, {}, False)
    assert len(kernel.sent) == 1 and sink.live


# ---------------------------------------------------------------- onto a terminal


def test_prints_and_errors_on_a_terminal(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sink = PythonSink(shell)
    sink.stream("stdout", "out")
    sink.message(envelope("error", ename="E", evalue="v", traceback=["line 1", "line 2"]))
    sink.message(envelope("status", execution_state="idle"))
    got = capsys.readouterr()
    assert (got.out, got.err) == ("out", "line 1\nline 2\n")
    sink.ended()
    sink.stream("stderr", "later")
    assert capsys.readouterr().err == "later"


def test_a_result_on_a_terminal_and_in_a_capture(shell: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    result = envelope("execute_result", data={"text/plain": "42"}, metadata={}, execution_count=3)
    PythonSink(shell).message(result)
    assert "42" in capsys.readouterr().out
    hook = SimpleNamespace(outputs=[])
    monkeypatch.setattr(sys, "displayhook", hook)
    PythonSink(shell).message(result)
    assert hook.outputs == [{"data": {"text/plain": "42"}, "metadata": {}}] and capsys.readouterr().out == ""


def test_a_display_on_a_terminal(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[Any] = []
    publisher = SimpleNamespace(publish=lambda **what: got.append(what), clear_output=lambda wait: got.append(wait))
    monkeypatch.setattr(shell, "display_pub", publisher)
    sink = PythonSink(shell)
    sink.message(envelope("update_display_data", data={"text/plain": "x"}, metadata={"a": 1}, transient={"display_id": "i"}))
    sink.message(envelope("clear_output", wait=True))
    assert got == [{"data": {"text/plain": "x"}, "metadata": {"a": 1}, "transient": {"display_id": "i"}, "update": True}, True]
    assert not sink.live
