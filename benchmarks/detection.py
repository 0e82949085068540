"""Is it unchanged, is it changed? Our replica beside the way of Kishu and of ElasticNotebook."""

from __future__ import annotations

import gc
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from objects import DETECTION, Watched
from published import Elastic, Kishu
from stats import Row

from jupyter_gpu.sync.replica import Replica


class Ours:
    """What the client does with a name that a remote cell needs and the other end has."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {}
        self.replica = Replica(self.namespace, "client")

    def baseline(self, value: Any) -> None:
        self.namespace["value"] = value
        self.replica.adopt(["value"])

    def changed(self, value: Any) -> bool:
        return bool(self.replica.changed(self.replica.needed(["value"])))


def detection(runs: int, kishu: str = "") -> list[Row]:
    """Deciding whether a value changed: milliseconds; the ratio is ours / theirs. ElasticNotebook's for frames looks at flags, and misses
    `df.loc[...] =`."""
    say_what_strings_are()
    rows = []
    for name, watched in DETECTION.items():
        times = measure(watched, runs)
        for way in ("Kishu", "ElasticNotebook"):
            for which in ("same", "changed"):
                ours, base = times["ours", which], times[way, which]
                rows.append(Row(f"{name}, {which}: ours / {way}'s way", ours, base, 1 / watched.factor))
        if kishu and (real := measure_real(name, runs, kishu)):
            rows.append(Row(f"{name}, same: ours / Kishu itself", times["ours", "same"], real, 1 / watched.factor))
    return rows


def measure(watched: Watched, runs: int) -> dict[tuple[str, str], list[float]]:
    """Seconds of each way, in turn, for a value that is the same and for one with one element changed."""
    ways: dict[str, Callable[[], Any]] = {"ours": Ours, "Kishu": Kishu, "ElasticNotebook": Elastic}
    value = watched.make()
    times: dict[tuple[str, str], list[float]] = {}
    made = {name: way() for name, way in ways.items()}
    for which in ("same", "changed"):
        for way in made.values():
            way.baseline(value)
        if which == "changed":
            watched.change(value)
        for _ in range(runs):
            for name, way in made.items():
                gc.collect()
                began = time.perf_counter()
                answer = way.changed(value)
                times.setdefault((name, which), []).append(time.perf_counter() - began)
                if answer is not (which == "changed"):
                    print(f"WRONG: {name} says {'changed' if answer else 'the same'} of what is {which}", flush=True)
                    if name == "ours":
                        raise SystemExit(1)
    return times


def measure_real(name: str, runs: int, interpreter: str) -> list[float]:
    """Seconds of the package itself, in an interpreter that has it."""
    done = subprocess.run(
        [interpreter, str(Path(__file__).with_name("published.py")), name, str(runs)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"SKIPPED: Kishu itself: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return []
    return [float(line.split()[0]) for line in done.stdout.splitlines()]


def say_what_strings_are() -> None:
    """pandas keeps strings by Arrow where it is installed."""
    import pandas as pd

    arrow = importlib.util.find_spec("pyarrow")
    storage = getattr(pd.Series(["a"], dtype="str").dtype, "storage", "object")
    print(f"pandas {pd.__version__}, pyarrow {'installed' if arrow else 'NOT installed'}: dtype str is kept by {storage}", flush=True)
