"""Kernels that say nothing before they are asked: their iopub is plain PUB, which welcomes nobody."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from whole_driver import Whole

KERNEL = """
import json, sys, zmq
from jupyter_client.session import Session

told = json.load(open(sys.argv[1]))
session = Session(key=told["key"].encode(), signature_scheme=told["signature_scheme"])
context = zmq.Context()

def bound(kind, channel):
    socket = context.socket(kind)
    socket.bind(f"{told['transport']}://{told['ip']}-{told[channel + '_port']}")
    return socket

shell, control, stdin = (bound(zmq.ROUTER, c) for c in ("shell", "control", "stdin"))
iopub = bound(zmq.PUB, "iopub")
poller = zmq.Poller()
poller.register(shell, zmq.POLLIN)
poller.register(control, zmq.POLLIN)
running = True
while running:
    for socket, _ in poller.poll():
        names, parts = session.feed_identities(socket.recv_multipart())
        request = session.deserialize(parts)
        kind = request["msg_type"].replace("_request", "_reply")
        publish = SAYS
        if publish:
            session.send(iopub, "status", {"execution_state": "busy"}, parent=request, ident=b"status")
        content = {"status": "ok"}
        if kind == "kernel_info_reply":
            content |= {"protocol_version": "5.3", "implementation": "quiet", "language_info": {"name": "none"}, "banner": ""}
        elif kind == "execute_reply":
            content["execution_count"] = 1
            session.send(iopub, "stream", {"name": "stdout", "text": request["content"]["code"]}, parent=request, ident=b"stream.stdout")
        session.send(socket, kind, content, parent=request, ident=names)
        if publish:
            session.send(iopub, "status", {"execution_state": "idle"}, parent=request, ident=b"status")
        running = running and kind != "shutdown_reply"
context.destroy(linger=1000)
"""


@pytest.mark.parametrize("says", ["True", "kind == 'execute_reply'"], ids=["busy and idle", "nothing about what is asked of it"])
def test_it_is_asked_something(home: Path, tmp_path: Path, start: Any, says: str) -> None:
    (tmp_path / "kernel.py").write_text(KERNEL.replace("SAYS", says))
    folder = home / "data" / "kernels" / "quiet"
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"kernel_provisioner": {"provisioner_name": "jupyter-gpu", "config": {"gpu": "CPU"}}}
    argv = [sys.executable, str(tmp_path / "kernel.py"), "{connection_file}"]
    spec = {"argv": argv, "display_name": "quiet", "language": "none", "metadata": metadata}
    (folder / "kernel.json").write_text(json.dumps(spec))
    kernel: Whole = start("quiet", wait=False)
    assert kernel.ok("what is said").text() == "what is said"
