"""``python benchmarks/kernels_whole.py [--quick]``: a whole kernel through the shim beside a local ipykernel, in turn within one run.

Target: a cell's round trip at most 1.5 times the local one's, 100,000 printed lines at 0.8 of its rate, the first reply of a new kernel
within 0.3 of its time, the gateway being up. Machines are noisy: look at the ratios. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from kernels import Place, place
from run import settle
from stats import Row, table

from jupyter_gpu.kernel.spare import SWITCH
from jupyter_gpu.kernel.specs import Spec, write

LOCAL, OURS = "python3", Spec("H100").name


class Started:
    """A kernel of this name; ``first``: seconds from the call that starts it to its first reply."""

    def __init__(self, name: str, where: Place) -> None:
        began = time.perf_counter()
        self.manager = KernelManager(kernel_name=name)
        self.manager.start_kernel(env=dict(os.environ), cwd=str(where.folder), stderr=-3)
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        asked = self.client.kernel_info()
        while self.client.get_shell_msg(timeout=60)["parent_header"].get("msg_id") != asked:
            pass
        self.first = time.perf_counter() - began

    def run(self, code: str) -> tuple[float, str]:
        """(seconds until reply and idle, what it printed)."""
        began = time.perf_counter()
        asked = self.client.execute(code, allow_stdin=False)
        text = []
        while True:
            message: dict[str, Any] = self.client.get_iopub_msg(timeout=120)
            if message["parent_header"].get("msg_id") != asked:
                continue
            if message["msg_type"] == "stream":
                text.append(message["content"]["text"])
            elif message["content"].get("execution_state") == "idle":
                break
        self.client.get_shell_msg(timeout=60)
        return time.perf_counter() - began, "".join(text)

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel()
        self.manager.cleanup_resources()


def ready(where: Place, count: int, *, spare: bool) -> Row:
    """``spare``: whether this process has started a kernel before, and so has a shim that waits for the next one."""
    os.environ[SWITCH] = "1" if spare else "0"
    ours, base = [], []
    for _ in range(count):
        for name, times in ((LOCAL, base), (OURS, ours)):
            kernel = Started(name, where)
            times.append(kernel.first)
            kernel.close()
        time.sleep(2)  # what stood by is replaced once the kernel that took it is under way
    return Row(f"first reply of {'a new' if spare else 'the first'} kernel: ours / local", ours, base, 0.3)


def cells(where: Place, count: int) -> list[Row]:
    local, ours = Started(LOCAL, where), Started(OURS, where)
    rows = []
    try:
        for code in ("pass", "1+1"):
            times: dict[str, list[float]] = {LOCAL: [], OURS: []}
            for n in range(count + 20):
                for name, kernel in ((LOCAL, local), (OURS, ours)):
                    took, _ = kernel.run(code)
                    if n >= 20:
                        times[name].append(took)
            rows.append(Row(f"round trip of `{code}`: ours / local", times[OURS], times[LOCAL], 1.5))
        lines = 100_000
        rates: dict[str, list[float]] = {LOCAL: [], OURS: []}
        for _ in range(max(3, count // 50)):
            for name, kernel in ((LOCAL, local), (OURS, ours)):
                took, text = kernel.run(f"for i in range({lines}): print(i)")
                if text != "".join(f"{i}\n" for i in range(lines)):
                    print(f"FAIL lines of {name} are missing or out of order")
                rates[name].append(lines / took)
        rows.append(Row("100,000 lines: ours / local", rates[OURS], rates[LOCAL], 0.8, unit="lines/s", more_is_better=True))
    finally:
        local.close(), ours.close()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    quick = parser.parse_args().quick
    with place() as where:
        for name in [n for n in os.environ if n.startswith(("JUPYTER_", "JPY_"))]:
            del os.environ[name]
        os.environ.update({k: v for k, v in where.env.items() if k.startswith(("JUPYTER_", "IPYTHON"))})
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # see ``Place``
        os.environ["JUPYTER_DATA_DIR"] = str(where.folder / "data")
        write(Spec("H100"), where.folder / "data" / "kernels", provisioner=True)
        Started(OURS, where).close()
        settle(where)
        count = 5 if quick else 15
        rows = [ready(where, count, spare=True), ready(where, count, spare=False), *cells(where, 100 if quick else 400)]
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
