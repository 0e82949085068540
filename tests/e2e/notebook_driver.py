"""A notebook as its person sees it: a real ipykernel, the embedded gateway, cells in, outputs out."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from queue import Empty
from typing import Any

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

DEADLINE = 60.0


@dataclass
class Result:
    """What one cell did: its outputs as nbformat would keep them, and the reply."""

    outputs: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)

    def text(self, name: str = "stdout") -> str:
        return "".join(o["text"] for o in self.outputs if o["msg_type"] == "stream" and o["name"] == name)

    @property
    def results(self) -> list[str]:
        return [o["data"].get("text/plain", "") for o in self.outputs if o["msg_type"] == "execute_result"]

    @property
    def displays(self) -> list[dict[str, Any]]:
        return [o for o in self.outputs if o["msg_type"] == "display_data"]

    @property
    def error(self) -> dict[str, Any] | None:
        return next((o for o in self.outputs if o["msg_type"] == "error"), None)

    @property
    def traceback(self) -> str:
        return "\n".join(self.error["traceback"]) if self.error else ""

    @property
    def summary(self) -> str:
        """The one line that says what a remote cell cost."""
        lines = [d["data"].get("text/plain", "") for d in self.displays]
        return next((line for line in lines if " · " in line), "")


class Notebook:
    """A local kernel with the extension loaded, driven as a front end drives it."""

    def __init__(self, env: dict[str, str], cwd: Path, load: bool = True) -> None:
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=env, cwd=str(cwd), stdout=-3, stderr=-3)
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=DEADLINE)
        self.pid: int = self.manager.provisioner.process.pid  # type: ignore[union-attr]
        if load:
            assert self.run("%load_ext jupyter_gpu").error is None

    @cached_property
    def _early(self) -> dict[str, list[dict[str, Any]]]:
        """msg_id of a cell that was started and not waited for yet -> what came of it meanwhile."""
        return {}

    def start(self, code: str, **options: Any) -> str:
        msg_id = self.client.execute(code, allow_stdin=True, **options)
        self._early[msg_id] = []
        return msg_id

    def finish(
        self,
        msg_id: str,
        on_output: Callable[[dict[str, Any]], None] | None = None,
        stdin: Callable[[dict[str, Any]], str] | None = None,
        timeout: float = DEADLINE,
    ) -> Result:
        result = Result()
        end = time.monotonic() + timeout
        idle = False
        early = self._early.pop(msg_id, [])
        while not (idle and result.reply):
            assert time.monotonic() < end, f"no end within {timeout} s; so far {result.outputs}"
            if stdin is not None:
                try:
                    request = self.client.get_stdin_msg(timeout=0)
                    self.client.input(stdin(request["content"]))
                except Empty:
                    pass
            if early:
                message = early.pop(0)
            elif (found := self._next(not result.reply)) is not None:
                message = found
            else:
                continue
            parent = message["parent_header"].get("msg_id")
            if parent != msg_id:
                if parent in self._early:
                    self._early[parent].append(message)
                continue
            if message["msg_type"] == "execute_reply":
                result.reply = message["content"]
                continue
            idle = idle or (message["msg_type"] == "status" and message["content"]["execution_state"] == "idle")
            self._record(result, message)
            if on_output is not None and message["msg_type"] != "status":
                on_output(message)
        return result

    def _next(self, replies: bool) -> dict[str, Any] | None:
        """``replies``: look for one first."""
        if replies:
            try:
                return self.client.get_shell_msg(timeout=0)
            except Empty:
                pass
        try:
            return self.client.get_iopub_msg(timeout=0.05)
        except Empty:
            return None

    @staticmethod
    def _record(result: Result, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        result.messages.append(message)
        if kind == "clear_output":
            result.outputs.clear()
        elif kind == "update_display_data":
            wanted = content["transient"]["display_id"]
            for output in result.outputs:
                if output.get("transient", {}).get("display_id") == wanted:
                    output.update(data=content["data"], metadata=content["metadata"])
        elif kind in {"stream", "display_data", "execute_result", "error"}:
            result.outputs.append({"msg_type": kind, **content})

    def run(self, code: str, **options: Any) -> Result:
        hooks = {k: options.pop(k) for k in ("on_output", "stdin", "timeout") if k in options}
        return self.finish(self.start(code, **options), **hooks)

    def ok(self, code: str, **options: Any) -> Result:
        result = self.run(code, **options)
        assert result.error is None, result.traceback
        return result

    def value(self, expression: str) -> str:
        """The repr of a LOCAL expression."""
        reply = self.client.execute_interactive(
            "", user_expressions={"it": f"repr({expression})"}, silent=True, allow_stdin=False, timeout=DEADLINE
        )
        it = reply["content"]["user_expressions"]["it"]
        assert it["status"] == "ok", it
        return str(eval(eval(it["data"]["text/plain"]))) if expression.startswith("type(") else str(eval(it["data"]["text/plain"]))

    def interrupt(self) -> None:
        os.kill(self.pid, signal.SIGINT)

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


def descendants_in(runtime: Path) -> list[psutil.Process]:
    """Processes whose environment names this runtime folder: gateway, zygotes, workers, kernels."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("JUPYTER_RUNTIME_DIR") == str(runtime) and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


def end_gateways(runtime: Path) -> None:
    """End the gateways of a runtime folder in order, and wait until nothing of them is left."""
    for process in descendants_in(runtime):
        with contextlib.suppress(psutil.Error):  # it may be ending by itself
            if any("jupyter_gpu_gateway" in part for part in process.cmdline()):
                process.terminate()
    wait_for(lambda: not descendants_in(runtime), lambda: f"nothing left: {descendants_in(runtime)}")


def wait_for(condition: Callable[[], bool], what: str | Callable[[], str], timeout: float = 30.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout} s: {what if isinstance(what, str) else what()}"
        time.sleep(0.02)
