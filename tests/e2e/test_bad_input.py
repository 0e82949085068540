"""What bad input gets: a clear sentence with what to do, no traceback of ours, nothing harmed, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import time
from pathlib import Path

import psutil
import pytest
from notebook_driver import Notebook, Result, descendants_in, end_gateways

pytestmark = pytest.mark.timeout(180)


def clear(result: Result, *words: str) -> str:
    """The error of a cell, checked to be one that a person can use."""
    assert result.error is not None, result.outputs
    text = re.sub(r"\x1b\[[0-9;]*m", "", result.traceback)
    assert "Traceback" not in text and ".py" not in text.replace("jupyter_gpu_config.py", ""), f"a traceback of ours:\n{text}"
    for word in words:
        assert word.lower() in text.lower(), f"{word!r} is not said:\n{text}"
    assert len(text.splitlines()) <= 8, text
    return text


def test_unknown_option_names_the_nearest(notebook: Notebook) -> None:
    clear(notebook.run("%%remote gpus=H100\npass"), "gpus", "gpu")


@pytest.mark.parametrize("gpu", ["H100:0", "H100:x", "", ",", "H100:1:2", "H100:-1"])
def test_malformed_gpu(notebook: Notebook, gpu: str) -> None:
    clear(notebook.run(f"%%remote gpu={gpu}\npass"), "gpu")


def test_hardware_that_is_not_there_lists_what_is(notebook: Notebook) -> None:
    clear(notebook.run("%%remote gpu=B200\npass"), "B200", "H100", "simulated")


def test_more_than_there_is(notebook: Notebook) -> None:
    clear(notebook.run("%%remote gpu=H100:9\npass"), "H100")


def test_name_that_does_not_exist(notebook: Notebook) -> None:
    notebook.ok("weights_of_model = 1")
    clear(notebook.run("%%remote gpu=H100 in=weights_of_modle\npass"), "weights_of_modle", "weights_of_model")


@pytest.mark.parametrize(
    ("setup", "path", "why"),
    [
        ("import threading; config = {'inner': [1, threading.Lock()]}", "config['inner'][1]", "a lock belongs to"),
        ("config = {'rows': (n for n in range(3))}", "config['rows']", "in the middle of running"),
        ("import socket; config = [socket.socket()]", "config[0]", "one process"),
        ("import sqlite3; config = sqlite3.connect(':memory:')", "config", "one process"),
        ("class Model:\n    pass\nconfig = Model(); config.pool = [__import__('threading').Thread()]", "config.pool[0]", "one process"),
    ],
    ids=["lock", "generator", "socket", "database", "thread"],
)
def test_a_value_that_cannot_travel_is_named_with_its_path_before_the_cell_runs(
    notebook: Notebook, tmp_path: Path, setup: str, path: str, why: str
) -> None:
    notebook.ok(f"{setup}\nkept = [1]; before = config")
    ran = tmp_path / "ran"
    cell = f"open({str(ran)!r}, 'w').close(); kept.append(config)"
    for options in ("gpu=H100", "gpu=H100 in=kept,config"):
        clear(notebook.run(f"%%remote {options}\n{cell}"), path, why, "'config'", "Nothing ran")
        assert not ran.exists()
        assert notebook.value("(kept, config is before)") == "([1], True)"
    if path == "config['rows']":
        assert notebook.value("list(config['rows'])") == "[0, 1, 2]", "looking for the culprit must not use it up"
    notebook.ok("%%remote gpu=H100\nkept.append(2)")
    assert notebook.value("kept") == "[1, 2]", "a cell that does not need it runs"


def test_several_values_that_cannot_travel_are_all_named(notebook: Notebook) -> None:
    notebook.ok("import threading; one = [threading.Lock()]; two = {'x': threading.Lock()}")
    clear(notebook.run("%%remote gpu=H100\nprint(one, two)"), "one[0]", "two['x']")


def test_syntax_error_is_the_users_own(notebook: Notebook) -> None:
    result = notebook.run("%%remote gpu=H100\nx = = 1")
    assert result.error is not None and result.error["ename"] == "SyntaxError"


def with_env(place: dict[str, str], tmp_path: Path, **more: str) -> Notebook:
    return Notebook({**place, **more}, tmp_path)


def test_gateway_that_is_down(place: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    book = with_env(place, tmp_path, JUPYTER_GPU_GATEWAY=f"ws://127.0.0.1:{port}", JUPYTER_GPU_TOKEN="t")
    try:
        book.ok("kept = [1]")
        began = time.monotonic()
        clear(book.run("%%remote gpu=H100\nkept.append(2)"), f"127.0.0.1:{port}", "gateway")
        assert time.monotonic() - began < 20
        assert book.value("kept") == "[1]"
    finally:
        book.close()


def test_malformed_gateway_address(place: dict[str, str], tmp_path: Path) -> None:
    book = with_env(place, tmp_path, JUPYTER_GPU_GATEWAY="ftp://nowhere", JUPYTER_GPU_TOKEN="t")
    try:
        clear(book.run("%%remote gpu=H100\npass"), "ftp://nowhere")
    finally:
        book.close()


def info_file(place: dict[str, str]) -> Path:
    (found,) = (Path(place["JUPYTER_RUNTIME_DIR"]) / "jupyter_gpu").glob("gateway*.json")
    return found


def test_wrong_token(notebook: Notebook, place: dict[str, str], tmp_path: Path) -> None:
    notebook.ok("%%remote gpu=cpu\npass")
    url = json.loads(info_file(place).read_text())["url"]
    book = with_env(place, tmp_path, JUPYTER_GPU_GATEWAY=url, JUPYTER_GPU_TOKEN="wrong-token")
    try:
        text = clear(book.run("%%remote gpu=H100\npass"), "token")
        assert "wrong-token" not in text
    finally:
        book.close()


def test_token_file_readable_by_others(place: dict[str, str], tmp_path: Path) -> None:
    book = with_env(place, tmp_path)
    try:
        book.ok("%%remote gpu=cpu\npass")
        file = info_file(place)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        file.chmod(0o644)
        other = with_env(place, tmp_path)
        try:
            clear(other.run("%%remote gpu=cpu\npass"), "gateway", "chmod", "0644", str(file.name))
        finally:
            other.close()
            file.chmod(0o600)
    finally:
        book.close()


def test_worker_that_dies_in_mid_cell(fresh: Notebook) -> None:
    fresh.ok("kept = [1]; other = 'x'")
    result = fresh.run(
        "%%remote gpu=H100\nkept.append(2)\nprint('before', flush=True)\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    clear(result, "died", "kill")
    assert "before" in result.text()
    assert fresh.value("(kept, other)") == "([1], 'x')"
    assert fresh.ok("%%remote gpu=H100\nprint(kept)").text() == "[1]\n"


def test_timeout(fresh: Notebook) -> None:
    clear(fresh.run("%%remote gpu=cpu timeout=1s\nimport time\ntime.sleep(60)"), "1 s")
    assert fresh.ok("%%remote gpu=cpu\nprint('alive')").text() == "alive\n"


def test_gateway_killed_in_mid_cell_is_said(place: dict[str, str], tmp_path: Path) -> None:
    runtime = tmp_path / "rt"
    runtime.mkdir(mode=0o700)
    env = {**place, "JUPYTER_RUNTIME_DIR": str(runtime)}
    book = Notebook(env, tmp_path)
    try:
        book.ok("%%remote gpu=cpu\npass")
        gateway = next(p for p in descendants_in(runtime) if any("jupyter_gpu_gateway" in part for part in p.cmdline()))
        gateway.send_signal(signal.SIGKILL)
        gateway.wait(10)
        book.ok("kept = 1")
        again = book.run("%%remote gpu=cpu\nprint(kept)", timeout=90)
        assert again.text() == "1\n" or again.error is not None  # a session that came back, or words; never silence
        if again.error is not None:
            clear(again, "gateway")
            assert book.ok("%%remote gpu=cpu\nprint(kept)", timeout=90).text() == "1\n"
    finally:
        book.close()
        end_gateways(runtime)


def test_status_plan_help(notebook: Notebook) -> None:
    notebook.ok("payload = list(range(1000)); ran = 0")
    plan = notebook.ok("%%remote plan gpu=H100\nran = 1\nlen(payload)")
    shown = plan.text() + str([o.get("data") for o in plan.outputs])
    assert "payload" in shown
    assert notebook.value("ran") == "0"
    status = notebook.ok("%remote status")
    assert "H100" in status.text() + str([o.get("data") for o in status.outputs])
    help_text = notebook.run("%remote?").reply["payload"][0]["data"]["text/plain"]
    for word in ("gpu=", "in=", "out=", "keep=", "name=", "timeout=", "idle=", "quiet", "status", "plan", "stop", "default", "# remote:"):
        assert word in help_text, word


def test_default_and_directive(notebook: Notebook) -> None:
    here = int(notebook.value("__import__('os').getpid()"))
    assert int(notebook.ok("# remote: gpu=H100\nimport os\nprint(os.getpid())").text()) != here
    notebook.ok("%remote default gpu=H100")
    try:
        assert int(notebook.ok("import os\nprint(os.getpid())").text()) != here
    finally:
        notebook.ok("%remote default off")
    assert int(notebook.ok("import os\nprint(os.getpid())").text()) == here


def test_quiet_hides_the_line(notebook: Notebook) -> None:
    assert notebook.ok("%%remote gpu=H100 quiet\nprint(1)").summary == ""


def test_embedded_gateway_is_shared_and_private(notebook: Notebook, place: dict[str, str], tmp_path: Path) -> None:
    notebook.ok("%%remote gpu=cpu\npass")
    other = with_env(place, tmp_path)
    try:
        other.ok("%%remote gpu=cpu\npass")
        gateways = [p for p in descendants_in(Path(place["JUPYTER_RUNTIME_DIR"])) if "jupyter_gpu_gateway" in " ".join(p.cmdline())]
        assert len(gateways) == 1, gateways
        pid = gateways[0].pid
        listening = [c for c in psutil.Process(pid).net_connections(kind="inet") if c.status == psutil.CONN_LISTEN]
        assert all(c.laddr.ip == "127.0.0.1" for c in listening)
        assert os.environ.get("JUPYTER_GPU_TOKEN") is None
    finally:
        other.close()
