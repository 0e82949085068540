"""What a worker knows of its own GPUs: those in ``CUDA_VISIBLE_DEVICES``, as NVML shows them. Nothing here touches CUDA."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import NamedTuple

_CUDA = re.compile(r"cuda(?::(\d+))?$")


class Device(NamedTuple):
    """One GPU. ``memory`` in bytes; ``number`` in the order of the PCI bus, among all of the machine's."""

    uuid: str
    name: str
    memory: int
    number: int


def own() -> tuple[Device, ...]:
    """This process's GPUs, in the order in which CUDA numbers them; () where there is none, or no driver."""
    return _own(os.environ.get("CUDA_VISIBLE_DEVICES"))


def device_label(device: str) -> str:
    """ "cuda:1" -> "cuda:1 (NVIDIA H100 80GB HBM3)"; anything else as it is."""
    found = _CUDA.match(device)
    if found is None:
        return device
    gpus, number = own(), int(found[1] or 0)
    return f"{device} ({gpus[number].name})" if number < len(gpus) else device


@lru_cache(maxsize=8)
def _own(visible: str | None) -> tuple[Device, ...]:
    if visible is not None and not visible.strip():
        return ()
    gpus = _all()
    if visible is None:
        return tuple(gpus)
    chosen = []
    for entry in visible.split(","):
        gpu = _find(entry.strip(), gpus)
        if gpu is None:
            break  # CUDA too stops at the first that it does not know
        chosen.append(gpu)
    return tuple(chosen)


def _find(entry: str, gpus: list[Device]) -> Device | None:
    if entry.isdigit():
        return next((g for g in gpus if g.number == int(entry)), None)
    if not entry:
        return None
    named = [g for g in gpus if g.uuid.startswith(entry)]
    return named[0] if len(named) == 1 else None


def _all() -> list[Device]:
    """Every GPU of the machine, in the order of the PCI bus."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_describe(pynvml.nvmlDeviceGetHandleByIndex(i), i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []  # a driver that fails half-way tells nothing that could be relied on
    finally:
        pynvml.nvmlShutdown()


def _describe(handle: object, number: int) -> Device:
    import pynvml

    return Device(
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        memory=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        number=number,
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
