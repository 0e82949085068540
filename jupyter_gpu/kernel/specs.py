"""Kernel specs: what people pick a kernel from. One for each kind of hardware of a gateway, named as they would."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..wire.errors import BadOptionValue
from ..wire.messages import Gpu
from .logo import svg

#: Beginning of the folders' names; specs of others are never touched.
PREFIX = "jupyter-gpu-"
PROVISIONER = "jupyter-gpu"
#: Hardware of a kernel that starts on the person's own machine, to be moved when more is needed.
ELASTIC = "local"


@dataclass(frozen=True)
class Spec:
    """``gpu`` as in %%remote gpu=."""

    gpu: str
    simulated: bool = False

    @property
    def name(self) -> str:
        if self.gpu == ELASTIC:
            return PREFIX + "elastic"
        return PREFIX + re.sub(r"[^a-z0-9]+", "-", self.gpu.lower()).strip("-")

    @property
    def display_name(self) -> str:
        if self.gpu == ELASTIC:
            return "Python 3 (elastic)"
        kind, _, count = self.gpu.partition(":")
        hardware = "remote CPU" if kind == "CPU" else f"{count} × {kind}" if count else kind
        return f"Python 3 ({hardware}{', simulated' if self.simulated else ''})"

    def content(self, *, provisioner: bool) -> dict[str, Any]:
        """``provisioner``: name ours too; a Jupyter server that lacks it would not show the spec at all."""
        metadata: dict[str, Any] = {"debugger": True, "jupyter_gpu": {"gpu": self.gpu}}
        if provisioner:
            metadata["kernel_provisioner"] = {"provisioner_name": PROVISIONER, "config": {"gpu": self.gpu}}
        return {
            "argv": [sys.executable, "-m", "jupyter_gpu.kernel.shim", "-f", "{connection_file}", "--gpu", self.gpu],
            "display_name": self.display_name,
            "language": "python",
            "interrupt_mode": "signal",
            "metadata": metadata,
        }


def offered(gpus: Iterable[Gpu]) -> list[Spec]:
    """One for each kind of GPU, then the CPU."""
    kinds = {gpu.type: gpu.simulated for gpu in gpus}
    return [*(Spec(kind, simulated) for kind, simulated in kinds.items()), Spec("CPU")]


def kernels_folder(user: bool) -> Path:
    """Where specs go: of this environment, which has our provisioner, or of the person, whose servers may lack it."""
    from jupyter_core.paths import jupyter_data_dir

    return (Path(jupyter_data_dir()) if user else Path(sys.prefix) / "share" / "jupyter") / "kernels"


def write(spec: Spec, folder: Path, *, provisioner: bool) -> Path:
    """Raises ``BadOptionValue`` where the folder cannot be written to."""
    path = folder / spec.name
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "kernel.json").write_text(json.dumps(spec.content(provisioner=provisioner), indent=1, ensure_ascii=False) + "\n")
        (path / "logo-svg.svg").write_text(svg(spec.gpu, spec.simulated))
    except OSError as error:
        raise BadOptionValue(option="install", value=str(path), expected=f"a folder that can be written to ({error.strerror})") from None
    return path


def installed() -> list[tuple[Path, dict[str, Any]]]:
    """(folder, kernel.json) of all specs of ours that can be found."""
    found = []
    for place in (kernels_folder(False), kernels_folder(True)):
        for path in sorted(place.glob(PREFIX + "*")):
            try:
                found.append((path, json.loads((path / "kernel.json").read_text())))
            except (OSError, ValueError):
                found.append((path, {}))
    return found


def remove(names: Iterable[str]) -> list[Path]:
    """Those named (all, if none is), which are gone then. Raises ``BadOptionValue`` for a name that is none of ours."""
    wanted = {name if name.startswith(PREFIX) else Spec(name).name for name in names}
    found = [path for path, _ in installed() if not wanted or path.name in wanted]
    missing = wanted - {path.name for path in found}
    if missing:
        there = ", ".join(path.name for path, _ in installed()) or "none"
        raise BadOptionValue(option="remove", value=", ".join(sorted(missing)), expected=f"one of the kernels that are installed ({there})")
    for path in found:
        shutil.rmtree(path)
    return found
