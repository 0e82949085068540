"""``python benchmarks/run.py [--quick] [--only NAME] [--json FILE]``: what it costs to run a cell elsewhere, beside running it here.

Both sides are measured in turn within one run; machines are noisy, so look at the ratios. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from kernels import Kernel, Place, kernel, place
from stats import Row, median, p95, table

REMOTE = "%%remote gpu=H100\n"


def warm(quick: bool) -> list[Row]:
    """A cell that does nothing, and one with a result, in the same local ipykernel."""
    rows = []
    with place() as where, kernel(where) as book:
        book.run(REMOTE + "pass")
        settle(where)
        for code in ("pass", "1+1"):
            for _ in range(20):
                book.run(code), book.run(REMOTE + code)
            ours, base = [], []
            for _ in range(100 if quick else 400):
                base.append(book.run(code))
                ours.append(book.run(REMOTE + code))
            rows.append(Row(f"warm cell `{code}`: remote / local", ours, base, 2.0))
    return rows


def settle(where: Place) -> None:
    """Wait until the gateway's zygote has loaded its libraries: it is a matter of the first seconds of a gateway's life."""
    log = where.folder / "runtime" / "jupyter_gpu"
    end = time.monotonic() + 90
    while time.monotonic() < end:
        if any("preloaded" in f.read_text(errors="replace") for f in log.glob("*.log")):
            return
        time.sleep(0.1)
    print("NOTE: the libraries were not loaded within 90 s", file=sys.stderr)


def first(quick: bool) -> list[Row]:
    """The first remote cell of a notebook, the gateway being up, beside a fresh ipykernel that runs the same cell."""
    rows = []
    cells = [("pass", 0.25), ("import numpy, pandas", 0.2), ("import torch", 0.1)]
    with place() as where:
        with kernel(where) as book:
            book.run(REMOTE + "pass")
            settle(where)
        for code, target in cells:
            if "torch" in code and importlib.util.find_spec("torch") is None:
                print("SKIPPED: torch is not installed", file=sys.stderr)
                continue
            ours, base = [], []
            for _ in range(5 if quick else 11):
                with kernel(where) as book:
                    time.sleep(0.5)  # a standby worker takes this long to be replaced; a person needs longer to write a cell
                    ours.append(book.run(REMOTE + code))
                began = time.perf_counter()
                with kernel(where, load=False) as fresh:
                    fresh.run(code)
                    base.append(time.perf_counter() - began)
            rows.append(Row(f"first cell `{code}`: remote / fresh ipykernel", ours, base, target))
    return rows


def cold(quick: bool) -> list[Row]:
    """No gateway at all."""
    ours, base = [], []
    for _ in range(3 if quick else 7):
        with place() as where:
            with kernel(where) as book:
                ours.append(book.run(REMOTE + "pass"))
            began = time.perf_counter()
            with kernel(where, load=False) as fresh:
                fresh.run("pass")
                base.append(time.perf_counter() - began)
    return [Row("first cell, no gateway: remote / fresh ipykernel", ours, base, 2.0)]


def output(quick: bool) -> list[Row]:
    """Printed lines: how fast, whether all of them, and when the first."""
    lines, flushed = 100_000, 20_000
    many = f"for i in range({lines}): print(i)"
    with place() as where, kernel(where) as book:
        book.run(REMOTE + "pass")
        settle(where)
        rates: dict[str, list[float]] = {"ours": [], "base": []}
        for _ in range(3 if quick else 7):
            for side, code in (("base", many), ("ours", REMOTE + many)):
                began = time.perf_counter()
                text = printed(book, code)
                rates[side].append(lines / (time.perf_counter() - began))
                check(text == "".join(f"{i}\n" for i in range(lines)), f"{lines} lines complete and in order ({side})")
        text = printed(book, REMOTE + f"for i in range({flushed}): print(i, flush=True)")
        whole = text == "".join(f"{i}\n" for i in range(flushed))
        check(whole, f"{flushed} flushed lines complete and in order" + ("" if whole else f": {first_wrong(text)}"))
        rows = [Row("100,000 lines: remote / local", rates["ours"], rates["base"], 0.8, unit="lines/s", more_is_better=True)]
        delays: dict[str, list[float]] = {"ours": [], "base": []}
        busy = "import time\nprint(time.perf_counter())\nend = time.perf_counter() + 0.4\nwhile time.perf_counter() < end: pass"
        for _ in range(5 if quick else 11):
            for side, code in (("base", busy), ("ours", REMOTE + busy)):
                when = next((at, m) for at, m in list(book.messages(code)) if m["msg_type"] == "stream")
                delays[side].append(when[0] - float(when[1]["content"]["text"]))
        rows.append(Row("first line of a busy cell on the screen: remote / 50 ms", delays["ours"], [0.05], 1.0))
        rows.append(Row("first line of a busy cell on the screen: remote / local", delays["ours"], delays["base"], 1.0))
    return rows


def printed(book: Kernel, code: str) -> str:
    """All that a cell prints, on whichever stream."""
    return "".join(m["content"]["text"] for _, m in book.messages(code) if m["msg_type"] == "stream")


def first_wrong(text: str) -> str:
    """Where numbered lines go wrong."""
    lines = text.split("\n")
    at = next((i for i, line in enumerate(lines) if line != str(i)), len(lines))
    return f"line {at} of {len(lines)} is {lines[at : at + 3]!r}"


def stop(quick: bool) -> list[Row]:
    """From the stop button to the end of a cell whose code gets a KeyboardInterrupt."""
    cells = [
        ("computes", "while True: pass"),
        ("sleeps", "import time; time.sleep(60)"),
        ("awaits", "import asyncio\nawait asyncio.sleep(60)"),
    ]
    rows = []
    with place() as where, kernel(where) as book:
        book.run(REMOTE + "pass")
        settle(where)
        for what, code in cells:
            times = [stopped(book, f"{REMOTE}print('ready', flush=True)\n{code}") for _ in range(5 if quick else 11)]
            rows.append(Row(f"stop button, a cell that {what}: remote / 500 ms", times, [0.5], 1.0))
    return rows


def stopped(book: Kernel, code: str) -> float:
    """Seconds from the interrupt, sent when the cell says that it is ready, to its idle."""
    pressed, name = 0.0, ""
    for _, message in book.messages(code):
        if message["msg_type"] == "stream" and "ready" in message["content"]["text"] and not pressed:
            pressed = time.perf_counter()
            book.manager.interrupt_kernel()
        elif message["msg_type"] == "error":
            name = message["content"]["ename"]
    took = time.perf_counter() - pressed
    if name != "KeyboardInterrupt":
        print(f"FAIL the cell ended with {name or 'no error'}")
    return took


def sessions(quick: bool) -> list[Row]:
    """Many sessions on one gateway: memory (PSS) of the gateway and of an idle session. No ratio: figures only."""
    count = 20 if quick else 100
    with place() as where:
        os.environ.update({k: v for k, v in where.env.items() if k.startswith("JUPYTER_")})
        from jupyter_gpu.client import Gateway
        from jupyter_gpu.wire.messages import CellDone, RunCell, Wanted

        gateway = Gateway.connect()
        try:
            times = []
            before = memory(where)
            for n in range(count):
                began = time.perf_counter()
                session = gateway.open(f"bench-{n}", [Wanted(type="CPU")])
                session.send(RunCell(run_id=str(n), code="x = 1", execution_count=1))
                while not isinstance((session.receive(60) or [None])[0], CellDone):
                    pass
                times.append(time.perf_counter() - began)
            after = memory(where)
            each = (after["workers"] - before["workers"]) / count
            print(f"{count} sessions: {each / 2**20:.1f} MiB (PSS) each, gateway {after['gateway'] / 2**20:.1f} MiB")
            print(f"opening one and running its first cell: median {median(times) * 1e3:.0f} ms, p95 {p95(times) * 1e3:.0f} ms")
            for info in gateway.sessions():
                gateway.stop(info.session_id)
        finally:
            gateway.close()
    return []


def memory(where: Place) -> dict[str, int]:
    """Bytes (proportional set size) of the gateway, and of zygotes and workers together."""
    found = {"gateway": 0, "workers": 0}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"JUPYTER_RUNTIME_DIR={where.folder}/runtime".encode() not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            command = (folder / "cmdline").read_text()
            pss = re.search(r"^Pss:\s+(\d+)", (folder / "smaps_rollup").read_text(), re.M)
        except OSError:
            continue
        kind = "gateway" if "jupyter_gpu_gateway" in command else "workers" if "jupyter_gpu_worker" in command else ""
        if kind and pss:
            found[kind] += int(pss.group(1)) << 10
    return found


def check(condition: bool, what: str) -> None:
    print(f"{'ok  ' if condition else 'FAIL'} {what}")


BENCHMARKS: dict[str, Callable[[bool], list[Row]]] = {
    "warm": warm,
    "first": first,
    "cold": cold,
    "output": output,
    "stop": stop,
    "sessions": sessions,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--only", action="append", choices=BENCHMARKS)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    chosen = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}\n", flush=True)
    rows: list[Row] = []
    for name in chosen.only or BENCHMARKS:
        print(f"--- {name}: {(BENCHMARKS[name].__doc__ or '').strip()}", flush=True)
        found = BENCHMARKS[name](chosen.quick)
        if found:
            print(table(found) + "\n", flush=True)
        rows += found
    if chosen.json:
        figures = [
            {"name": r.name, "unit": r.unit, "ours": list(r.ours), "base": list(r.base), "ratio": r.ratio, "target": r.target} for r in rows
        ]
        chosen.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
