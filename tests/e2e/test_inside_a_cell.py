"""Everything that a person does in a cell, done in a remote one."""

from __future__ import annotations

import time
from typing import Any

import pytest
from notebook_driver import Notebook

pytestmark = pytest.mark.timeout(180)


def test_runs_elsewhere(notebook: Notebook) -> None:
    here = notebook.value("__import__('os').getpid()")
    there = notebook.ok("%%remote gpu=H100\nimport os\nprint(os.getpid(), os.environ['CUDA_VISIBLE_DEVICES'])").text().split()
    assert there[0] != here
    assert there[1].startswith("SIM-")


def test_summary_line_names_the_simulated_hardware(notebook: Notebook) -> None:
    line = notebook.ok("%%remote gpu=h100\npass").summary
    assert "H100" in line and "simulated" in line and "ran" in line


def test_streams_arrive_while_the_cell_runs(notebook: Notebook) -> None:
    seen: list[tuple[str, str]] = []

    def on_output(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            seen.append((message["content"]["name"], message["content"]["text"]))

    code = "%%remote gpu=H100\nimport sys\nprint('first')\ninput('go? ')\nprint('second', file=sys.stderr)"
    asked: list[int] = []

    def stdin(request: dict[str, Any]) -> str:
        asked.append(len(seen))
        return "yes"

    notebook.ok(code, on_output=on_output, stdin=stdin)
    assert seen[0] == ("stdout", "first\n")
    assert ("stderr", "second\n") in seen


def test_order_of_streams_and_displays(notebook: Notebook) -> None:
    result = notebook.ok("%%remote gpu=H100\nfrom IPython.display import display\nfor i in range(5):\n    print('line', i)\n    display(i)")
    shown = [
        o["text"].strip() if o["msg_type"] == "stream" else o["data"]["text/plain"]
        for o in result.outputs
        if " · " not in str(o.get("data"))
    ]
    assert shown == [x for i in range(5) for x in (f"line {i}", str(i))]


def test_rich_display(notebook: Notebook) -> None:
    result = notebook.ok("%%remote gpu=H100\nfrom IPython.display import HTML\nHTML('<b>bold</b>')")
    assert [o["data"]["text/html"] for o in result.outputs if o["msg_type"] == "execute_result"] == ["<b>bold</b>"]


def test_matplotlib_figure(notebook: Notebook) -> None:
    result = notebook.ok("%%remote gpu=H100\nimport matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()")
    assert any("image/png" in d["data"] for d in result.displays)


def test_display_id_updates(notebook: Notebook) -> None:
    result = notebook.ok("%%remote gpu=H100\nfrom IPython.display import display\nh = display('a', display_id=True)\nh.update('b')")
    assert "'b'" in [d["data"]["text/plain"] for d in result.displays]
    assert "'a'" not in [d["data"]["text/plain"] for d in result.displays]


def test_clear_output(notebook: Notebook) -> None:
    result = notebook.ok("%%remote gpu=H100\nfrom IPython.display import clear_output\nprint('gone')\nclear_output()\nprint('stays')")
    assert result.text() == "stays\n"


def test_tqdm(notebook: Notebook) -> None:
    result = notebook.ok("%%remote gpu=H100\nfrom tqdm import tqdm\nfor _ in tqdm(range(20)): pass")
    assert "20/20" in result.text("stderr")


def test_input_and_getpass(notebook: Notebook) -> None:
    asked: list[dict[str, Any]] = []

    def stdin(request: dict[str, Any]) -> str:
        asked.append(request)
        return f"answer{len(asked)}"

    result = notebook.ok("%%remote gpu=H100\nfrom getpass import getpass\nprint(input('name? '), getpass('word? '))", stdin=stdin)
    assert result.text() == "answer1 answer2\n"
    assert [(a["prompt"], a["password"]) for a in asked] == [("name? ", False), ("word? ", True)]


def test_top_level_await(notebook: Notebook) -> None:
    assert notebook.ok("%%remote gpu=H100\nimport asyncio\nawait asyncio.sleep(0.01)\nprint('awaited')").text() == "awaited\n"


def test_other_magics_and_commands(notebook: Notebook) -> None:
    notebook.ok("word = 'interpolated'")
    result = notebook.ok(
        "%%remote gpu=H100\n%%time\nx_magic = %timeit -o -n1 -r1 -q pass\n!echo {word} $word\nfiles = !echo hi\nprint(files[0])"
    )
    assert "interpolated interpolated" in result.text().replace("\r", "")
    assert "hi\n" in result.text() and "Wall time" in result.text()


def test_warnings(notebook: Notebook) -> None:
    assert "careful" in notebook.ok("%%remote gpu=H100\nimport warnings\nwarnings.warn('careful')").text("stderr")


def test_out_and_underscore_go_on(notebook: Notebook) -> None:
    result = notebook.ok("%%remote gpu=H100\n6 * 7")
    count = result.reply["execution_count"]
    assert result.results == ["42"]
    assert next(o for o in result.outputs if o["msg_type"] == "execute_result")["execution_count"] == count
    assert notebook.value("_") == "42" and notebook.value(f"Out[{count}]") == "42"
    assert notebook.ok("%%remote gpu=H100\n_ + 1").results == ["43"]
    assert notebook.ok(f"%%remote gpu=H100\nOut[{count}] + 2").results == ["44"]


def test_traceback_has_the_users_lines(notebook: Notebook) -> None:
    result = notebook.run("%%remote gpu=H100\ndef divide(a, b):\n    return a / b  # here it breaks\n\ndivide(1, 0)")
    plain = "".join(c for c in result.traceback)
    assert result.error is not None and result.error["ename"] == "ZeroDivisionError"
    assert "here it breaks" in plain
    import re

    plain = re.sub(r"\x1b\[[0-9;]*m", "", plain)
    assert re.search(r"-+> 3 +return a / b", plain) and re.search(r"-+> 5 divide\(1, 0\)", plain), plain
    assert "jupyter_gpu" not in plain, plain
    assert result.reply["status"] == "error"


def test_exception_can_be_caught_around_run_cell(notebook: Notebook) -> None:
    code = (
        "r = get_ipython().run_cell('%%remote gpu=H100\\nraise ValueError(\"remote trouble\")')\nprint(type(r.error_in_exec).__name__, r.error_in_exec)\n"
        "try:\n    r.raise_error()\nexcept ValueError as e:\n    print('caught', e)"
    )
    assert "ValueError remote trouble\ncaught remote trouble\n" in notebook.run(code).text()


@pytest.mark.parametrize(
    "body", ["import time\ntime.sleep(60)", "while True: pass", "import asyncio\nawait asyncio.sleep(60)", "!sleep 60", "input('?')"]
)
def test_interrupt(notebook: Notebook, body: str) -> None:
    code = f"%%remote gpu=H100\nreached = 1\nprint('ready', flush=True)\n{body}"
    notebook.ok("reached = 0")
    sent: list[float] = []

    def on_output(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream" and "ready" in message["content"]["text"]:
            sent.append(time.monotonic())
            notebook.interrupt()

    result = notebook.finish(notebook.start(code), on_output=on_output, stdin=None)
    took = time.monotonic() - sent[0]
    assert notebook.value("reached") == "1"
    if not body.startswith("!"):
        assert result.error is not None and result.error["ename"] == "KeyboardInterrupt", result.outputs
    print(f"interrupted after {took * 1000:.0f} ms")
    assert took < 5, took
    assert notebook.ok("%%remote gpu=H100\nprint('alive')").text() == "alive\n"


def test_second_interrupt_kills_and_says_so(fresh: Notebook) -> None:
    fresh.ok("kept = [1]")
    stubborn = "%%remote gpu=H100\nimport signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nkept.append(2)\nprint('ready', flush=True)\nwhile True: pass"
    stops: list[int] = []

    def on_output(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream" and ("ready" in message["content"]["text"] or stops):
            stops.append(1)
            fresh.interrupt()

    message_id = fresh.start(stubborn)
    import threading

    timer = threading.Timer(1.0, fresh.interrupt)  # the second press of the button; the first goes out on "ready"
    timer.start()
    try:
        result = fresh.finish(message_id, on_output=lambda m: on_output(m) if not stops else None)
    finally:
        timer.cancel()
    assert result.error is not None and "kill" in (result.traceback + result.text("stderr")).lower()
    assert fresh.value("kept") == "[1]"
    assert fresh.ok("%%remote gpu=H100\nprint(kept)").text() == "[1]\n"


def test_widget_lives_after_the_cell(notebook: Notebook) -> None:
    result = notebook.ok(
        "%%remote gpu=H100\nimport ipywidgets as w\ns = w.IntSlider(value=3)\nheard = []\ns.observe(lambda c: (heard.append(c['new']), setattr(s, 'description', 'got %d' % c['new'])), 'value')\ndisplay(s)"
    )
    view = next(d for d in result.displays if "application/vnd.jupyter.widget-view+json" in d["data"])
    model = view["data"]["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert any(m["msg_type"] == "comm_open" and m["content"]["comm_id"] == model for m in result.messages)
    message = notebook.client.session.msg(
        "comm_msg", {"comm_id": model, "data": {"method": "update", "state": {"value": 7}, "buffer_paths": []}}
    )
    notebook.client.shell_channel.send(message)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        got = notebook.client.get_iopub_msg(timeout=10)
        if (
            got["msg_type"] == "comm_msg"
            and got["content"]["comm_id"] == model
            and got["content"]["data"].get("state", {}).get("description") == "got 7"
        ):
            break
    else:
        raise AssertionError("the remote widget did not answer")
    assert notebook.ok("%%remote gpu=H100\nprint(s.value, heard)").text() == "7 [7]\n"


def test_hundred_thousand_lines(notebook: Notebook) -> None:
    text = notebook.ok("%%remote gpu=H100\nfor i in range(100_000): print(i)", timeout=120).text()
    assert text == "".join(f"{i}\n" for i in range(100_000))


def test_twenty_thousand_flushed_lines(notebook: Notebook) -> None:
    text = notebook.ok("%%remote gpu=H100\nfor i in range(20_000): print(i, flush=True)", timeout=120).text()
    assert text == "".join(f"{i}\n" for i in range(20_000))


def test_thread_prints_after_the_cell(notebook: Notebook) -> None:
    message_id = notebook.start("%%remote gpu=H100\nimport threading\nthreading.Timer(0.5, lambda: print('late', flush=True)).start()")
    notebook.finish(message_id)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        got = notebook.client.get_iopub_msg(timeout=10)
        if got["msg_type"] == "stream" and got["content"]["text"] == "late\n":
            assert got["parent_header"]["msg_id"] == message_id
            return
    raise AssertionError("nothing came")
