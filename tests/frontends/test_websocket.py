"""Many lines through a real jupyter_server with its default limits, over the websocket that a browser opens."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from front_ends import Site
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

V1 = Subprotocol("v1.kernel.websocket.jupyter.org")
FLUSHED = "for i in range(20_000): print('line', i, flush=True)"
#: 4.3 MB: more than the limit of 1 MB per second lets through in the three seconds that it looks back.
UNFLUSHED = "for i in range(100_000): print('line', i, '.' * 30)"


def start_kernel(site: Site) -> str:
    """As a front end does: through a session, which has a notebook's path. The kernel's id."""
    wanted = {"path": "a.ipynb", "name": "a.ipynb", "type": "notebook", "kernel": {"name": "python3"}}
    request = urllib.request.Request(f"{site.url}/api/sessions?token=t", json.dumps(wanted).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.load(answer)["kernel"]["id"])


class Channels:
    """A browser's end of ``/api/kernels/<id>/channels``. ``v1``: the binary protocol, JSON otherwise."""

    def __init__(self, socket: ClientConnection, session: str, v1: bool) -> None:
        self.socket, self.session, self.v1 = socket, session, v1

    @staticmethod
    @contextlib.contextmanager
    def of(site: Site, v1: bool) -> Iterator[Channels]:
        session = uuid.uuid4().hex
        address = f"{site.url.replace('http', 'ws')}/api/kernels/{start_kernel(site)}/channels?token=t&session_id={session}"
        with connect(address, subprotocols=[V1] if v1 else None, max_size=None) as socket:
            assert socket.subprotocol == (V1 if v1 else None)
            yield Channels(socket, session, v1)

    def run(self, code: str, timeout: float = 120) -> tuple[dict[str, str], list[dict[str, Any]]]:
        """(text by stream, outputs that are not text). Ends with the reply and the idle of this cell."""
        texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        others, ends = [], set()
        for kind, message in self.start(code, timeout):
            if kind == "stream":
                texts[message["content"]["name"]].append(message["content"]["text"])
            elif kind == "execute_reply" or (kind == "status" and message["content"]["execution_state"] == "idle"):
                ends.add(kind)
                if len(ends) == 2:
                    break
            else:
                others.append(message)
        return {name: "".join(parts) for name, parts in texts.items()}, others

    def start(self, code: str, timeout: float = 120) -> Iterator[tuple[str, dict[str, Any]]]:
        """Runs a cell: (kind, message) of each answer, for ``timeout`` seconds at most."""
        header = {
            "msg_id": uuid.uuid4().hex,
            "session": self.session,
            "username": "",
            "msg_type": "execute_request",
            "version": "5.3",
            "date": "",
        }
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        }
        self._send({"header": header, "parent_header": {}, "metadata": {}, "content": content})
        return self._under(header["msg_id"], time.monotonic() + timeout)

    def _send(self, message: dict[str, Any]) -> None:
        if self.v1:
            parts = [json.dumps(message[key]).encode() for key in ("header", "parent_header", "metadata", "content")]
            self.socket.send(serialize_msg_to_ws_v1(parts, "shell"))
        else:
            self.socket.send(json.dumps({**message, "channel": "shell", "buffers": []}))

    def _under(self, msg_id: str, end: float) -> Iterator[tuple[str, dict[str, Any]]]:
        while True:
            message = self._decode(self.socket.recv(timeout=max(0.0, end - time.monotonic())))
            if message["parent_header"].get("msg_id") == msg_id:
                yield message["header"]["msg_type"], message

    def _decode(self, data: str | bytes) -> dict[str, Any]:
        if not self.v1:
            assert isinstance(data, str)
            return dict(json.loads(data))
        assert isinstance(data, bytes)
        _, parts = deserialize_msg_from_ws_v1(data)
        return {key: json.loads(bytes(part)) for key, part in zip(("header", "parent_header", "metadata", "content"), parts)}


def remote_lines(site: Site, v1: bool, code: str) -> str:
    """What a cell prints, run remotely; nothing may come on stderr."""
    with Channels.of(site, v1) as channels:
        _, others = channels.run("%load_ext jupyter_gpu")
        assert not [m for m in others if m["header"]["msg_type"] == "error"], others
        texts, others = channels.run(f"%%remote gpu=H100\n{code}")
    assert not texts["stderr"], texts["stderr"]
    assert sum(" · ran " in m["content"].get("data", {}).get("text/plain", "") for m in others) == 1, others
    return texts["stdout"]


def check_lines(text: str, count: int, tail: str = "") -> None:
    lines = text.splitlines()
    wrong = next((i for i, line in enumerate(lines) if line != f"line {i}{tail}"), None)
    assert wrong is None and len(lines) == count, (wrong, len(lines), lines[wrong or -1])


@pytest.mark.parametrize("v1", [True, False], ids=["v1", "json"])
def test_flushed_lines(server: Site, v1: bool) -> None:
    check_lines(remote_lines(server, v1, FLUSHED), 20_000)


@pytest.mark.parametrize("v1", [True, False], ids=["v1", "json"])
def test_unflushed_lines(server: Site, v1: bool) -> None:
    check_lines(remote_lines(server, v1, UNFLUSHED), 100_000, " " + "." * 30)


def test_the_limits_are_in_force(server: Site) -> None:
    """Without jupyter-gpu, the same lines are lost: what the tests above pass is no open door."""
    with Channels.of(server, v1=True) as channels:
        lines, said = 0, ""
        for kind, message in channels.start(FLUSHED):
            if kind == "stream" and message["content"]["name"] == "stdout":
                lines += message["content"]["text"].count("\n")
            elif kind == "stream":
                said += message["content"]["text"]
            elif kind == "execute_reply":  # the end: an idle may be among what ZMQ drops when the server falls behind
                break
    assert "IOPub message rate exceeded" in said and lines < 20_000
