from __future__ import annotations

import getpass
import json
from typing import Any

import pytest

from jupyter_gpu.cells import stdin
from jupyter_gpu.cells.envelope import Envelope, build


class Kernel:
    def __init__(self, value: str | type[BaseException]) -> None:
        self.value = value
        self.asked: list[tuple[str, str]] = []
        self._allow_stdin: Any = True

    def _answer(self, how: str, prompt: str) -> str:
        self.asked.append((how, prompt))
        if isinstance(self.value, str):
            return self.value
        raise self.value

    def raw_input(self, prompt: str) -> str:
        return self._answer("input", prompt)

    def getpass(self, prompt: str) -> str:
        return self._answer("getpass", prompt)


class Shell:
    def __init__(self, kernel: Kernel | None) -> None:
        if kernel is not None:
            self.kernel = kernel


def request(**content: Any) -> Envelope:
    return Envelope.of([memoryview(bytes(p)) for p in build("input_request", content, {"msg_id": "cell-7"})])


def reply(parts: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    header, parent, _, content = (json.loads(bytes(p)) for p in parts)
    return header, parent, content


@pytest.mark.parametrize(("password", "how"), [(False, "input"), (True, "getpass")])
def test_the_front_end_is_asked(password: bool, how: str) -> None:
    kernel = Kernel("what was typed")
    asked = request(prompt="Name? ", password=password)
    header, parent, content = reply(stdin.answer(Shell(kernel), asked))
    assert kernel.asked == [(how, "Name? ")]
    assert header["msg_type"] == "input_reply" and content == {"status": "ok", "value": "what was typed"}
    assert parent == asked.header, "the remote kernel knows which question it was"


def test_end_of_file_is_what_ipykernel_takes_for_it() -> None:
    assert reply(stdin.answer(Shell(Kernel(EOFError)), request(prompt="")))[2]["value"] == "\x04"


def test_an_interrupt_is_no_answer() -> None:
    with pytest.raises(KeyboardInterrupt):
        stdin.answer(Shell(Kernel(KeyboardInterrupt)), request(prompt=""))


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: f"typed after {prompt}")
    monkeypatch.setattr(getpass, "getpass", lambda prompt: f"hidden after {prompt}")
    assert reply(stdin.answer(Shell(None), request(prompt="a")))[2]["value"] == "typed after a"
    assert reply(stdin.answer(Shell(None), request(prompt="b", password=True)))[2]["value"] == "hidden after b"


def test_whether_anybody_can_be_asked() -> None:
    kernel = Kernel("")
    assert stdin.allowed(Shell(None)) and stdin.allowed(Shell(kernel))
    kernel._allow_stdin = False
    assert not stdin.allowed(Shell(kernel))
