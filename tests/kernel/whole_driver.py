"""A whole kernel on remote hardware, driven as front ends drive kernels."""

from __future__ import annotations

import os
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from notebook_driver import DEADLINE, Notebook, wait_for

from jupyter_gpu.client import Gateway
from jupyter_gpu.config import load
from jupyter_gpu.wire.errors import GatewayUnreachable


class Whole(Notebook):
    """``Notebook``'s ways to run cells, for a kernel of ours."""

    def __init__(self, name: str, *, wait: bool = True, **options: Any) -> None:
        self.manager = KernelManager(kernel_name=name)
        self.closed = False
        try:
            self.manager.start_kernel(**options)
            self.client: BlockingKernelClient = self.another(wait)
        except BaseException:
            self.closed = True
            raise

    @property
    def shim(self) -> int:
        """Its process."""
        return int(self.manager.provisioner.process.pid)  # type: ignore[union-attr]

    def another(self, wait: bool = True) -> BlockingKernelClient:
        """One more client."""
        client = self.manager.client()
        client.start_channels()
        if wait:
            client.wait_for_ready(timeout=DEADLINE)
        return client

    def stranger(self) -> BlockingKernelClient:
        """A client of another process, as far as the kernel can tell: its session, and so its identity, is its own."""
        client = BlockingKernelClient(connection_file=self.manager.connection_file)
        client.load_connection_file()
        client.start_channels()
        client.wait_for_ready(timeout=DEADLINE)
        return client

    @property
    def remote_pid(self) -> int:
        return int(self.ok("import os; os.getpid()").results[0])

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.client.stop_channels()
            self.manager.shutdown_kernel(now=False)
            self.manager.cleanup_resources()


def sessions() -> list[str]:
    """Of the person's gateway: hardware and state of each."""
    try:
        gateway = Gateway.connect(load(), start=False)
    except GatewayUnreachable:
        return []  # none runs yet
    try:
        return [f"{s.label} {s.state.value}" for s in gateway.sessions()]
    finally:
        gateway.close()


def ends(pid: int) -> None:
    """Wait until no process has this number."""

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_for(gone, f"process {pid} to end")
