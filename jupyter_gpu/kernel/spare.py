"""A shim that has imported everything and waits: what the next kernel of this process starts with, in a tenth of the time.

One for each process that starts kernels, from its first kernel on. It ends with that process, or after a while without work.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

#: Seconds after which one that nobody needed ends.
_IDLE = 900.0
_MOST = 4 << 20
SWITCH = "JUPYTER_GPU_SPARE"  #: "0": there is none
_STANDARD = 3


@dataclass
class Spare:
    process: subprocess.Popen[bytes]
    orders: socket.socket


_kept: dict[int, Spare] = {}  # by process: a fork has not its parent's


def prepare() -> None:
    """Have one for the next kernel, if there is none."""
    if os.environ.get(SWITCH) == "0" or os.getpid() in _kept:
        return
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "jupyter_gpu.kernel.shim", "--standby", str(theirs.fileno())]
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True)
    except OSError:
        ours.close()  # then kernels start without
        return
    finally:
        theirs.close()
    _kept[os.getpid()] = Spare(process, ours)
    atexit.register(end)


def end() -> None:
    """Have none, until the next kernel has started."""
    spare = _kept.pop(os.getpid(), None)
    if spare is not None:
        spare.orders.close()
        spare.process.wait()


def take(command: list[str], ready: int, **options: Any) -> subprocess.Popen[bytes] | None:
    """The process that now does what ``command`` would have done, with ``env``, ``cwd``, ``stdout`` and ``stderr`` as Popen takes them;
    None: there is none, or it could not do this."""
    if command[:3] != [sys.executable, "-m", "jupyter_gpu.kernel.shim"] or set(options) - {"env", "cwd", "stdout", "stderr"}:
        return None
    spare = _kept.pop(os.getpid(), None)
    if spare is None:
        return None
    with contextlib.ExitStack() as stack:
        stack.callback(spare.orders.close)
        outputs = [_descriptor(options.get(name), number, stack) for name, number in (("stdout", 1), ("stderr", 2))]
        if None in outputs or spare.process.poll() is not None:
            _give_up(spare)
            return None
        told = {"arguments": command[3:], "env": dict(options["env"]), "cwd": str(options.get("cwd") or os.getcwd())}
        try:
            data = json.dumps(told).encode()
            socket.send_fds(spare.orders, [len(data).to_bytes(8, "little")], [ready, *[o for o in outputs if o is not None]])
            spare.orders.sendall(data)
        except (OSError, ValueError):
            _give_up(spare)
            return None
        return spare.process


def _give_up(spare: Spare) -> None:
    spare.process.kill()
    spare.process.wait()


def _descriptor(wanted: Any, inherited: int, stack: contextlib.ExitStack) -> int | None:
    """None: a pipe to whoever starts the kernel, which has to be there from the beginning."""
    if wanted is None:
        return inherited
    if wanted == subprocess.DEVNULL:
        null = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, null)
        return null
    if isinstance(wanted, int):
        return wanted if wanted >= 0 else None
    return int(wanted.fileno())


def wait_for_orders(descriptor: int) -> tuple[list[str], int] | None:
    """In the spare: (arguments, descriptor that tells how the start goes), and the rest of it is done; None: nobody needs it."""
    orders = socket.socket(fileno=descriptor)
    with orders:
        if not select.select([orders], [], [], _IDLE)[0]:
            return None
        head, found, _, _ = socket.recv_fds(orders, 8, _STANDARD)
        if len(head) < 8:
            return None
        size, data = int.from_bytes(head, "little"), b""
        while len(data) < min(size, _MOST):
            more = orders.recv(size - len(data))
            if not more:
                return None
            data += more
    told = json.loads(data)
    ready, out, err = found
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    os.environ.clear()
    os.environ.update(told["env"])
    os.chdir(told["cwd"])
    return told["arguments"], ready
