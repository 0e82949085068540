"""What a cell leaves behind besides variables: ``_`` and ``Out``, and the payloads of its reply."""

from __future__ import annotations

import json
from typing import Any

#: Would end or confuse the LOCAL kernel.
_NOT_HERE = frozenset({"ask_exit"})


class ResultCache:
    """Keeps ``_`` true while a snapshot that carries a result under that name is taken over. A result that stayed remote comes as
    a handle under the name that it has in the session's history, ``_12``."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._missing = object()
        self._before = shell.user_ns.get("_", self._missing)

    def take(self) -> None:
        """The value bound to ``_`` is the cell's result: into ``Out``, ``_``, ``__`` and ``___`` as if it had been displayed here,
        without displaying it again."""
        self._put(self._shell.user_ns.get("_"))

    def take_handle(self, name: str) -> None:
        """The same for the handle bound to ``name``."""
        self._put(self._shell.user_ns[name])

    def _put(self, result: Any) -> None:
        namespace, hook = self._shell.user_ns, self._shell.displayhook
        if self._before is self._missing:
            namespace.pop("_", None)
        else:
            namespace["_"] = self._before  # which the displayhook compares with its own
        hook.update_user_ns(result)
        hook.fill_exec_result(result)


def run_payloads(shell: Any, data: bytes) -> None:
    """``set_next_input``, pages of help and the like, as if the cell had asked for them here."""
    if len(data) <= 2:
        return
    for payload in json.loads(data):
        if payload.get("source") in _NOT_HERE:
            continue
        if getattr(shell, "kernel", None) is not None:
            shell.payload_manager.write_payload(payload)
        elif payload.get("source") == "set_next_input":
            shell.set_next_input(payload.get("text", ""), replace=bool(payload.get("replace")))
        elif payload.get("source") == "page":
            from IPython.core import page

            page.page(payload.get("data", {}).get("text/plain", ""), start=payload.get("start", 0))
