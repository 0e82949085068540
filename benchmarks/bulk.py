"""``python benchmarks/bulk.py [--quick] [--size MIB] [--json FILE]``: random float64 each way through a gateway of one's own, beside a
plain TCP relay of as many processes in Python. Seconds, their ratio, and peak memory at both ends as multiples of the data.

``link``: everything goes through the gateway's websockets. ``ring``: through shared memory, as it does on one host.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from kernels import place
from stats import Row, median, table

PIECE = 1 << 20
RING = "JUPYTER_GPU_RING"


def touch(size: int) -> None:
    """Memory that was free for a while may be with the host of a virtual machine: bring it back, so that no side pays for that."""
    np.ones(size // 8)


# ---------------------------------------------------------------- the plain relay


def exactly(sock: socket.socket, into: memoryview) -> None:
    at = 0
    while at < len(into):
        count = sock.recv_into(into[at : at + PIECE])
        if not count:
            raise EOFError
        at += count


def relay(listener: socket.socket, onward: int) -> None:
    """recv_into and sendall, a megabyte at a time."""
    source, _ = listener.accept()
    target = socket.create_connection(("127.0.0.1", onward))
    buffer = memoryview(bytearray(PIECE))
    while count := source.recv_into(buffer):
        target.sendall(buffer[:count])


def receive(listener: socket.socket, size: int, back: socket.socket) -> None:
    source, _ = listener.accept()
    while True:
        memory = np.empty(size, np.uint8)
        exactly(source, memoryview(memory).cast("B"))
        back.sendall(b".")


@contextmanager
def plain_relay(size: int, relays: int = 2) -> Iterator[Callable[[np.ndarray[Any, Any]], float]]:
    """Gives a function that sends ``size`` bytes over ``relays`` processes to another, and returns the seconds until that has them."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(relays + 1)]
    ports = [listener.getsockname()[1] for listener in listeners]
    ours, theirs = socket.socketpair()
    children = []
    for n, listener in enumerate(listeners):
        pid = os.fork()
        if not pid:
            try:
                if n == relays:
                    receive(listener, size, theirs)
                else:
                    relay(listener, ports[n + 1])
            finally:
                os._exit(0)
        children.append(pid)
    sock = socket.create_connection(("127.0.0.1", ports[0]))

    def send(data: np.ndarray[Any, Any]) -> float:
        touch(data.nbytes)
        began = time.perf_counter()
        sock.sendall(memoryview(data).cast("B"))
        exactly(ours, memoryview(bytearray(1)))
        return time.perf_counter() - began

    try:
        yield send
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for each in (*listeners, sock, ours, theirs):
            each.close()


# ---------------------------------------------------------------- ours


