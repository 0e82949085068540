"""The README's command for the main job, run as it stands there; and the wheel that it installs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def copy_of_tree(target: Path) -> Path:
    """What git tracks, and nothing else: as a person gets it."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


@pytest.mark.timeout(600)
def test_the_main_job_as_the_readme_says(tmp_path: Path) -> None:
    tree = copy_of_tree(tmp_path / "tree")
    (command,) = re.findall(r"^    (python3 -m venv .*jupyter-gpu demo)$", (ROOT / "README.md").read_text(), re.M)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER_", "VIRTUAL_ENV", "PYTHONPATH"))} | {"COLUMNS": "120"}
    done = subprocess.run(command, shell=True, cwd=tree, env=env, capture_output=True, text=True, timeout=550, check=False)
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert done.returncode == 0, text[-3000:] + done.stderr[-3000:]
    for words in ("accuracy 0.9", "still the same object: True", "KeyError: 'letters'", "H100 (simulated)", "Times", "[figure"):
        assert words in text, f"{words!r} is not shown:\n{text[-5000:]}"
    left = [p for p in Path("/proc").glob("[0-9]*/environ") if str(tmp_path).encode() in _read(p)]
    assert not left


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.timeout(300)
def test_the_wheel_holds_the_three_packages_and_the_notebook(tmp_path: Path) -> None:
    tree = copy_of_tree(tmp_path / "tree")
    subprocess.run(["python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(tree)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("jupyter_gpu-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "jupyter_gpu/__init__.py",
        "jupyter_gpu/py.typed",
        "jupyter_gpu_gateway/__main__.py",
        "jupyter_gpu_worker/zygote.py",
        "jupyter_gpu/notebooks/01-first-cell.ipynb",
    ):
        assert wanted in names
    assert not [n for n in names if n.startswith(("tests/", "kernel_gateway/", "worker/", "benchmarks/"))]
