"""What ipykernel does at home it does behind the shim: subshells, comms, signatures, several sessions."""

from __future__ import annotations

from typing import Any

from notebook_driver import DEADLINE
from whole_driver import Whole


def control(kernel: Whole, kind: str) -> dict[str, Any]:
    sent = kernel.client.session.msg(kind)
    kernel.client.control_channel.send(sent)
    while (reply := kernel.client.get_control_msg(timeout=DEADLINE))["parent_header"]["msg_id"] != sent["header"]["msg_id"]:
        pass
    return dict(reply["content"])


def test_a_subshell_answers_while_a_cell_runs(whole: Whole) -> None:
    subshell = control(whole, "create_subshell_request")["subshell_id"]
    running = whole.start("print('on', flush=True)\nimport time\nwhile not globals().get('over'): time.sleep(0.005)")
    beside = whole.client.session.msg(
        "execute_request", {"code": "over = True", "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    )
    beside["header"]["subshell_id"] = subshell
    whole.client.shell_channel.send(beside)
    assert whole.finish(running).reply["status"] == "ok"


def test_a_comm_on_a_subshell_while_a_cell_runs(whole: Whole) -> None:
    """19: a ``BaseComm`` is not rerouted to the shell that is blocked."""
    subshell = control(whole, "create_subshell_request")["subshell_id"]
    code = "from comm.base_comm import BaseComm\nimport comm\nc = BaseComm(target_name='t', primary=False)\ncomm.get_comm_manager().register_comm(c)\ngot = []\nc.on_msg(got.append)\nc.comm_id"
    comm_id = whole.ok(code).results[0].strip("'")
    running = whole.start("import time\nend = time.monotonic() + 30\nwhile not got and time.monotonic() < end: time.sleep(0.005)\nlen(got)")
    message = whole.client.session.msg("comm_msg", {"comm_id": comm_id, "data": {"n": 1}})
    message["header"]["subshell_id"] = subshell
    whole.client.shell_channel.send(message)
    assert whole.finish(running).results == ["1"]


def test_a_request_that_comes_twice_runs_once(whole: Whole) -> None:
    """16: the kernel drops a signature that it has seen, so that resending is safe."""
    whole.ok("times = []")
    session = whole.client.session
    content = {
        "code": "times.append(1)",
        "silent": False,
        "store_history": True,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": True,
    }
    frames = session.serialize(session.msg("execute_request", content))
    for _ in range(2):
        whole.client.shell_channel.socket.send_multipart(frames)
    assert whole.ok("times").results == ["[1]"]


def test_a_signature_that_is_wrong_is_refused(whole: Whole) -> None:
    session = whole.client.session
    frames = session.serialize(session.msg("execute_request", {"code": "forged = 1", "silent": False}))
    frames[1] = b"0" * len(frames[1])
    whole.client.shell_channel.socket.send_multipart(frames)
    assert whole.run("forged").error is not None


def test_one_session_id_on_all_that_the_kernel_says(whole: Whole) -> None:
    """18: JupyterLab silently cancels handlers when it changes."""
    result = whole.run("print(1)\n1/0")
    late = whole.stranger()
    try:
        assert {m["header"]["session"] for m in result.messages} == {whole.ok("1").messages[0]["header"]["session"]}
    finally:
        late.stop_channels()


def test_a_new_subscriber_is_welcomed(start: Any) -> None:
    """JEP 65: by the shim, and nobody hears the welcome of the agent's own subscription."""
    kernel: Whole = start("jupyter-gpu-cpu", wait=False)
    asked = kernel.client.kernel_info()
    kinds = []
    while True:
        message = kernel.client.get_iopub_msg(timeout=DEADLINE)
        kinds.append(message["msg_type"])
        if message["parent_header"].get("msg_id") == asked and message["content"]["execution_state"] == "idle":
            break
    assert kinds.count("iopub_welcome") == 1


def test_an_interrupt_by_message(whole: Whole) -> None:
    """9: ``interrupt_mode`` message goes over control, past the provisioner."""

    def press(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            assert control(whole, "interrupt_request")["status"] == "ok"

    result = whole.run("print('on', flush=True)\nwhile True: pass", on_output=press)
    assert result.error is not None and result.error["ename"] == "KeyboardInterrupt"


def test_the_debugger_is_there(whole: Whole) -> None:
    sent = whole.client.session.msg("debug_request", {"type": "request", "seq": 1, "command": "debugInfo"})
    whole.client.control_channel.send(sent)
    while (reply := whole.client.get_control_msg(timeout=DEADLINE))["parent_header"]["msg_id"] != sent["header"]["msg_id"]:
        pass
    assert reply["content"]["success"] and reply["content"]["command"] == "debugInfo"
