"""One way of moving a namespace to another process and back, each in a driver process of its own: ``python carriers.py NAME``.

The driver reads ``row seed`` from stdin, makes the row's values, moves them there (``push``) and back (``pull``), compares, and answers
with a line of JSON: seconds of both, and by how many bytes the memory of either end went up at its peak.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from rows import ROWS, same

SPACE: dict[str, Any] = vars(sys.modules["__main__"])


class Carrier(Protocol):
    """``other``: process that the values move to. ``clear``: neither end has them any more."""

    other: int

    def push(self, names: list[str]) -> None: ...
    def pull(self, names: list[str]) -> dict[str, Any]: ...
    def clear(self, names: list[str]) -> None: ...
    def close(self) -> None: ...


class Ours:
    """The messages of a remote cell without code, to a real session; then what fetches a handle, for all of the names. What IPython does
    around a cell is left out: the others run none."""

    def __init__(self) -> None:
        from IPython.core.interactiveshell import InteractiveShell
        from kernels import Place

        self.place = Place()
        os.environ.update({k: v for k, v in self.place.env.items() if k.startswith(("JUPYTER_", "IPYTHON"))})
        self.shell = InteractiveShell.instance(user_module=sys.modules["__main__"])
        self.shell.run_line_magic("load_ext", "jupyter_gpu")
        self._run("import os; pid = os.getpid()")
        self.other = SPACE.pop("pid")
        self._run("pass")

    def _run(self, code: str) -> None:
        self.shell.run_cell(f"%%remote gpu=H100 quiet\n{code}", silent=True).raise_error()

    @property
    def _remote(self) -> Any:
        (remote,) = self.shell._jupyter_gpu.remotes.values()
        return remote

    def push(self, names: list[str]) -> None:
        remote = self._remote
        self._send(remote, remote.replica.export(remote.replica.needed(names)))

    @staticmethod
    def _send(remote: Any, export: Any) -> None:
        from jupyter_gpu.wire.messages import CellDone, RunCell

        parcel = remote.ship(export)
        cell = RunCell(run_id="push", code="", execution_count=1, silent=True, store_history=False, snapshot=parcel.snapshot)
        remote.send(cell, parcel.inline)
        done = remote.wait(lambda m, b: m if isinstance(m, CellDone) else None)
        if done.refused is not None:
            raise RuntimeError(done.refused.code)
        remote.sent(export)

    def pull(self, names: list[str]) -> dict[str, Any]:
        from jupyter_gpu.wire.messages import Fetch, Fetched

        remote = self._remote
        for name in names:
            del SPACE[name]
        remote.prune()
        remote.send(Fetch(id=-1, names=names))
        reply, buffers = remote.wait(lambda m, b: (m, b) if isinstance(m, Fetched) and m.id == -1 else None)
        remote.take_over(reply.snapshot, buffers)
        return {name: SPACE[name] for name in names}

    def clear(self, names: list[str]) -> None:
        remote = self._remote
        self._send(remote, remote.replica.export([], deleted=names))
        remote.prune()

    def close(self) -> None:
        self.shell.run_line_magic("unload_ext", "jupyter_gpu")
        self.place.close()


class IPyParallel:
    """push and pull of a direct view on a cluster of one engine, with cloudpickle for what it cannot do itself."""

    def __init__(self) -> None:
        import ipyparallel

        self.cluster = ipyparallel.Cluster(n=1, log_level=40)
        self.client = self.cluster.start_and_connect_sync(activate=False)
        self.view = self.client[:]
        self.view.use_cloudpickle()
        self.other = self.view.apply_sync(os.getpid)[0]

    def push(self, names: list[str]) -> None:
        self.view.push({name: SPACE[name] for name in names}, block=True)

    def pull(self, names: list[str]) -> dict[str, Any]:
        return dict(zip(names, self.client[0].pull(names, block=True)))

    def clear(self, names: list[str]) -> None:
        self.view.execute(f"for name in {names!r}: globals().pop(name, None)", block=True)

    def close(self) -> None:
        self.client.close()
        self.cluster.stop_cluster_sync()


class Distributed:
    """scatter and gather, through its scheduler as is its default."""

    def __init__(self) -> None:
        import distributed

        self.cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0)
        self.client = distributed.Client(self.cluster)
        self.other = self.client.submit(os.getpid).result()
        self.futures: dict[str, Any] = {}

    def push(self, names: list[str]) -> None:
        self.futures = self.client.scatter({name: SPACE[name] for name in names})

    def pull(self, names: list[str]) -> dict[str, Any]:
        found = self.client.gather(self.futures)
        self.futures = {}
        return dict(found)

    def clear(self, names: list[str]) -> None:
        self.client.submit(gc.collect).result()  # the futures are gone: so is what they held

    def close(self) -> None:
        self.client.close()
        self.cluster.close()


class InBand:
    """One pickle in one message of ``websockets``, through a relay."""

    def __init__(self, module: str) -> None:
        from websockets.sync.client import connect

        self.dumps = __import__(module).dumps
        self.loads = __import__(module).loads
        here = Path(__file__).with_name("sockets.py")
        self.relay = subprocess.Popen([sys.executable, str(here), "relay"], stdout=subprocess.PIPE, text=True)
        assert self.relay.stdout is not None
        url = self.relay.stdout.readline().strip()
        self.peer = subprocess.Popen([sys.executable, str(here), "peer", url, module])
        self.open = ExitStack()
        self.socket = self.open.enter_context(connect(url, max_size=None, compression=None, ping_interval=None))
        self.other = self.peer.pid
        self.socket.send(b"?")
        self.socket.recv()

    def push(self, names: list[str]) -> None:
        self.socket.send(b"+" + self.dumps({name: SPACE[name] for name in names}, 5))
        self.socket.recv()

    def pull(self, names: list[str]) -> dict[str, Any]:
        self.socket.send(b"-")
        return dict(self.loads(self.socket.recv()))

    def clear(self, names: list[str]) -> None:
        self.socket.send(b"0")
        self.socket.recv()

    def close(self) -> None:
        self.open.close()
        for process in (self.peer, self.relay):
            process.terminate()
            process.wait(10)


CARRIERS: dict[str, Any] = {
    "ours": Ours,
    "ipyparallel": IPyParallel,
    "distributed": Distributed,
    "dill": lambda: InBand("dill"),
    "cloudpickle": lambda: InBand("cloudpickle"),
}


def memory(pid: int, which: str) -> int:
    """Bytes: ``VmRSS`` now, ``VmHWM`` at the peak since ``forget_peak``."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(which):
            return int(line.split()[1]) << 10
    return 0


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def move(carrier: Carrier, row: str, seed: int) -> dict[str, Any]:
    before = set(SPACE)
    SPACE["seed"] = seed
    exec(compile(ROWS[row].code, f"<{row}>", "exec", dont_inherit=True), SPACE)
    names = sorted(n for n in set(SPACE) - before if n not in ("seed", "np", "pd", "objects"))
    originals = copy.deepcopy({name: SPACE[name] for name in names})  # of their own: what is pulled is made anew, by everyone
    ends = (os.getpid(), carrier.other)
    for pid in ends:
        forget_peak(pid)
    start = [memory(pid, "VmRSS") for pid in ends]
    began = time.perf_counter()
    carrier.push(names)
    pushed = time.perf_counter()
    found = carrier.pull(names)
    ended = time.perf_counter()
    peaks = [memory(pid, "VmHWM") - low for pid, low in zip(ends, start)]
    wrong = [name for name in names if name not in found or not same(originals[name], found[name])]
    for name in names:
        SPACE.pop(name, None)
    found, originals = {}, {}
    carrier.clear(names)
    gc.collect()
    return {"push": pushed - began, "pull": ended - pushed, "here": peaks[0], "there": peaks[1], "wrong": wrong, "names": len(names)}


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    carrier = CARRIERS[sys.argv[1]]()
    try:
        print("ready", file=replies, flush=True)
        for line in sys.stdin:
            row, _, seed = line.strip().rpartition(" ")
            print(json.dumps(move(carrier, row, int(seed))), file=replies, flush=True)
    finally:
        carrier.close()


if __name__ == "__main__":
    main()
