"""What makes a whole kernel movable: two requests on its shell channel, and ``%remote move``."""

from __future__ import annotations

import ast
import contextlib
import gc
import io
import logging
import threading
from functools import partial
from typing import Any

import msgspec

from jupyter_gpu.wire import moving
from jupyter_gpu.wire.errors import BadOptionValue, CannotMove, JupyterGpuError

from . import belongings, leaving
from .arriving import arrive
from .leaving import leave

_log = logging.getLogger(__name__)

#: By this name the kernel has what moves it, for whoever else defines ``%remote``.
MOVE = "jupyter_gpu_move"


def install(kernel: Any) -> None:
    """Of a kernel that was initialized, and has not run any code of the person's."""
    belongings.remember()
    leaving.remember()
    move = partial(_move, kernel)
    setattr(kernel, MOVE, move)
    kernel.shell_handlers[moving.LEAVE] = partial(_leave_request, kernel)
    kernel.shell_handlers[moving.ARRIVE] = partial(_arrive_request, kernel)

    def remote(line: str) -> Any:
        """%remote move H100 [without=NAME,...] [anyway]; %remote move local"""
        command, _, rest = line.strip().partition(" ")
        if command == "move":
            return move(rest)
        kernel.shell.extension_manager.load_extension("jupyter_gpu")  # whose %remote takes the place of this one
        return kernel.shell.run_line_magic("remote", line)

    kernel.shell.register_magic_function(remote, magic_kind="line", magic_name="remote")


def parse(text: str) -> moving.Leaving:
    """``H100 without=lock,gen anyway``. Raises ``BadOptionValue``."""
    to, without, anyway = "", list[str](), False
    for word in text.split():
        option, equals, value = word.partition("=")
        if option == "without" and equals:
            without += [name for name in value.split(",") if name]
        elif word == "anyway":
            anyway = True
        elif not to and option in ("gpu", word):
            to = value or word
        else:
            raise BadOptionValue(option="%remote move", value=text.strip(), expected=_EXPECTED)
    if not to:
        raise BadOptionValue(option="%remote move", value=text.strip(), expected=_EXPECTED)
    return moving.Leaving(to=to, without=without, anyway=anyway)


_EXPECTED = "hardware or `local`, then without=NAME,... or anyway: `%remote move H100 without=lock`"


def _move(kernel: Any, text: str) -> None:
    """``%remote move``. Returns in a kernel that is given up; the shim answers for the cell."""
    wish = parse(text)
    if threading.current_thread() is not threading.main_thread():
        raise CannotMove(reason="it was asked to by a thread", instead="Run `%remote move` in a cell.")
    if not _is_last(kernel.shell, str(kernel.get_parent("shell").get("content", {}).get("code", ""))):
        raise CannotMove(
            reason="something follows `%remote move` in its cell, and would not run",
            instead="Make it the last line of its cell; nothing was moved.",
        )
    leave(kernel, wish, in_cell=True)
    _given_up(kernel)


def _is_last(shell: Any, cell: str) -> bool:
    """Whether nothing of the cell is left to do after the magic."""
    try:
        tree = ast.parse(shell.transform_cell(cell))
    except (SyntaxError, ValueError):
        return False
    last = tree.body[-1] if tree.body else None
    return isinstance(last, ast.Expr) and "run_line_magic('remote', 'move" in ast.unparse(last)


def _leave_request(kernel: Any, stream: Any, ident: Any, parent: Any) -> None:
    """A front end wants the kernel elsewhere; what it says of a failure, the shim answers."""
    try:
        leave(kernel, msgspec.convert(parent["content"], moving.Leaving), in_cell=False)
        _given_up(kernel)
    except JupyterGpuError as error:
        _log.info("not moved: %s", error)


def _arrive_request(kernel: Any, stream: Any, ident: Any, parent: Any) -> None:
    arrive(kernel)


def _given_up(kernel: Any) -> None:
    """Another kernel goes on: what waits here is its to do. This one still does what it has to at its end, for which it gets seconds: what
    was written to files comes first."""
    for kind in ("execute_request", "comm_open", "comm_msg", "comm_close", "inspect_request", "complete_request", "history_request"):
        kernel.shell_handlers[kind] = _nothing
    for file in [found for found in gc.get_objects() if isinstance(found, io.IOBase)]:
        with contextlib.suppress(Exception):
            if not file.closed and file.writable():
                file.flush()


def _nothing(stream: Any, ident: Any, parent: Any) -> None:
    """Somebody else does it."""
