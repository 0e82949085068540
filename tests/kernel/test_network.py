"""Whole kernels over a network that is slow, cut or silent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bad_network import Network, between
from notebook_driver import DEADLINE
from whole_driver import Whole

from jupyter_gpu import embedded
from jupyter_gpu.config import load


@pytest.fixture
def network(home: Path, start: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    found = embedded.find_or_start(load())
    with between(found.url.removeprefix("unix://"), monkeypatch, found.token) as made:
        yield made


def replies(kernel: Whole, requests: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    while len(found) < len(requests):
        reply = kernel.client.get_shell_msg(timeout=DEADLINE)
        if reply["parent_header"]["msg_id"] in requests:
            found[reply["parent_header"]["msg_id"]] = reply["content"]["status"]
    return found


def test_run_all_with_an_error_far_away(network: Network, start: Any) -> None:
    """17: what was sent before the failure was known here does not run, though it arrives long after it."""
    kernel = start("jupyter-gpu-cpu")
    network.latency = 0.15
    kernel.ok("ran = []")
    first = [kernel.start("ran.append(1)"), kernel.start("1 / 0")]
    while kernel.client.get_iopub_msg(timeout=DEADLINE)["msg_type"] != "error":
        # The failure is on its way: these are sent while it is known there, and not yet answered here.
        first.append(kernel.start(f"ran.append({len(first)})"))
    found = replies(kernel, first)
    assert [found[r] for r in first] == ["ok", "error"] + ["aborted"] * (len(first) - 2)
    assert len(first) > 2
    after = kernel.ok("ran")
    assert after.results == ["[1]"], "what is sent after the failure was told runs"


def test_a_failure_that_stops_nothing(network: Network, start: Any) -> None:
    kernel = start("jupyter-gpu-cpu")
    network.latency = 0.15
    kernel.ok("ran = []")
    sent = [kernel.client.execute("1 / 0", stop_on_error=False), kernel.start("ran.append(1)")]
    assert list(replies(kernel, sent).values()) == ["error", "ok"]


def test_the_network_is_cut_in_mid_cell(network: Network, start: Any) -> None:
    kernel = start("jupyter-gpu-cpu")
    cuts = 0

    def cut(message: dict[str, Any]) -> None:
        nonlocal cuts
        if message["msg_type"] == "display_data" and message["content"]["data"]["application/x-n"] in (100, 2000, 4000):
            cuts += 1
            network.cut()

    code = "from IPython.display import display\nfor i in range(5000): display({'application/x-n': i}, raw=True)"
    result = kernel.run(code, on_output=cut)
    assert [d["data"]["application/x-n"] for d in result.displays] == list(range(5000))
    assert cuts == 3 and network.connections > 4


def test_a_silent_network_during_20_000_outputs(network: Network, start: Any) -> None:
    """The kernel goes on; heartbeats are answered; what piled up comes in order, and idle with it."""
    kernel = start("jupyter-gpu-cpu")
    count = 20_000
    code = f"from IPython.display import display\nfor i in range({count}): display({{'application/x-n': i}}, raw=True)\nopen('done', 'w').close()"
    kernel.ok("import os; where = os.getcwd()")
    done = Path(kernel.ok("print(where)").text().strip()) / "done"
    network.stall()
    running = kernel.client.execute(code)
    network.flow()

    def stalled(message: dict[str, Any]) -> None:
        if message["msg_type"] == "display_data" and message["content"]["data"]["application/x-n"] == 10:
            network.stall()
            while not done.exists():
                assert kernel.client.hb_channel.is_beating()
            network.flow()

    result = kernel.finish(running, on_output=stalled, timeout=120)
    assert [d["data"]["application/x-n"] for d in result.displays] == list(range(count))


def test_the_stop_button_far_away(network: Network, start: Any) -> None:
    kernel = start("jupyter-gpu-cpu")
    network.latency = 0.15

    def press(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            kernel.interrupt()

    result = kernel.run("print('on', flush=True)\nwhile True: pass", on_output=press)
    assert result.error is not None and result.error["ename"] == "KeyboardInterrupt"


def test_input_across_a_cut(network: Network, start: Any) -> None:
    kernel = start("jupyter-gpu-cpu")

    def answer(request: dict[str, Any]) -> str:
        network.cut()
        return "yes"

    assert kernel.run("print(input('?'))", stdin=answer).text() == "yes\n"
