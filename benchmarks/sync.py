"""``python benchmarks/sync.py [--quick] [--only NAME] [--json FILE] [--kishu PYTHON]``: how variables follow, beside how others do it.

Both sides are measured in turn within one run; machines are noisy, so look at the ratios. Nothing is asserted. The libraries that
are measured beside ours come with ``pip install 'jupyter-gpu[bench]'``; one that is missing is left out, and said so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from stats import Row, table


def detection(chosen: argparse.Namespace) -> list[Row]:
    """Is it unchanged, is it changed? Beside the way of Kishu and of ElasticNotebook (published.py)."""
    import detection

    return detection.detection(runs(chosen), chosen.kishu)


def watching(chosen: argparse.Namespace) -> list[Row]:
    """What watching adds to a cell, at both ends together, without the transport."""
    import watching

    return watching.watching(runs(chosen))


def moving(chosen: argparse.Namespace) -> list[Row]:
    """To another process and back: ours (the messages of a `%%remote` cell, then what fetches a handle), ipyparallel, distributed, dill and cloudpickle
    (both in band, over websockets and a relay). Memory: both ends together, at the peak, above what they had before."""
    import moving

    return moving.moving(runs(chosen), chosen.large, chosen.row)


def names(chosen: argparse.Namespace) -> list[Row]:
    """Names that are missed, and names that are sent needlessly."""
    import needs

    needs.names()
    return []


def runs(chosen: argparse.Namespace) -> int:
    return 3 if chosen.quick else 7


BENCHMARKS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "names": names,
    "detection": detection,
    "watching": watching,
    "moving": moving,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--only", action="append", choices=BENCHMARKS)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument(
        "--kishu", default="", metavar="PYTHON", help="an interpreter that has the package kishu, to measure the real one too"
    )
    parser.add_argument("--large", action="store_true", help="moving: an array of 1 GiB too")
    parser.add_argument("--row", action="append", default=[], help="moving: only rows that have this word in their name")
    chosen = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}\n", flush=True)
    rows: list[Row] = []
    for name in chosen.only or BENCHMARKS:
        print(f"--- {name}: {(BENCHMARKS[name].__doc__ or '').strip()}", flush=True)
        found = BENCHMARKS[name](chosen)
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
