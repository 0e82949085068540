"""What a worker's processes owe each other: no orphan, no zombie, no file outlives them."""

from __future__ import annotations

import atexit
import ctypes
import os
import random
import signal
import sys
import time
import weakref
from collections.abc import Collection

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def die_with(parent: int) -> None:
    """End (SIGKILL) when the process ``parent``, from which this one was forked, ends. Where the system has no such thing, the end of
    the pipe has to do."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it ended before that was said


def adopt_orphans() -> None:
    """Be the parent of all descendants whose own parent has ended, so that ``kill_children`` finds them, whatever group or session
    they moved to."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def kill_children(spare: Collection[int] = (), within: float = 5.0) -> None:
    """SIGKILL for every descendant but those in ``spare`` and theirs, for as long as there are any, at most ``within`` seconds. The
    children must be reaped meanwhile: this is done here for all that are killed here."""
    import psutil

    me = psutil.Process()
    end = time.monotonic() + within
    while time.monotonic() < end:
        children = [c for c in me.children() if c.pid not in spare]
        if not children:
            return
        for child in children:
            for process in (*_descendants(child), child):
                try:
                    os.kill(process.pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    pass  # it has ended; or it is another user's (sudo), which is not ours to end
        for child in children:
            _reap(child.pid)


def _descendants(process: object) -> list[object]:
    import psutil

    assert isinstance(process, psutil.Process)
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def _reap(pid: int) -> None:
    for _ in range(50):
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
        except ChildProcessError:
            return
        time.sleep(0.002)  # a killed process with much memory takes its time


def reseed() -> None:
    """Two forks of one process must not draw the same numbers."""
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.seed()  # not torch.seed(), which looks for GPUs: CUDA_VISIBLE_DEVICES is not set yet


def forget_exit_handlers() -> None:
    """What is to be done at the zygote's exit is not this process's to do; what is registered from here on is."""
    atexit._clear()
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False
    atexit.register(weakref.finalize._exitfunc)  # type: ignore[attr-defined]


def run_exit_handlers() -> None:
    """What the person's code has registered since ``forget_exit_handlers``."""
    atexit._run_exitfuncs()


def leave(code: int) -> None:
    """End a forked process without going back to what the zygote was doing."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # nobody reads it any more, or the person has put something else there
    os._exit(code)
