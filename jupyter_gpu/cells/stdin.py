"""``input()`` and ``getpass()`` of a remote cell, answered through the local kernel on the main thread."""

from __future__ import annotations

from typing import Any

from ..wire.codec import BytesLike
from .envelope import Envelope, build


def allowed(shell: Any) -> bool:
    """Whether a front end listens that can ask."""
    kernel = getattr(shell, "kernel", None)
    return True if kernel is None else bool(kernel._allow_stdin)


def answer(shell: Any, request: Envelope) -> list[BytesLike]:
    """Ask, and return the parts of the ``input_reply``. Raises ``KeyboardInterrupt`` as ``input`` does; end of file becomes the
    character that ipykernel takes for it."""
    content = request.content
    try:
        value = _ask(getattr(shell, "kernel", None), str(content.get("prompt", "")), bool(content.get("password")))
    except EOFError:
        value = "\x04"
    return build("input_reply", {"status": "ok", "value": value}, request.header)


def _ask(kernel: Any, prompt: str, password: bool) -> str:
    if kernel is not None:
        return str(kernel.getpass(prompt) if password else kernel.raw_input(prompt))
    if password:
        import getpass

        return getpass.getpass(prompt)
    return input(prompt)
