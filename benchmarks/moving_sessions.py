"""``python benchmarks/moving_sessions.py [--quick] [--only WORD]``: a live kernel moved to other hardware, beside what one would do by hand:
``dill.dump_session``, copy the file, ``dill.load_session``; in turn within one run.

Ours is from the cell that is sent (`%remote move H100`) to its reply: the new session's start is in it. dill's is the three steps alone, in
processes that have imported everything already. Target: at most 0.2 of dill's time for sessions of arrays, never more than dill's for any;
the second move of a session at most 0.1 of the first. Values and aliases are compared after each move. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from kernels import Place, place
from kernels_whole import Started
from run import settle
from stats import Row, table

from jupyter_gpu.kernel import spare
from jupyter_gpu.kernel.specs import Spec, write


@dataclass(frozen=True)
class Notebook:
    """``code`` makes its variables; ``same`` is an expression whose text is the same wherever they are the same; ``needs``: modules."""

    code: str
    same: str
    target: float = 1.0
    needs: tuple[str, ...] = ()


NOTEBOOKS = {
    "arrays": Notebook(
        "import numpy as np\nrng = np.random.default_rng(1)\n"
        "arrays = [rng.random(SIZE * 6_000_000) for _ in range(8)]\nfirst = arrays[0]\nview = first[10:20]\nscale = 3.5",
        "(first is arrays[0], np.shares_memory(view, first), [a.sum() for a in arrays], scale)",
        0.2,
        ("numpy",),
    ),
    "frames with strings": Notebook(
        "import numpy as np, pandas as pd\nrng = np.random.default_rng(2)\nn = SIZE * 2_000_000\n"
        "frame = pd.DataFrame({'key': rng.integers(0, 1000, n), 'value': rng.random(n)})\n"
        "frame['text'] = [f'row {i} of {k}' for i, k in enumerate(frame['key'])]\n"
        "grouped = frame.groupby('key')['value'].mean()\nalias = frame",
        "(alias is frame, frame['value'].sum(), frame['text'].str.len().sum(), frame['text'].iloc[-1], grouped.sum())",
        needs=("pandas",),
    ),
    "a trained forest": Notebook(
        "import numpy as np\nfrom sklearn.ensemble import RandomForestClassifier\nrng = np.random.default_rng(3)\n"
        "X = rng.random((10_000, 20)); y = (X.sum(axis=1) > 10).astype(int)\n"
        "forest = RandomForestClassifier(200 * SIZE, random_state=0, n_jobs=2).fit(X, y)\nmodels = {'best': forest}",
        "(models['best'] is forest, forest.predict_proba(X[:100]).sum(), X.sum())",
        needs=("sklearn.ensemble",),
    ),
    "a torch model with its optimizer": Notebook(
        "import torch\ntorch.manual_seed(4)\n"
        "model = torch.nn.Sequential(*[torch.nn.Linear(1024, 1024) for _ in range(8 * SIZE)])\n"
        "optimizer = torch.optim.Adam(model.parameters())\n"
        "loss = model(torch.ones(4, 1024)).sum(); loss.backward(); optimizer.step(); del loss",
        "(optimizer.param_groups[0]['params'][0] is model[0].weight, sum(p.sum().item() for p in model.parameters()))",
        0.2,
        ("torch",),
    ),
    "many small objects": Notebook(
        "class Node:\n    def __init__(self, n, up):\n        self.n, self.up, self.tags = n, up, {'n': n, 'text': f'node {n}'}\n"
        "nodes = [Node(0, None)]\nfor n in range(1, SIZE * 60_000):\n    nodes.append(Node(n, nodes[n // 2]))\n"
        "by_text = {node.tags['text']: node for node in nodes}",
        "(all(by_text[node.tags['text']] is node for node in nodes), sum(node.n for node in nodes), nodes[-1].up is nodes[(len(nodes) - 1) // 2])",
    ),
}

#: Process of dill's: makes the variables, then does what it is told.
DUMP = "import dill, sys\n{code}\nprint('ready', flush=True)\nsys.stdin.readline()\ndill.dump_session({file!r})\nprint('done', flush=True)\nprint({same}, flush=True)"
LOAD = "import dill, sys\n{imports}\nprint('ready', flush=True)\nsys.stdin.readline()\ndill.load_session({file!r})\nprint('done', flush=True)\nprint({same}, flush=True)"


def told(process: subprocess.Popen[str], word: str) -> float:
    """Seconds until it says so, from when it is told to go on."""
    assert process.stdin is not None and process.stdout is not None
    began = time.perf_counter()
    if word == "done":
        process.stdin.write("\n")
        process.stdin.flush()
    if process.stdout.readline().strip() != word:
        raise RuntimeError("dill failed")
    return time.perf_counter() - began


def by_hand(notebook: Notebook, size: int, folder: Path) -> float:
    """Seconds of dump, copy and load."""
    here, there = folder / "session.pkl", folder / "copy.pkl"
    imports = "\n".join(f"import {name}" for name in notebook.needs)
    code = notebook.code.replace("SIZE", str(size))
    scripts = [
        DUMP.format(code=code, file=str(here), same=notebook.same),
        LOAD.format(imports=imports, file=str(there), same=notebook.same),
    ]
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for script in scripts
    ]
    try:
        for process in processes:
            told(process, "ready")
        took = told(processes[0], "done")
        began = time.perf_counter()
        shutil.copyfile(here, there)
        took += time.perf_counter() - began + told(processes[1], "done")
        said = [process.stdout.readline() for process in processes if process.stdout is not None]
        if said[0] != said[1]:
            print(f"WRONG: dill: {said}", flush=True)
        return took
    finally:
        for process in processes:
            process.kill()
            process.communicate()
        here.unlink(missing_ok=True)
        there.unlink(missing_ok=True)


def ours(name: str, notebook: Notebook, size: int, where: Place) -> list[float]:
    """Seconds of the first move, and of the second."""
    kernel = Started(Spec("CPU").name, where)
    try:
        kernel.run(notebook.code.replace("SIZE", str(size)))
        _, before = kernel.run(f"print({notebook.same})")
        times = []
        for to in ("H100", "local"):
            time.sleep(3)  # a standby worker takes this long to be replaced
            times.append(kernel.run(f"%remote move {to}")[0])
            _, after = kernel.run(f"print({notebook.same})")
            if after != before or not before:
                print(f"WRONG: ours, {name}: {before!r} became {after!r}", flush=True)
        return times
    finally:
        kernel.close()


def compare(name: str, notebook: Notebook, size: int, runs: int, where: Place) -> list[Row]:
    first, second, base = list[float](), list[float](), list[float]()
    for _ in range(runs):
        base.append(by_hand(notebook, size, where.folder))
        there, back = ours(name, notebook, size, where)
        first.append(there)
        second.append(back)
    return [
        Row(f"{name}: ours / dill", first, base, notebook.target),
        Row(f"{name}: second move / first", second, first, 0.1),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--only", default="", help="notebooks whose name has this word")
    parser.add_argument("--size", type=int, default=1, help="all of it so many times as large")
    chosen = parser.parse_args()
    rows: list[Row] = []
    with place() as where:
        for name in [n for n in os.environ if n.startswith(("JUPYTER_", "JPY_"))]:
            del os.environ[name]
        os.environ.update({k: v for k, v in where.env.items() if k.startswith(("JUPYTER_", "IPYTHON"))})
        os.environ["JUPYTER_DATA_DIR"] = str(where.folder / "data")
        write(Spec("CPU"), where.folder / "data" / "kernels", provisioner=True)
        Started(Spec("CPU").name, where).close()
        settle(where)
        for name, notebook in NOTEBOOKS.items():
            lacking = [module for module in notebook.needs if importlib.util.find_spec(module) is None]
            if lacking or importlib.util.find_spec("dill") is None:
                print(f"SKIPPED: {name}: {', '.join(lacking) or 'dill'} is not installed", flush=True)
            elif chosen.only in name:
                rows += compare(name, notebook, chosen.size, 2 if chosen.quick else 7, where)
                print(table(rows[-2:]), flush=True)
        spare.end()
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
