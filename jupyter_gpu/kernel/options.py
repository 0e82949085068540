"""The shim's command line, and what of this machine goes along to the kernel."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

#: Variables that mean the same elsewhere: how things are shown and computed. Never the whole environment: it holds secrets.
ALLOWED = (
    "LANG", "LANGUAGE", "LC_*", "TZ", "NO_COLOR", "FORCE_COLOR", "MPLBACKEND", "OMP_*", "MKL_*", "OPENBLAS_*", "NUMEXPR_*",
    "IPYKERNEL_CELL_NAME", "PYDEVD_*", "PYTHONHASHSEED", "PYTHONWARNINGS", "TOKENIZERS_PARALLELISM", "PYTORCH_*", "CUDA_LAUNCH_BLOCKING",
    "XLA_FLAGS", "TF_*", "JPY_SESSION_NAME",
)  # fmt: skip
#: Those that name places on this machine: for a gateway of one's own, which is on it.
PLACES = (
    "PATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYTHONPATH",
    "IPYTHONDIR",
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_PATH",
    "HOME",
)
#: Set by the provisioner: names (comma between them) that the kernelspec or whoever started the kernel asked for by name.
NAMED = "JUPYTER_GPU_ENV"
#: Never, whoever asks: they are about processes here.
NEVER = ("JPY_PARENT_PID", "JUPYTER_GPU_*", "JPY_API_TOKEN", "JUPYTER_TOKEN", "PYTEST_CURRENT_TEST")


@dataclass(frozen=True)
class Options:
    connection_file: Path
    gpu: str
    ready: int  #: file descriptor on which the provisioner hears how the start goes; -1: nobody does
    argv: list[str]  #: of a kernel that is not ipykernel
    interpreter: str
    arguments: list[str]
    attach: bool = False  #: an earlier shim of this connection file met with an accident: its kernel goes on


def parse(arguments: list[str]) -> Options:
    parser = argparse.ArgumentParser(prog="python -m jupyter_gpu.kernel.shim", description="A kernel on remote hardware.")
    parser.add_argument("-f", required=True, type=Path, metavar="FILE", help="the connection file")
    parser.add_argument("--gpu", default="", help="hardware, as in %%%%remote gpu=")
    parser.add_argument("--interpreter", default="", help="the Python that the kernel runs, on a gateway of your own")
    parser.add_argument("--ready", default=-1, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--attach", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--argv", default="[]", help=argparse.SUPPRESS)
    chosen, rest = parser.parse_known_args(arguments)
    return Options(chosen.f, chosen.gpu, chosen.ready, json.loads(chosen.argv), chosen.interpreter or sys.executable, rest, chosen.attach)


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def environment(found: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What goes along."""
    named = [name for name in found.get(NAMED, "").split(",") if name]
    allowed = (*ALLOWED, *PLACES, *named)
    return {name: value for name, value in found.items() if _fits(name, allowed) and not _fits(name, NEVER)}
