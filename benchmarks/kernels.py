"""Kernels and notebooks to measure, in a place of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager


class Place:
    """A runtime folder of its own, and the environment that names it. ``end()`` ends its gateway."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jupyter-gpu-bench-"))
        (self.folder / "runtime").mkdir(mode=0o700)
        # With bytecode, which pip writes when it installs: a checkout would be compiled anew in every process where it is not allowed.
        unwanted = ("JUPYTER_", "JPY_", "PYTHONDONTWRITEBYTECODE")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
        self.env |= {
            "JUPYTER_RUNTIME_DIR": str(self.folder / "runtime"),
            "JUPYTER_GPU_SIMULATE": "H100:2",
            "IPYTHONDIR": str(self.folder / "ipython"),
        }

    def end(self) -> None:
        subprocess.run([sys.executable, "-m", "jupyter_gpu.cli", "stop", "--gateway"], env=self.env, capture_output=True, check=False)

    def close(self) -> None:
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def place() -> Iterator[Place]:
    made = Place()
    try:
        yield made
    finally:
        made.close()


class Kernel:
    """A local ipykernel; ``run`` waits for the reply and for idle, as front ends do."""

    def __init__(self, where: Place, load: bool = True) -> None:
        self.began = time.perf_counter()
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=where.env, cwd=str(where.folder), stderr=subprocess.DEVNULL)
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        if load:
            self.run("%load_ext jupyter_gpu")

    def run(self, code: str, timeout: float = 120) -> float:
        """Seconds until reply and idle. Raises RuntimeError if the cell failed."""
        began = time.perf_counter()
        message = self.client.execute(code, allow_stdin=False)
        while True:
            got = self.client.get_iopub_msg(timeout=timeout)
            if got["parent_header"].get("msg_id") == message and got["content"].get("execution_state") == "idle":
                break
        reply = self.client.get_shell_msg(timeout=timeout)
        took = time.perf_counter() - began
        if reply["content"]["status"] != "ok":
            raise RuntimeError("\n".join(reply["content"].get("traceback", [])))
        return took

    def messages(self, code: str, timeout: float = 120) -> Iterator[tuple[float, dict[str, Any]]]:
        """(when it came, message) of each iopub message of a cell."""
        message = self.client.execute(code, allow_stdin=False)
        while True:
            got = self.client.get_iopub_msg(timeout=timeout)
            if got["parent_header"].get("msg_id") == message:
                yield time.perf_counter(), got
                if got["content"].get("execution_state") == "idle":
                    self.client.get_shell_msg(timeout=timeout)
                    return

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel()  # in order: it ends its sessions, whose GPUs the next one needs
        self.manager.cleanup_resources()


@contextmanager
def kernel(where: Place, load: bool = True) -> Iterator[Kernel]:
    made = Kernel(where, load)
    try:
        yield made
    finally:
        made.close()
