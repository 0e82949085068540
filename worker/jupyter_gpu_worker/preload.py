"""Importing before the fork: what all forks then share."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import threading
from collections.abc import Iterable


def load(modules: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Import what is installed: (those that are loaded, why the others are not)."""
    loaded: list[str] = []
    skipped: dict[str, str] = {}
    for name in modules:
        try:
            if importlib.util.find_spec(name) is None:
                skipped[name] = "not installed"
                continue
            importlib.import_module(name)
            loaded.append(name)
        except Exception as error:
            skipped[name] = f"{type(error).__name__}: {error}"
    return loaded, skipped


def low_priority() -> None:
    """Give way to everything else on this machine, where there is a way back from that."""
    if hasattr(os, "SCHED_IDLE") and _can_come_back():
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def normal_priority() -> None:
    """Undo ``low_priority``."""
    if hasattr(os, "SCHED_IDLE") and os.sched_getscheduler(0) == os.SCHED_IDLE:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _can_come_back() -> bool:
    """Most people may not (RLIMIT_NICE). A thread has a priority of its own, which nobody misses."""
    found: list[bool] = []

    def there_and_back() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        except OSError:
            found.append(False)
        else:
            found.append(True)

    thread = threading.Thread(target=there_and_back)
    thread.start()
    thread.join()
    return found[0]


def settle() -> None:
    """What exists now is shared with all forks: keep the collector from touching, and so copying, its pages."""
    gc.collect()
    gc.freeze()
