"""Sets everything up and runs all tests, stage by stage: ``python3 tests/run.py`` from a fresh machine with Python alone.

``--only NAME`` (repeatable) runs some stages; ``--list`` names them. The last line counts the tests of all stages.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-test"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

#: name -> (what it shows, command). A command that is not pytest counts as one test.
STAGES: dict[str, tuple[str, list[str]]] = {
    "lint": ("ruff", ["-m", "ruff", "check", "."]),
    "format": ("ruff format", ["-m", "ruff", "format", "--check", "."]),
    "types": ("mypy --strict", ["-m", "mypy"]),
    "imports": ("who may import whom", ["-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"]),
    "wire": (
        "wire, with 100% branch coverage",
        [
            "-m",
            "pytest",
            "tests/wire",
            "--cov=jupyter_gpu.wire",
            "--cov-branch",
            "--cov-fail-under=100",
            "--cov-report=term-missing:skip-covered",
        ],
    ),
    "fleet": (
        "fleet/state.py, with 100% branch coverage",
        [
            "-m",
            "pytest",
            "tests/fleet",
            "--cov=jupyter_gpu_gateway.fleet.state",
            "--cov-branch",
            "--cov-fail-under=100",
            "--cov-report=term-missing",
        ],
    ),
    "kinds": ("nearly 300 kinds of object from 20 libraries, both ways and changed at the far end", ["-m", "pytest", "tests/kinds"]),
    "units": (
        "every other part by itself",
        [
            "-m",
            "pytest",
            "tests",
            "--ignore=tests/wire",
            "--ignore=tests/fleet",
            "--ignore=tests/e2e",
            "--ignore=tests/frontends",
            "--ignore=tests/house",
            "--ignore=tests/kinds",
            "--ignore=tests/kernel",
            "--ignore=tests/upstream",
        ],
    ),
    "kernels": ("whole kernels from end to end, over networks and through failures", ["-m", "pytest", "tests/kernel"]),
    "cells": ("cells from end to end: a real kernel, the embedded gateway", ["-m", "pytest", "tests/e2e"]),
    "frontends": ("JupyterLab, Notebook 7, console, IPython, nbclient, papermill, VS Code's way", ["-m", "pytest", "tests/frontends"]),
    "house": ("the wheel, the README's commands, what is tracked", ["-m", "pytest", "tests/house"]),
    "upstream": ("suites that others wrote, through our provisioner and the local one", ["tests/upstream/run.py"]),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=STAGES, help="run this stage (repeatable)")
    parser.add_argument("--list", action="store_true", help="name the stages")
    chosen = parser.parse_args()
    if chosen.list:
        print("\n".join(f"{name:10} {text}" for name, (text, _) in STAGES.items()))
        return 0
    set_up()
    passed = failed = skipped = 0
    rows = []
    for name in chosen.only or STAGES:
        text, command = STAGES[name]
        folder = command[2] if command[1:2] == ["pytest"] else ""
        if folder and not (ROOT / folder).is_dir():
            print(f"\n===== {name}: SKIPPED: there are no tests in {folder} yet", flush=True)
            continue
        print(f"\n===== {name}: {text}", flush=True)
        if name == "kinds":
            install_libraries()
        began = time.monotonic()
        code, counts = run(command)
        seconds = time.monotonic() - began
        passed, failed, skipped = passed + counts[0], failed + counts[1], skipped + counts[2]
        rows.append(
            f"{name:10} {'ok' if not code else 'FAILED':7} {seconds:6.1f} s  {counts[0]} passed, {counts[1]} failed, {counts[2]} skipped"
        )
        print(f"===== {name}: {'ok' if not code else 'FAILED'} in {seconds:.1f} s", flush=True)
    print("\n" + "\n".join(rows))
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def set_up() -> None:
    """A virtual environment with the project and all that its tests need, at the pinned versions."""
    wanted = (ROOT / "constraints.txt").read_text() + (ROOT / "pyproject.toml").read_text()
    stamp = VENV / "set-up"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("===== setting up .venv-test", flush=True)
    began = time.monotonic()
    if VENV.exists():
        shutil.rmtree(VENV)
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "-c", "constraints.txt", "-e", ".[test,demo]"], cwd=ROOT, check=True)
    stamp.write_text(wanted)
    print(f"===== set up in {time.monotonic() - began:.1f} s", flush=True)


def install_libraries() -> None:
    """Those of the extra ``kinds``, into the same environment. One that cannot be installed is told, and its kinds are skipped."""
    stamp = VENV / "set-up-kinds"
    wanted = (VENV / "set-up").read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("===== installing the libraries", flush=True)
    began = time.monotonic()
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "-c", "constraints.txt"]
    extra = re.search(r"^kinds = \[$(.*?)^\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert extra is not None
    libraries = re.findall(r'"(.+)",?$', extra[1], re.MULTILINE)
    if subprocess.run([*pip, *libraries], cwd=ROOT).returncode == 0:
        stamp.write_text(wanted)
    else:
        for library in libraries:
            alone = subprocess.run([*pip, library], cwd=ROOT, capture_output=True, text=True)
            if alone.returncode:
                why = " ".join(alone.stderr.strip().splitlines()[-1:])
                print(f"===== NOT INSTALLED, ITS KINDS ARE SKIPPED: {library}: {why}", flush=True)
    print(f"===== installed in {time.monotonic() - began:.1f} s", flush=True)


def run(command: list[str]) -> tuple[int, tuple[int, int, int]]:
    """Exit code, and (passed, failed, skipped)."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER_", "JPY_", "PYTEST_"))}
    env |= {"PATH": f"{PYTHON.parent}{os.pathsep}{env.get('PATH', '')}", "PYTHONUNBUFFERED": "1", "JUPYTER_PLATFORM_DIRS": "1"}
    process = subprocess.Popen([PYTHON, *command], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        if re.search(r"\d+ (passed|failed|error|skipped)", line):
            last = line
    code = process.wait()
    if "pytest" not in command:
        return code, (int(not code), int(bool(code)), 0)

    def count(*words: str) -> int:
        return sum(int(n) for word in words for n in re.findall(rf"(\d+) {word}", last))

    passed, failed, skipped = count("passed"), count("failed", "errors?"), count("skipped")
    return code, (passed, failed + (1 if code and not failed else 0), skipped)


if __name__ == "__main__":
    sys.exit(main())
