"""An exception of a remote cell, raised here: of its real type where that can be, and shown with the remote traceback alone."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from ..wire import messages


class RemoteError(Exception):
    """Stands for an exception that could not travel. Its class is a subclass that bears the name of the remote one."""

    ename: str = ""
    evalue: str = ""

    def __str__(self) -> str:
        return self.evalue


#: Shown by IPython in ways of its own, in which ``_render_traceback_`` has no say.
_STUBBORN: tuple[type[BaseException], ...] = (SyntaxError, getattr(builtins, "BaseExceptionGroup", SyntaxError))


def local_exception(error: messages.RemoteError, load: Callable[[messages.BufferRef], Any]) -> BaseException:
    """The exception to raise for ``error``; ``load`` unpickles the remote one, and may fail."""
    if error.ename == "KeyboardInterrupt":
        found: BaseException = KeyboardInterrupt(error.evalue) if error.evalue else KeyboardInterrupt()
    else:
        found = _loaded(error, load) or _stand_in(error)
    try:
        found._render_traceback_ = lambda: list(error.traceback)  # type: ignore[attr-defined]
    except Exception:  # a class of the person's that refuses attributes
        found = _stand_in(error)
        found._render_traceback_ = lambda: list(error.traceback)  # type: ignore[attr-defined]
    return found


def _loaded(error: messages.RemoteError, load: Callable[[messages.BufferRef], Any]) -> BaseException | None:
    if error.pickled is None:
        return None
    try:
        found = load(error.pickled)
    except Exception:  # constructors of other people's exceptions take what arguments they like: the stand-in tells as much
        return None
    return found if isinstance(found, BaseException) else None


def _stand_in(error: messages.RemoteError) -> RemoteError:
    name = error.ename.replace("\0", "") or "RemoteError"
    kind = getattr(builtins, name, None)
    bases: tuple[type, ...] = (RemoteError,)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, _STUBBORN):
        bases = (RemoteError, kind)  # `except ValueError` around run_cell goes on to work
    try:
        found: RemoteError = type(name, bases, {})(error.evalue)
    except TypeError:  # layouts that cannot be combined, constructors with arguments of their own
        found = type(name, (RemoteError,), {})(error.evalue)
    found.ename, found.evalue = error.ename, error.evalue
    return found


def show_once(shell: Any, exception: BaseException) -> None:
    """Make ``shell`` show this one exception by its remote traceback even where IPython has another way for its type."""
    if not isinstance(exception, _STUBBORN) or "showtraceback" in vars(shell):
        return
    original = shell.showtraceback

    def showtraceback(*args: Any, **kwargs: Any) -> None:
        del shell.showtraceback
        import sys

        kind, value, _ = sys.exc_info()
        if value is exception:
            shell._showtraceback(kind, value, exception._render_traceback_())  # type: ignore[attr-defined]
        else:
            original(*args, **kwargs)

    shell.showtraceback = showtraceback
