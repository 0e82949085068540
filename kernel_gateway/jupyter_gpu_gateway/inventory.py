"""Which GPUs there are: what NVML shows, and those that somebody declared for demos and tests."""

from __future__ import annotations

import logging
import re

from jupyter_gpu.wire.errors import BadHardware
from jupyter_gpu.wire.messages import Gpu

_log = logging.getLogger(__name__)

_NOISE = {"NVIDIA", "TESLA", "GEFORCE", "QUADRO", "GRAPHICS", "DEVICE"}
_SIMULATED_MEMORY = 80 << 30


def short_type(name: str) -> str:
    """ "NVIDIA H100 80GB HBM3" -> "H100", "NVIDIA GeForce RTX 4090" -> "RTX4090", "NVIDIA A100-SXM4-40GB" -> "A100"."""
    words = [w for w in re.split(r"[\s\-_]+", name.upper()) if w and w not in _NOISE]
    if not words:
        return name.upper()
    if words[0] in {"RTX", "GTX", "TITAN"}:
        kept = [w for w in words[:4] if not re.fullmatch(r"\d+GB|LAPTOP|GPU|GENERATION|ADA", w)]
        return "".join(kept)
    return words[0]


def real_gpus() -> tuple[list[Gpu], list[str]]:
    """(GPUs, sentences about what could not be read). A machine without a driver has none, and that is no warning."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return [], []
    except pynvml.NVMLError as error:
        return [], [f"NVML cannot be used: {error}"]
    found, warnings = [], []
    try:
        try:
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            return [], [f"NVML cannot count the GPUs: {error}"]
        for index in range(count):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                name = _text(pynvml.nvmlDeviceGetName(handle))
                memory = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
                found.append(
                    Gpu(uuid=_text(pynvml.nvmlDeviceGetUUID(handle)), type=short_type(name), name=name, memory=memory, index=index)
                )
            except pynvml.NVMLError as error:
                warnings.append(f"GPU {index} cannot be read: {error}")
    finally:
        pynvml.nvmlShutdown()
    return found, warnings


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def simulated_gpus(text: str) -> list[Gpu]:
    """GPUs declared as "H100:2,A100". Raises ``BadHardware``."""
    found: list[Gpu] = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        kind, _, count = entry.partition(":")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", kind) or (count and not (count.isdigit() and 0 < int(count) <= 64)):
            raise BadHardware(text=entry, reason="simulated GPUs are declared as TYPE or TYPE:COUNT, as in H100:2,A100")
        kind = kind.upper()
        for _ in range(int(count or 1)):
            n = sum(1 for g in found if g.type == kind)
            found.append(
                Gpu(
                    uuid=f"SIM-{kind}-{n}",
                    type=kind,
                    name=f"simulated {kind}",
                    memory=_SIMULATED_MEMORY,
                    index=len(found),
                    simulated=True,
                )
            )
    return found
