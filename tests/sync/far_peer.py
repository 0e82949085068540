"""The other end of a sync as a process of its own: reads commands from stdin, answers on stdout. Only bytes go in between."""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any

import msgspec

from jupyter_gpu.sync.names import analyze
from jupyter_gpu.sync.replica import Replica
from jupyter_gpu.wire.errors import JupyterGpuError
from jupyter_gpu.wire.messages import Snapshot

NAMESPACE: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
KERNEL = Replica(NAMESPACE, "kernel")


def take(snapshot: bytes, stream: bytes, buffers: list[bytes]) -> None:
    KERNEL.apply(msgspec.msgpack.decode(snapshot, type=Snapshot), stream, [memoryview(bytearray(b)) for b in buffers])


def run(code: str) -> tuple[str, Any, bytes, bytes, list[bytes], list[str]]:
    mark, error = KERNEL.mark(), ""
    try:
        exec(compile(code, "<cell>", "exec", dont_inherit=True), NAMESPACE)
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    PENDING[:] = [KERNEL.export(KERNEL.touched(mark, analyze(code, lambda text: text)), deleted=KERNEL.deleted(mark))]
    export = PENDING[0]
    return (
        error,
        None,
        msgspec.msgpack.encode(export.snapshot),
        export.stream,
        [bytes(b) for b in export.buffers],
        [s.path for s in export.stuck],
    )


def settle(ok: bool) -> None:
    (KERNEL.confirm if ok else KERNEL.abandon)(PENDING.pop())


PENDING: list[Any] = []


def main() -> None:
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            name, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            reply = ("ok", globals()[name](*arguments))
        except JupyterGpuError as error:
            reply = ("error", str(error))
        pickle.dump(reply, replies)
        replies.flush()


if __name__ == "__main__":
    main()
