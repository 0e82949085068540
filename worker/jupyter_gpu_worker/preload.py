"""Importing before the fork: what all forks then share."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
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
    """Give way to everything else on this machine."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def normal_priority() -> None:
    """Undo ``low_priority``."""
    if hasattr(os, "SCHED_IDLE") and os.sched_getscheduler(0) == os.SCHED_IDLE:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def settle() -> None:
    """What exists now is shared with all forks: keep the collector from touching, and so copying, its pages."""
    gc.collect()
    gc.freeze()
