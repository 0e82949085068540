from __future__ import annotations

import json
from typing import Any

import pytest

from jupyter_gpu.cells.results import ResultCache, run_payloads


def test_the_result_is_cached_as_if_it_had_been_displayed_here(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_cell("1", store_history=True)
    shell.run_cell("2", store_history=True)
    capsys.readouterr()
    cache = ResultCache(shell)
    shell.user_ns["_"] = "remote"
    cache.take()
    assert [shell.user_ns[n] for n in ("_", "__", "___")] == ["remote", 2, 1]
    assert capsys.readouterr().out == "", "it was displayed already"


def test_without_a_result_before(shell: Any) -> None:
    shell.user_ns.pop("_", None)
    cache = ResultCache(shell)
    shell.user_ns["_"] = [1]
    cache.take()
    assert shell.user_ns["_"] == [1]


def test_an_underscore_of_the_persons_own_is_theirs(shell: Any) -> None:
    """As with a local result: IPython leaves ``_`` alone once somebody has bound it."""
    shell.run_cell("1", store_history=True)
    shell.user_ns["_"] = "mine, say of gettext"
    cache = ResultCache(shell)
    shell.user_ns["_"] = "remote"
    cache.take()
    assert shell.user_ns["_"] == "mine, say of gettext"


def payloads(*found: dict[str, Any]) -> bytes:
    return json.dumps(found).encode()


def test_a_terminal_shows_pages_and_sets_the_next_input(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[Any] = []
    monkeypatch.setattr("IPython.core.page.page", lambda text, start=0: pages.append((text, start)))
    shell.set_next_input = lambda text, replace=False: pages.append((text, replace))
    run_payloads(
        shell,
        payloads(
            {"source": "page", "data": {"text/plain": "the help"}, "start": 3},
            {"source": "set_next_input", "text": "x = 1", "replace": True},
            {"source": "something new"},
        ),
    )
    assert pages == [("the help", 3), ("x = 1", True)]


def test_a_kernel_passes_them_on_except_the_one_that_would_end_it(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "kernel", object(), raising=False)
    written: list[Any] = []
    monkeypatch.setattr(shell.payload_manager, "write_payload", written.append)
    run_payloads(shell, payloads({"source": "ask_exit", "keepkernel": False}, {"source": "edit_magic", "filename": "x"}))
    assert written == [{"source": "edit_magic", "filename": "x"}]


@pytest.mark.parametrize("nothing", [b"", b"[]"])
def test_no_payloads_cost_nothing(nothing: bytes) -> None:
    run_payloads(None, nothing)
