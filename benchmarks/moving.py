"""The table: time and memory to move values to another process and back, ours beside what others do."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rows import LARGE, ROWS
from stats import Row

_PEERS = ("ipyparallel", "distributed", "dill", "cloudpickle")


class Driver:
    """A process of its own for one carrier (``carriers.py``)."""

    def __init__(self, name: str) -> None:
        self.name = name
        script = str(Path(__file__).with_name("carriers.py"))
        self.process = subprocess.Popen([sys.executable, script, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._read() != "ready":
            raise RuntimeError(f"{name} did not start")

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def move(self, row: str, seed: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{row} {seed}\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self._read() or "{}")
        if not found:
            raise RuntimeError(f"{self.name} failed")
        if found["wrong"]:
            print(f"WRONG: {self.name}, {row}: {', '.join(found['wrong'][:5])} came back otherwise", flush=True)
        return found

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def drivers(names: Sequence[str]) -> Iterator[dict[str, Driver]]:
    found: dict[str, Driver] = {}
    with ExitStack() as stack:
        for name in names:
            module = {"ours": "jupyter_gpu"}.get(name, name)
            if importlib.util.find_spec(module) is None:
                print(f"SKIPPED: {name} is not installed (pip install 'jupyter-gpu[bench]')", flush=True)
                continue
            found[name] = Driver(name)
            stack.callback(found[name].close)
        yield found


def moving(runs: int, large: bool = False, only: Sequence[str] = ()) -> list[Row]:
    """Seconds there and back, and peak memory of both ends above what they had before, of values that neither has seen."""
    rows: list[Row] = []
    with drivers(("ours", *_PEERS)) as all_of_them:
        for row, case in ROWS.items():
            if (row in LARGE and not large) or (only and not any(word in row for word in only)):
                continue
            found: dict[str, list[dict[str, Any]]] = {name: [] for name in all_of_them}
            for seed in range((case.runs or runs) + 1):
                for name, driver in list(all_of_them.items()):
                    try:
                        moved = driver.move(row, seed)
                    except RuntimeError as error:
                        print(f"FAILED: {row}: {error}", flush=True)
                        del all_of_them[name]
                        continue
                    if seed:  # the first time imports what it needs
                        found[name].append(moved)
            rows += compared(row, {name: times for name, times in found.items() if times})
    return rows


def compared(row: str, found: dict[str, list[dict[str, Any]]]) -> list[Row]:
    def times(name: str) -> list[float]:
        return [each["push"] + each["pull"] for each in found[name]]

    def peaks(name: str) -> list[float]:
        return [max(each["here"] + each["there"], 1 << 20) / 2**20 for each in found[name]]

    peers = [name for name in found if name != "ours"]
    return [Row(f"{row}: ours / {name}", times("ours"), times(name), 1.0) for name in peers] + [
        Row(f"{row}, memory: ours / {name}", peaks("ours"), peaks(name), 1.0, unit="MiB") for name in peers
    ]
