"""What watching adds to a cell: what client and kernel do around it so that its variables follow, beside the cell itself."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

from objects import array, frame
from stats import Row

from jupyter_gpu.sync.names import analyze
from jupyter_gpu.sync.pages import PATIENCE
from jupyter_gpu.sync.replica import Replica

#: Milliseconds that watching may add to a cell.
_MOST = 0.005
#: Cells after which memory that stays the same is not hashed any more.
_FIRST = PATIENCE + 2


class Watch:
    """Client and kernel in one process, each with a namespace of its own: as after a first sync. They hold the same objects, but for
    those that are ``copied``."""

    def __init__(self, namespace: dict[str, Any], code: str = "", copied: Sequence[str] = ()) -> None:
        self.here, self.there = dict(namespace), dict(namespace)
        self.there.update({name: copy.deepcopy(namespace[name]) for name in copied})
        exec(code, self.here)
        exec(code, self.there)
        self.client, self.kernel = Replica(self.here, "client"), Replica(self.there, "kernel")

    def settle(self, cell: str) -> None:
        """Both ends have what the cell names."""
        for replica in (self.client, self.kernel):
            replica.adopt(replica.needed(analyze(cell).loads))

    def around(self, cell: str, run: Callable[[], object]) -> tuple[float, float]:
        """(seconds of watching, of the cell)."""
        began = time.perf_counter()
        names = analyze(cell)
        self.client.confirm(self.client.export(self.client.needed([*names.loads, *names.stores, *names.deletes])))
        mark = self.kernel.mark()
        ready = time.perf_counter()
        run()
        done = time.perf_counter()
        export = self.kernel.export(self.kernel.touched(mark, names), deleted=self.kernel.deleted(mark))
        self.kernel.abandon(export)
        ended = time.perf_counter()
        return ready - began + ended - done, done - ready


def ordinary() -> dict[str, Any]:
    """50 variables, a gigabyte of data, most of it in four arrays."""
    import pandas as pd

    made: dict[str, Any] = {f"big{i}": array(256 << 20) for i in range(4)}
    made |= {f"number{i}": i for i in range(20)} | {f"text{i}": f"text {i}" for i in range(10)}
    made |= {f"list{i}": list(range(20)) for i in range(10)} | {f"table{i}": pd.DataFrame({"a": range(100)}) for i in range(4)}
    return made


_CODE = "def scale(v): return [each * number3 for each in v]\nclass Settings: rate = 2"


def watching(runs: int) -> list[Row]:
    """What mark, fingerprints and comparison at both ends add to a cell; the ratio is to 5 ms, and to the cell's own time."""
    runs = max(runs, 15)
    rows = []
    watch = Watch(ordinary(), _CODE, copied=["big1"])
    cell = "total = sum(scale(list2)) + number4"
    rows.append(Row("50 variables, 1 GB; names small ones: watching / 5 ms", added(watch, cell, runs), [_MOST], 1.0))
    times = added(watch, "total = big1.sum()", runs + _FIRST)
    rows.append(Row("names a 256 MiB array, unchanged, for the first times: watching / 5 ms", times[: _FIRST - 2], [_MOST], 1.0))
    rows.append(Row("names a 256 MiB array, unchanged, from then on: watching / 5 ms", times[_FIRST:], [_MOST], 1.0))
    empty = Watch({"list2": list(range(20)), "number4": 4})
    full = Watch({**empty.here, **bulk(4 << 30)})
    small = "total = sum(list2) + number4"
    few, many = [], []
    for _ in range(runs):  # in turns: they are microseconds, and the machine has moods
        few += added(empty, small, 20)
        many += added(full, small, 20)
    rows.append(Row("4 GB of unreferenced variables: watching / in an empty session", many, few, 1.1))
    rows += second(runs)
    return rows


def added(watch: Watch, cell: str, runs: int) -> list[float]:
    """Seconds of watching, of each run."""
    code = compile(cell, "<cell>", "exec")
    watch.settle(cell)
    return [watch.around(cell, lambda: exec(code, watch.there))[0] for _ in range(runs)]


def bulk(size: int) -> dict[str, Any]:
    """Variables of so many bytes, which the system gives when they are first written."""
    import numpy as np

    return {f"held{i}": np.zeros(size // 16 // 8) for i in range(16)}


def second(runs: int) -> list[Row]:
    """A cell of a second that names a frame."""
    watch = Watch({"df": frame()}, copied=["df"])
    cell = "mean = df.mean()"
    watch.settle(cell)

    def run() -> None:
        code = compile(cell, "<cell>", "exec")
        end = time.perf_counter() + 1
        while time.perf_counter() < end:
            exec(code, watch.there)

    found = [watch.around(cell, run) for _ in range(min(runs, 9) + 1)][1:]
    ours, cells = [f[0] for f in found], [f[1] for f in found]
    return [Row("a cell of 1 s that names a frame 1e6 x 10: watching / the cell", ours, cells, 0.01)]
