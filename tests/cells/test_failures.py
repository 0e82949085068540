from __future__ import annotations

from typing import Any

import pytest

from jupyter_gpu.cells.failures import RemoteError, local_exception, show_once
from jupyter_gpu.wire import messages
from jupyter_gpu.wire.messages import BufferRef

REF = BufferRef(b"digest", 3, 0)


def error(ename: str, evalue: str = "the message", pickled: BufferRef | None = REF) -> messages.RemoteError:
    return messages.RemoteError(ename=ename, evalue=evalue, traceback=["remote line 1", "remote line 2"], pickled=pickled)


def failing(ref: BufferRef) -> Any:
    raise TypeError("__init__() missing 2 required positional arguments")


def shown(exception: BaseException) -> list[str]:
    return exception._render_traceback_()  # type: ignore[attr-defined, no-any-return]


def test_the_exception_itself_with_its_attributes() -> None:
    original = KeyError("x")
    original.note = 7  # type: ignore[attr-defined]
    found = local_exception(error("KeyError"), lambda ref: original if ref is REF else None)
    assert found is original and shown(found) == ["remote line 1", "remote line 2"]


@pytest.mark.parametrize("load", [failing, lambda ref: "no exception at all"], ids=["fails", "is none"])
@pytest.mark.parametrize(
    "ename", ["ValueError", "KeyError", "ZeroDivisionError", "FileNotFoundError", "UnicodeDecodeError", "StopIteration"]
)
def test_one_that_cannot_come_is_caught_by_its_name_all_the_same(ename: str, load: Any) -> None:
    found = local_exception(error(ename), load)
    kind = getattr(__builtins__, ename, None) or __builtins__[ename]  # type: ignore[index]
    assert isinstance(found, RemoteError) and type(found).__name__ == ename
    assert str(found) == "the message" and (found.ename, found.evalue) == (ename, "the message")
    assert shown(found) == ["remote line 1", "remote line 2"]
    if ename != "UnicodeDecodeError":  # its constructor takes other arguments
        assert isinstance(found, kind)


@pytest.mark.parametrize("ename", ["TheirError", "", "print", "SystemExit", "GeneratorExit", "SyntaxError", "ExceptionGroup", "__import__"])
def test_a_name_that_is_no_ordinary_exceptions_here(ename: str) -> None:
    found = local_exception(error(ename, pickled=None), failing)
    assert isinstance(found, RemoteError) and type(found).__mro__[1:] == RemoteError.__mro__
    assert type(found).__name__ == (ename or "RemoteError"), "SystemExit above all must not end the local kernel"


def test_a_name_that_no_class_can_have() -> None:
    found = local_exception(error("Bad\0Name", pickled=None), failing)
    assert isinstance(found, RemoteError) and type(found).__name__ == "BadName" and found.ename == "Bad\0Name"


def test_keyboard_interrupt_is_never_loaded() -> None:
    found = local_exception(error("KeyboardInterrupt", ""), lambda ref: pytest.fail("not needed"))
    assert type(found) is KeyboardInterrupt and found.args == ()
    assert local_exception(error("KeyboardInterrupt", "why"), failing).args == ("why",)


def test_a_class_that_takes_no_attributes() -> None:
    class Closed(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError("closed")

    found = local_exception(error("Closed"), lambda ref: Closed())
    assert isinstance(found, RemoteError) and shown(found) == ["remote line 1", "remote line 2"]


class Shell:
    """As far as ``show_once`` knows one."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        self.shown.append("IPython's own")

    def _showtraceback(self, kind: Any, value: Any, lines: list[str]) -> None:
        self.shown.append(lines)


def show(shell: Shell, exception: BaseException) -> None:
    try:
        raise exception
    except BaseException:
        shell.showtraceback()


def test_a_syntax_error_of_the_remote_cell_is_shown_as_it_was_there_once() -> None:
    shell = Shell()
    found = local_exception(error("SyntaxError"), lambda ref: SyntaxError("bad"))
    show_once(shell, found)
    show_once(shell, found)  # not twice over one another
    show(shell, found)
    show(shell, found)
    assert shell.shown == [["remote line 1", "remote line 2"], "IPython's own"]
    assert "showtraceback" not in vars(shell)


def test_another_exception_in_between_is_shown_as_ever() -> None:
    shell = Shell()
    show_once(shell, local_exception(error("SyntaxError"), lambda ref: SyntaxError("bad")))
    show(shell, ValueError("something else"))
    assert shell.shown == ["IPython's own"] and "showtraceback" not in vars(shell)


def test_ordinary_exceptions_need_nothing() -> None:
    shell = Shell()
    show_once(shell, ValueError("x"))
    assert "showtraceback" not in vars(shell)
