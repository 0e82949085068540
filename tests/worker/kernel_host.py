"""Forks kernels for the tests, as the zygote does: one process that has built the kernel once, and got a socket per request."""

from __future__ import annotations

import os
import signal
import socket
import sys


def main() -> None:
    from jupyter_gpu_worker.kernel import build
    from jupyter_gpu_worker.main import run_kernel

    os.environ.pop("PYTEST_CURRENT_TEST", None)  # ipykernel captures no file descriptors where it is set
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies here
    kernel = build()
    requests = socket.socket(fileno=int(sys.argv[1]))
    requests.send(b"ready")
    while True:
        data, fds, _, _ = socket.recv_fds(requests, 1, 1)
        if not data:
            return
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                requests.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                code = run_kernel(kernel, socket.socket(fileno=fds[0]), parent)
            finally:
                os._exit(code)
        os.close(fds[0])
        requests.send(str(pid).encode())


if __name__ == "__main__":
    main()
