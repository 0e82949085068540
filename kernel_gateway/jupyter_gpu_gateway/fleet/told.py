"""What people and workers are told of a session and its hardware."""

from __future__ import annotations

import time

from jupyter_gpu.wire.messages import Gpu, SessionInfo

from .state import Fleet, Session


def info(session: Session, fleet: Fleet) -> SessionInfo:
    """A session as people see it."""
    queue = [s.session_id for s in fleet.queue()]
    return SessionInfo(
        session_id=session.session_id,
        key=session.key,
        state=session.state,
        label=label(session.gpus),
        created=time.time() - (time.monotonic() - session.created),
        gpus=session.gpus,
        worker_id=session.worker_id,
        pid=session.pid,
        queue_position=queue.index(session.session_id) + 1 if session.session_id in queue else 0,
        idle=session.idle,
        versions=session.versions,
        reason=session.reason,
        warm=session.warm,
    )


def label(gpus: list[Gpu]) -> str:
    """ "H100", "2 × H100 (simulated)", "CPU"."""
    if not gpus:
        return "CPU"
    count = f"{len(gpus)} × " if len(gpus) > 1 else ""
    return f"{count}{gpus[0].type}" + (" (simulated)" if gpus[0].simulated else "")


def gpu_env(gpus: list[Gpu]) -> dict[str, str]:
    """What a worker sees of the machine's GPUs: its own, by UUID."""
    env = {"CUDA_VISIBLE_DEVICES": ",".join(g.uuid for g in gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if any(g.simulated for g in gpus):
        env["JUPYTER_GPU_SIMULATED"] = label(gpus)
    return env
