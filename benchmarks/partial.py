"""What a change of 64 MiB of float64 costs, in bytes on the wire and in time, in both directions: ``python benchmarks/partial.py [MiB]``.

Bytes are those of all messages as they are encoded, before any compression. A time is the median of seven cells, each with a change
of its own, and includes the cell itself; "first" is the same for an array that the other end has never had.
"""

from __future__ import annotations

import json
import statistics
import sys
from typing import Any

from kernels import Kernel, kernel, place

RUNS = 7
R = "%%remote gpu=H100 quiet\n"
METER = """
import json
from pathlib import Path
def meter():
    from jupyter_gpu.wire.codec import encode, size_of
    for remote in get_ipython()._jupyter_gpu.remotes.values():
        session = remote.session
        if not hasattr(session, 'count'):
            send, receive = session.send, session.receive
            def sending(message, buffers=(), **more):
                session.count[0] += size_of(encode(message, list(buffers)))
                return send(message, buffers, **more)
            def receiving(timeout=None):
                got = receive(timeout)
                if got is not None:
                    session.count[1] += size_of(encode(got[0], list(got[1])))
                return got
            session.send, session.receive = sending, receiving
        session.count = [0, 0]
def read(path):
    Path(path).write_text(json.dumps([r.session.count for r in get_ipython()._jupyter_gpu.remotes.values()][0]))
"""
CHANGES = {
    "unchanged": "pass",
    "one element": "x[rng.integers(len(x))] = rng.random()",
    "1% appended": "x = np.concatenate([x, rng.random(len(x) // 100)])",
    "rows prepended": "x = np.concatenate([rng.random(1000), x])",
    "0.1% at random": "i = rng.integers(0, len(x), len(x) // 1000); x[i] = rng.random(len(i)); del i",
    "all of it": "x[:] = rng.random(len(x))",
}
BARS = {"unchanged": "0.01% + 4 KiB", "one element": "0.1%", "1% appended": "1.1%", "rows prepended": "0.3%", "0.1% at random": "0.5%"}


def bytes_of(book: Kernel, cell: str, way: int, path: str) -> tuple[int, float]:
    book.run("meter()")
    seconds = book.run(R + cell)
    book.run(f"read({path!r})")
    with open(path, encoding="utf-8") as file:
        return int(json.load(file)[way]), seconds


def measure(book: Kernel, change: str, way: int, fresh: str, path: str) -> tuple[int, float]:
    found: list[tuple[int, float]] = []
    for _ in range(RUNS):
        book.run(fresh)
        book.run(R + "x.nbytes")
        if way == 0:
            book.run(change)
            found.append(bytes_of(book, "x.nbytes", 0, path))
        else:
            found.append(bytes_of(book, change, 1, path))
    return max(size for size, _ in found), statistics.median(seconds for _, seconds in found)


def main() -> None:
    size = int(sys.argv[1]) << 20 if len(sys.argv) > 1 else 64 << 20
    with place() as where, kernel(where) as book:
        path = str(where.folder / "counts.json")
        book.run("import numpy as np\nrng = np.random.default_rng(0)\n" + METER)
        book.run(R + "import numpy as np\nrng = np.random.default_rng(1)")
        fresh = f"x = rng.random({size // 8})"
        rows: list[tuple[Any, ...]] = []
        for way, title in enumerate(("to the kernel", "to the client")):
            first = []
            for _ in range(RUNS):
                book.run("%reset_selective -f ^x$" if way == 0 else R + "x = None")
                if way == 0:
                    book.run(fresh)
                    first.append(bytes_of(book, "x.nbytes", 0, path))
                else:
                    first.append(bytes_of(book, fresh, 1, path))
            base = statistics.median(s for _, s in first)
            rows.append((title, "first", max(n for n, _ in first), base, 1.0, ""))
            for name, change in CHANGES.items():
                count, seconds = measure(book, change, way, fresh, path)
                rows.append((title, name, count, seconds, seconds / base, BARS.get(name, "")))
    print(
        f"| {size >> 20} MiB of float64 | change | bytes | share | bar | seconds | of the first |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    for title, name, count, seconds, ratio, bar in rows:
        print(f"| {title} | {name} | {count:,} | {100 * count / size:.4f}% | {bar} | {seconds:.3f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
