"""Which GPUs a wish can be given: pure, as ``state.py`` is, which decides when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from jupyter_gpu.wire.errors import JupyterGpuError, NoSuchHardware
from jupyter_gpu.wire.messages import Gpu, Wanted


def matches(gpu: Gpu, choice: Wanted) -> bool:
    return choice.type in ("ANY", gpu.type)


def possible(gpus: Sequence[Gpu], choice: Wanted) -> bool:
    """Whether all of these GPUs together, were they free, would do."""
    return choice.type == "CPU" or sum(matches(g, choice) for g in gpus) >= choice.count


def impossible(gpus: Sequence[Gpu], wanted: Sequence[Wanted]) -> JupyterGpuError | None:
    """An error if no choice could ever be satisfied by what there is."""
    if any(possible(gpus, choice) for choice in wanted):
        return None
    return NoSuchHardware(wanted=[_text(w) for w in wanted], available=describe(gpus))


def choose(free: Sequence[Gpu], wanted: Iterable[Wanted]) -> list[Gpu] | None:
    """GPUs by order of preference; None: what is free does not do."""
    for choice in wanted:
        if choice.type == "CPU":
            return []
        fitting = [g for g in free if matches(g, choice)]
        if len(fitting) >= choice.count:
            return fitting[: choice.count]
    return None


def kept_for(gpus: Sequence[Gpu], free: Iterable[Gpu], wanted: Iterable[Wanted]) -> set[str]:
    """UUIDs of the free GPUs that bring one who waits nearer to its end. Nobody behind it in the queue may have them: a stream of small
    wishes would keep a large one waiting for ever."""
    hoped = [choice for choice in wanted if possible(gpus, choice)]  # what never comes is not waited for
    return {g.uuid for g in free if any(matches(g, choice) for choice in hoped)}


def describe(gpus: Iterable[Gpu]) -> list[str]:
    """ "2 × H100 (simulated)", ..., "CPU": what can be asked for."""
    kinds: dict[tuple[str, bool], int] = {}
    for gpu in gpus:
        kinds[(gpu.type, gpu.simulated)] = kinds.get((gpu.type, gpu.simulated), 0) + 1
    names = [f"{n} × {kind}" if n > 1 else kind for (kind, _), n in kinds.items()]
    return [name + (" (simulated)" if sim else "") for name, (_, sim) in zip(names, kinds)] + ["CPU"]


def owned(gpu: Gpu, session_id: str) -> Gpu:
    return replace(gpu, session_id=session_id)


def _text(choice: Wanted) -> str:
    return choice.type if choice.count == 1 else f"{choice.type}:{choice.count}"
