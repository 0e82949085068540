"""Makes a shell know ``%remote``, ``%%remote`` and ``# remote:``. Light: what runs a cell is imported by the first one."""

from __future__ import annotations

from typing import Any

from .help import HELP
from .transform import RemoteTransform

_TRANSFORM = "_jupyter_gpu_transform"


def register(shell: Any) -> None:
    """May be called again (``%reload_ext``)."""

    def remote_line(line: str) -> Any:
        from .magic import line_magic

        return line_magic(shell, line)

    def remote_cell(line: str, cell: str) -> None:
        from .magic import cell_magic

        cell_magic(shell, line, cell)

    remote_line.__doc__ = remote_cell.__doc__ = HELP
    for function, kind in ((remote_line, "line"), (remote_cell, "cell")):
        function.__name__ = function.__qualname__ = "remote"
        shell.register_magic_function(function, magic_kind=kind, magic_name="remote")
    if not isinstance(getattr(shell, _TRANSFORM, None), RemoteTransform):
        transform = RemoteTransform(shell)
        setattr(shell, _TRANSFORM, transform)
        shell.input_transformers_cleanup.append(transform)


def transform_of(shell: Any) -> RemoteTransform:
    found = getattr(shell, _TRANSFORM, None)
    if not isinstance(found, RemoteTransform):
        register(shell)
        found = getattr(shell, _TRANSFORM)
    assert isinstance(found, RemoteTransform)
    return found


def unregister(shell: Any) -> None:
    transform = getattr(shell, _TRANSFORM, None)
    if transform is not None:
        shell.input_transformers_cleanup[:] = [t for t in shell.input_transformers_cleanup if t is not transform]
        delattr(shell, _TRANSFORM)
    for magics in shell.magics_manager.magics.values():
        magics.pop("remote", None)
    notebook = getattr(shell, "_jupyter_gpu", None)
    if notebook is not None:
        del shell._jupyter_gpu
        notebook.close()
