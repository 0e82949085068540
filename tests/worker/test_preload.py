"""Giving way while libraries load, where one may come back from that."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LOOK = """
import os
from jupyter_gpu_worker.preload import low_priority, normal_priority
{before}
low_priority()
print(os.sched_getscheduler(0) == os.SCHED_IDLE)
normal_priority()
print(os.sched_getscheduler(0) == os.SCHED_OTHER)
"""


def look(before: str = "") -> list[str]:
    done = subprocess.run([sys.executable, "-c", LOOK.format(before=before)], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="this system has no such priority")
def test_it_comes_back() -> None:
    assert look()[1] == "True"


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE") or os.geteuid() != 0, reason="takes root, to become somebody else")
def test_who_may_not_come_back_does_not_go() -> None:
    assert look("os.setgid(65534), os.setuid(65534)") == ["False", "True"]
