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

from jupyter_gpu.sync.pages import PATIENCE
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
    """Deciding whether a value changed: milliseconds; the ratio is ours / theirs. "At first": the first looks after it was
    sent; "same": it was found unchanged a few times before. Memory is watched from the first time on (sync/pages.py). ElasticNotebook's way
    for frames looks at flags, and is WRONG about what `df.iat[...] =` changed: no target there."""
    say_what_strings_are()
    rows = []
    for name, watched in DETECTION.items():
        times, wrong = measure(watched, runs)
        for way in ("Kishu", "ElasticNotebook"):
            target = 1 / watched.factor if (way, "changed") not in wrong else float("inf")
            for which in ("at first", "same", "changed"):
                ours, base = times["ours", which], times[way, which if which == "changed" else "same"]
                rows.append(Row(f"{name}, {which}: ours / {way}'s way", ours, base, target))
        if kishu and (real := measure_real(name, runs, kishu)):
            rows.append(Row(f"{name}, same: ours / Kishu itself", times["ours", "same"], real, 1 / watched.factor))
    return rows


def measure(watched: Watched, runs: int) -> tuple[dict[tuple[str, str], list[float]], set[tuple[str, str]]]:
    """Seconds of each way, in turn, for a value that is the same and for one with one element changed; which of them were wrong."""
    ways: dict[str, Callable[[], Any]] = {"ours": Ours, "Kishu": Kishu, "ElasticNotebook": Elastic}
    value = watched.make()
    times: dict[tuple[str, str], list[float]] = {}
    wrong: set[tuple[str, str]] = set()
    made = {name: way() for name, way in ways.items()}

    def ask(name: str, which: str) -> None:
        gc.collect()
        began = time.perf_counter()
        answer = made[name].changed(value)
        times.setdefault((name, which), []).append(time.perf_counter() - began)
        if answer is not (which == "changed"):
            wrong.add((name, which))

    for way in made.values():
        way.baseline(value)
    for _ in range(PATIENCE):
        ask("ours", "at first")
    ask("ours", "the turn")
    for which in ("same", "changed"):
        for _ in range(runs):
            if which == "changed":
                for way in made.values():
                    way.baseline(value)
                watched.change(value)
            for name in made:
                ask(name, which)
    for name, which in sorted(wrong):
        print(f"WRONG: {name} does not tell what is {which}", flush=True)
    return times, wrong


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
