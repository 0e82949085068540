"""The other end of the table, in a process of its own: tests/sync/far_peer.py, emptied for each kind, and looked at."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from jupyter_gpu.sync.replica import Replica

sys.path.append(str(Path(__file__).parent.parent / "sync"))
far_peer = importlib.import_module("far_peer")
look = importlib.import_module("look").look


def fresh() -> None:
    far_peer.NAMESPACE.clear()
    far_peer.NAMESPACE.update({"__name__": "__main__", "__builtins__": __builtins__})
    far_peer.KERNEL = Replica(far_peer.NAMESPACE, "kernel")
    far_peer.PENDING.clear()


def see(expression: str) -> Any:
    return eval(expression, {**far_peer.NAMESPACE, "look": look})


def held(names: list[str]) -> list[str]:
    return [n for n in names if n in far_peer.NAMESPACE]


vars(far_peer).update(fresh=fresh, see=see, held=held)

if __name__ == "__main__":
    far_peer.main()