class Peak:
    """Peak memory of a process in a block, beyond what it had before; in bytes."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __enter__(self) -> Peak:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # VmHWM begins anew
        self.before = self._field("VmRSS")
        return self

    def __exit__(self, *exc: object) -> None:
        self.more = max(0, self._field("VmHWM") - self.before)

    def _field(self, name: str) -> int:
        line = next(x for x in Path(f"/proc/{self.pid}/status").read_text().splitlines() if x.startswith(name))
        return int(line.split()[1]) << 10


class Ours:
    """One session after the other, so that no chunk of the last one is there."""

    def __init__(self, gateway: Any, data: np.ndarray[Any, Any]) -> None:
        self.gateway = gateway
        self.data = data
        self.seconds: dict[str, list[float]] = {"there": [], "back": []}
        self.memory: dict[str, list[float]] = {"sender there": [], "receiver there": [], "sender back": [], "receiver back": []}
        self.count = 0

    def run(self, ring: bool) -> None:
        from jupyter_gpu.wire.messages import Wanted

        os.environ[RING] = "1" if ring else "0"
        self.count += 1
        session = self.gateway.open(f"bulk-{os.getpid()}-{self.count}", [Wanted(type="CPU")])
        try:
            self._cell(session, f"import numpy as np; y = np.random.default_rng(1).random({self.data.size})")
            self.there(session)
            self.back(session)
        finally:
            self.gateway.stop(session.info.session_id)

    def _until(self, session: Any, kind: type) -> tuple[Any, list[memoryview]]:
        buffers: list[memoryview] = []
        while True:
            message, found = session.receive(120)
            buffers += found
            if isinstance(message, kind):
                return message, buffers

    def _cell(self, session: Any, code: str) -> None:
        from jupyter_gpu.wire.messages import CellDone, RunCell

        session.send(RunCell(run_id="0", code=code, execution_count=1, out=[]))
        done, _ = self._until(session, CellDone)
        if done.status != "ok":
            raise RuntimeError(done)

    def there(self, session: Any) -> None:
        """The bytes are named, sent, put together and compared with their name."""
        from jupyter_gpu.sync.chunks import digest
        from jupyter_gpu.wire.messages import Chunk, Fetch, Fetched

        assert session.hello is not None
        touch(self.data.nbytes)
        with Peak(os.getpid()) as here, Peak(session.hello.pid) as kernel:
            began = time.perf_counter()
            session.send(Chunk(digest=digest(self.data)), [self.data])
            session.send(Fetch(id=1, names=[]))
            self._until(session, Fetched)
            self.seconds["there"].append(time.perf_counter() - began)
        self._note("there", here.more + self.data.nbytes, kernel.more)

    def back(self, session: Any) -> None:
        """The same, and the kernel has to pickle it and to look up what changed."""
        from jupyter_gpu.wire.messages import Fetch, Fetched

        touch(self.data.nbytes)
        with Peak(os.getpid()) as here, Peak(session.hello.pid) as kernel:
            began = time.perf_counter()
            session.send(Fetch(id=2, names=["y"]))
            _, buffers = self._until(session, Fetched)
            self.seconds["back"].append(time.perf_counter() - began)
        if max(map(len, buffers)) != self.data.nbytes:
            raise RuntimeError("something else came back")
        self._note("back", kernel.more + self.data.nbytes, here.more)

    def _note(self, way: str, sender: int, receiver: int) -> None:
        self.memory[f"sender {way}"].append(sender / self.data.nbytes)
        self.memory[f"receiver {way}"].append(receiver / self.data.nbytes)


def measure(size: int, runs: int, modes: list[str]) -> tuple[list[Row], dict[str, float]]:
    data = np.random.default_rng(0).random(size // 8)
    rows, memory = [], {}
    with place() as where, plain_relay(data.nbytes) as plain:
        os.environ.update({k: v for k, v in where.env.items() if k.startswith("JUPYTER_")})
        from jupyter_gpu.client import Gateway

        gateway = Gateway.connect()
        try:
            ours = {mode: Ours(gateway, data) for mode in modes}
            base = []
            for n in range(runs + 1):
                base.append(plain(data))
                for mode, each in ours.items():
                    each.count += 1000
                    each.run(mode == "ring")
                    print(
                        f"{n}: plain {base[-1]:.2f} s, {mode} there {each.seconds['there'][-1]:.2f} s, back {each.seconds['back'][-1]:.2f} s",
                        flush=True,
                    )
        finally:
            gateway.close()
    for mode, each in ours.items():
        for way, seconds in each.seconds.items():
            rate, plain_rate = ([data.nbytes / 2**20 / s for s in times[1:]] for times in (seconds, base))  # the first warms up
            rows.append(
                Row(f"{size >> 20} MiB {way}, {mode}: ours / plain relay", rate, plain_rate, 0.8, unit="MiB/s", more_is_better=True)
            )
        memory |= {f"{mode}, {name}": max(values) for name, values in each.memory.items()}
    return rows, memory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 runs, and not 7")
    parser.add_argument("--size", type=int, default=1024, help="MiB")
    parser.add_argument("--only", choices=["link", "ring"], action="append")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    chosen = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}\n", flush=True)
    rows, memory = measure(chosen.size << 20, 3 if chosen.quick else 7, chosen.only or ["link", "ring"])
    print("\n" + table(rows) + "\n\npeak memory, in multiples of the data (at most 1.15):")
    for name, value in memory.items():
        print(f"  {name:28} {value:.3f}{'' if value <= 1.15 else '  NO'}")
    if chosen.json:
        figures = [{"name": r.name, "ours": median(r.ours), "base": median(r.base), "ratio": r.ratio} for r in rows]
        chosen.json.write_text(json.dumps({"rates": figures, "memory": memory}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
