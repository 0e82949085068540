"""input(), getpass and interrupts."""

from __future__ import annotations

import os
import signal
import time

import pytest
from client_end import Cell, Envelope, KernelEnd

from jupyter_gpu.wire.messages import AnyMessage, Chunk, InputOver, RunCell

pytestmark = pytest.mark.timeout(60)


def interrupted(kernel: KernelEnd, body: str, before: str = "reached = 1\nprint('ready', flush=True)\n") -> Cell:
    """Runs ``body``, and presses stop once it has printed that it is ready. At most 3 s later it must be over."""
    pressed: list[float] = []

    def on(message: Envelope) -> None:
        if message.kind == "stream" and "ready" in message.content["text"] and not pressed:
            pressed.append(time.monotonic())
            os.killpg(kernel.pid, signal.SIGINT)

    cell = kernel.run(before + body, on=on)
    assert pressed and time.monotonic() - pressed[0] < 3
    return cell


def test_input_and_getpass(shared: KernelEnd) -> None:
    asked: list[tuple[str, bool]] = []

    def on(message: Envelope) -> None:
        if message.kind == "input_request":
            assert message.channel == "stdin"
            asked.append((message.content["prompt"], message.content["password"]))
            shared.reply("it")

    cell = shared.ok("import getpass\nprint('before', end='')\na = input('who? ')\nb = getpass.getpass('secret: ')\nprint(a, b)", on=on)
    assert asked == [("who? ", False), ("secret: ", True)]
    kinds = [m.kind for m in cell.messages]
    assert kinds[:2] == ["stream", "input_request"], "what was printed before is seen before"
    assert cell.text() == "beforeit it\n"


def test_input_in_a_function_and_with_nothing_to_ask(shared: KernelEnd) -> None:
    assert shared.run("input('?')", allow_stdin=False).ename == "StdinNotImplementedError"
    assert shared.run("import getpass\ngetpass.getpass()", allow_stdin=False).ename == "StdinNotImplementedError"
    cell = shared.ok("def ask():\n    return input()\nprint(ask())", on=lambda m: shared.reply("x") if m.kind == "input_request" else None)
    assert cell.text() == "x\n"


def test_end_of_file_at_input(shared: KernelEnd) -> None:
    assert shared.run("input()", on=lambda m: shared.reply("\x04") if m.kind == "input_request" else None).ename == "EOFError"


BODIES = ["import time\ntime.sleep(60)", "while True: pass", "input('?')", "import asyncio\nawait asyncio.sleep(60)",
          "import asyncio\nawait asyncio.sleep(0)\nwhile True: pass",
          "import subprocess\nsubprocess.run(['sleep', '60'])"]  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
def test_interrupt_is_a_true_keyboard_interrupt(shared: KernelEnd, body: str) -> None:
    shared.namespace.pop("reached", None)
    cell = interrupted(shared, body)
    assert cell.ename == "KeyboardInterrupt"
    assert cell.done.error is not None and cell.done.error.traceback
    assert shared.namespace["reached"] == 1, "what was done before comes back"
    assert shared.ok("print('alive')").text() == "alive\n"


def test_interrupt_can_be_caught(shared: KernelEnd) -> None:
    cell = interrupted(
        shared,
        "try:\n    import time\n    print('ready', flush=True)\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('caught')",
        "",
    )
    assert cell.done.status == "ok" and "caught" in cell.text()


def test_interrupt_of_an_awaiting_cell_can_be_caught(shared: KernelEnd) -> None:
    body = (
        "import asyncio\nasync def inner():\n    try:\n        print('ready', flush=True)\n        await asyncio.sleep(60)\n    finally:\n        print('cleaned up')\n"
        "try:\n    await inner()\nexcept KeyboardInterrupt:\n    print('caught')\nawait asyncio.sleep(0.01)\nprint('went on')"
    )
    cell = interrupted(shared, body, "")
    assert cell.done.status == "ok" and cell.text() == "ready\ncleaned up\ncaught\nwent on\n"


def test_task_of_the_persons_own_that_is_interrupted(shared: KernelEnd) -> None:
    body = "import asyncio\nasync def spin():\n    print('ready', flush=True)\n    while True: pass\nt = asyncio.create_task(spin())\nawait asyncio.sleep(60)"
    run_id = shared.start(body)
    shared.jupyter(lambda m: m.kind == "stream")
    os.killpg(shared.pid, signal.SIGINT)  # hits the task, which ends
    time.sleep(0.3)
    os.killpg(shared.pid, signal.SIGINT)
    assert shared.finish(run_id, take=False).ename == "KeyboardInterrupt"
    assert shared.ok("print('alive')").text() == "alive\n"


