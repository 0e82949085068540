"""Names that a cell uses and that nobody sent: asked from the client when they are looked up."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable
from typing import Any


class FetchingBuiltins(dict[str, Any]):
    """``__builtins__`` of the user's globals: a name that is not there either is asked from the client.

    The globals themselves stay an exact dict: subclassing them would send every lookup of a builtin through Python."""

    def __init__(self, fetch: Callable[[str], Any]) -> None:
        """``fetch(name)`` raises ``KeyError`` for one that cannot be had."""
        super().__init__(vars(builtins))
        self._fetch = fetch
        self._fetching = False

    def __missing__(self, name: str) -> Any:
        # Other threads cannot wait at the pipe; and what is looked up while a value arrives is that value's own business.
        if self._fetching or threading.current_thread() is not threading.main_thread():
            raise KeyError(name)
        self._fetching = True
        try:
            return self._fetch(name)
        finally:
            self._fetching = False


class Shelf:
    """Names that a cell binds without reading them: the value here may be older than the client's, which was not sent for nothing.

    They are taken out of the namespace while the cell runs. So a binding of the very same object is seen as one, and whatever
    looks such a name up after all gets the client's present value from the backstop."""

    def __init__(self, namespace: dict[str, Any], names: list[str]) -> None:
        self._namespace = namespace
        self._values = {name: namespace.pop(name) for name in names if name in namespace}

    def take(self, name: str) -> Any:
        """The value of a name, back in the namespace. Raises ``KeyError``."""
        value = self._namespace[name] = self._values.pop(name)
        return value

    def drop(self, name: str) -> None:
        """The client has sent a present value."""
        self._values.pop(name, None)

    def put_back(self) -> list[str]:
        """After the cell: names that it has bound anew. The others have their old value again."""
        bound = [name for name in self._values if name in self._namespace]
        for name, value in self._values.items():
            self._namespace.setdefault(name, value)
        self._values.clear()
        return bound