def test_error_message_says_keyboard_interrupt(shared: KernelEnd) -> None:
    cell = interrupted(shared, "import asyncio\nawait asyncio.sleep(60)")
    error = cell.done.error
    assert error is not None and error.ename == "KeyboardInterrupt" and "CancelledError" not in "\n".join(error.traceback)


def test_interrupt_reaches_commands(shared: KernelEnd) -> None:
    interrupted(shared, "!sleep 60")
    assert shared.ok("print('alive')").text() == "alive\n"


def test_an_interrupt_tells_that_nobody_waits_for_the_input(shared: KernelEnd) -> None:
    requests: list[str] = []

    def on(message: Envelope) -> None:
        if message.kind == "input_request":
            requests.append(message.header["msg_id"])
            os.killpg(shared.pid, signal.SIGINT)

    over: list[str] = []

    def others(message: AnyMessage) -> None:
        assert isinstance(message, InputOver)
        over.append(message.request)

    cell = shared.run("try:\n    input('one')\nexcept KeyboardInterrupt:\n    print('caught')", on=on, answer=others)
    assert cell.text() == "caught\n" and over == requests and len(over) == 1

    def answer(message: Envelope) -> None:
        if message.kind == "input_request":
            shared.reply("for the one before", requests[0])
            shared.reply("for this one", message.header["msg_id"])

    assert shared.ok("print(input('two'))", on=answer).text() == "for this one\n"


def test_interrupt_in_a_finalizer_is_not_lost(shared: KernelEnd) -> None:
    body = "import time\nclass D:\n    def __del__(self):\n        print('ready', flush=True)\n        while True: pass\nd = D(); del d\ntime.sleep(60)"
    cell = interrupted(shared, body, "")
    assert cell.ename == "KeyboardInterrupt" and not cell.text("stderr")


def test_interrupts_while_printing_harm_nothing(shared: KernelEnd) -> None:
    for _ in range(8):
        cell = interrupted(shared, "i = 0\nwhile True:\n    print(i, flush=i % 3 == 0); i += 1")
        assert cell.ename == "KeyboardInterrupt"
        lines = cell.text().split("\n")[1:-1][:50]  # the last one may not be whole
        assert lines == [str(i) for i in range(len(lines))]
    assert shared.ok("print('alive')").text() == "alive\n"


def test_interrupt_between_cells_hits_nothing(shared: KernelEnd) -> None:
    os.kill(shared.pid, signal.SIGINT)
    time.sleep(0.05)
    assert shared.ok("ran = 1\nprint(ran)").text() == "1\n"


def test_interrupt_of_a_widgets_callback(shared: KernelEnd) -> None:
    pytest.importorskip("ipywidgets")
    code = "import ipywidgets as w\ndef spin(c):\n    print('spinning', flush=True)\n    while True: pass\nn = w.IntText()\nn.observe(spin, 'value')\nprint(n.model_id)"
    model = shared.run(code, take=False).text().strip()
    shared.shell("comm_msg", {"comm_id": model, "data": {"method": "update", "state": {"value": 7}, "buffer_paths": []}})
    shared.jupyter(lambda m: m.kind == "stream" and "spinning" in m.content["text"])
    os.kill(shared.pid, signal.SIGINT)
    assert "alive" in shared.run("print('alive')", take=False).text()


def test_interrupt_while_variables_arrive(new_kernel: object) -> None:
    kernel = new_kernel()  # type: ignore[operator]
    kernel.hello()
    kernel.namespace["slow"] = Slow()
    run_id = kernel.start("ran = slow")
    assert isinstance(run_id, str)
    time.sleep(0.3)  # in the middle of apply; before or after it, the same must come out
    os.kill(kernel.pid, signal.SIGINT)
    cell = kernel.finish(run_id)
    assert cell.ename == "KeyboardInterrupt"
    assert kernel.ok("print(type(slow).__name__)").text() == "Slow\n", "what came is whole"


class Slow:
    """Takes a second to arrive."""

    def __reduce__(self) -> tuple[object, ...]:
        return _slowly, ()


def _slowly() -> Slow:
    import time

    time.sleep(1)
    return Slow()


def test_handler_of_the_persons_own_lasts_one_cell(shared: KernelEnd) -> None:
    shared.ok("import signal\nold = signal.signal(signal.SIGINT, signal.SIG_IGN)\ndel old, signal")
    assert interrupted(shared, "import time\ntime.sleep(60)").ename == "KeyboardInterrupt"


def test_garbage_does_not_reach_the_code(shared: KernelEnd) -> None:
    shared.send(Chunk(digest=b"0" * 16), [b"not what it says"])
    assert shared.ok("print('alive')").text() == "alive\n"
    shared.send(RunCell(run_id="r", code="1", execution_count=1, metadata=b"{}"))
    assert shared.finish("r", take=False).done.status == "ok"
