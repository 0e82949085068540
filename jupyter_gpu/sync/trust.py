"""What a worker's bytes may become at the notebook: anything that a pickle says (``code``), or plain data alone (``data``).

Towards the worker there is no such choice: what a person sends, and the cell itself, is code, which is the product.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from types import CellType
from typing import Any, Literal

from ..wire.errors import BadOptionValue, SnapshotRefused, UntrustedValue
from .inplace import Undo
from .kept import KEPT
from .loading import Unpickler
from .plain.entry import Refused
from .plain.machine import Machine, loads

Trust = Literal["code", "data"]

#: What each kind of content is, in a persistent id, and of what the object is that it goes into.
_CONTENTS: dict[str, tuple[type, type]] = {
    "list": (list, list),
    "dict": (dict, dict),
    "set": (set, set),
    "bytearray": (bytes, bytearray),
    "cell": (tuple, CellType),
}
#: Names by which the shell and Python find things of their own: a worker does not bind them.
_SHELL = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open", "display", "__builtins__", "__builtin__"})
#: Of ``_`` and of names like it: the shell's own, but for the result of the cell.
_RESULT = "_"


def chosen(configured: str, own: bool) -> Trust:
    """The setting in force. ``configured``: "code", "data" or "" (by the gateway: one's ``own`` is trusted with code). Raises
    ``BadOptionValue``."""
    if configured in ("code", "data"):
        return "code" if configured == "code" else "data"
    if configured:
        raise BadOptionValue(option="trust", value=configured, expected='"code", "data", or nothing (by whose gateway it is)')
    return "code" if own else "data"


def sentence(trust: Trust) -> str:
    """For a person who asks what is in force."""
    if trust == "code":
        return "trust=code: what comes back is unpickled, so a worker can run code here, as this notebook does there"
    return (
        "trust=data: of variables that come back only plain data and arrays are rebuilt here; "
        "outputs are shown as they are, HTML and JavaScript included"
    )


def may_bind(name: str, trust: Trust) -> bool:
    """Whether a worker may bind, or delete, this name in the notebook."""
    if trust == "code" or name == _RESULT or name == "__annotations__":
        return True
    if not name.isidentifier() or name in _SHELL or (name.startswith("__") and name.endswith("__")):
        return False
    return not (
        name[:1] == "_"
        and (name.strip("_") == "" or name[1:] in ("ih", "oh", "dh", "sh", "i", "ii", "iii") or (name[:2] == "_i" and name[2:].isdigit()))
    )


def unpickler(
    trust: Trust,
    stream: bytes | memoryview,
    buffers: Iterable[memoryview],
    namespace: dict[str, Any],
    resolve: Callable[[Any], Any],
    remote: Callable[[str], Any] | None,
    journal: list[Undo],
    lazily: bool,
) -> Any:
    """What reads one pickle of a snapshot: has ``load()``, and ``memo`` of which a copy maps indices to objects."""
    if trust == "data":
        return Machine(stream, buffers, resolve)
    return Unpickler(stream, buffers, namespace, resolve, remote, journal, lazily)


def plain(data: Any, trust: Trust) -> Any:
    """Plain content that was pickled apart."""
    return loads(data) if trust == "data" else pickle.loads(data)


def check_update(live: Any, kind: str, content: Any, is_live: bool) -> None:
    """Whether ``content`` is what may go into ``live`` (None: there is no such object any more). Raises ``Refused``: a worker changes
    plain containers, and objects that it sent whole, of the same class; not one of the notebook's objects through another."""
    if kind == "twin":
        if is_live or (live is not None and type(content) is not type(live)):
            raise Refused(f"a change of a {_name(live)}", f"it would become a {_name(content)}")
        return
    expected: Any = _CONTENTS.get(kind)
    if expected is None or type(content) is not expected[0] or (live is not None and type(live) is not expected[1]):
        raise Refused(f"a change of a {_name(live)}", f"the content is a {_name(content)}")
    if kind == "cell" and len(content) > 1:
        raise Refused("a cell of a closure", "it holds one value")


def check_pid(pid: Any) -> None:
    """Raises ``SnapshotRefused`` for a persistent id that none of ours would be."""
    if type(pid) is int or (type(pid) is tuple and len(pid) == 2 and pid[0] == KEPT and type(pid[1]) is str):
        return
    if type(pid) is not tuple or len(pid) != 3 or type(pid[0]) is not str or type(pid[1]) is not int:
        raise SnapshotRefused(reason="it refers to an object by what is no token")
    if pid[0] == "same" and type(pid[2]) is not str:
        raise SnapshotRefused(reason="it refers to an object by what is no name")


def untrusted(refused: dict[str, Refused]) -> UntrustedValue:
    """The error for the variables that were refused, and why."""
    (name, why), *others = refused.items()
    return UntrustedValue(
        variable=name,
        what=why.what,
        reason=why.reason,
        others=[other for other, _ in others],
        others_what=[found.what for _, found in others],
    )


def _name(obj: Any) -> str:
    return f"{type(obj).__module__}.{type(obj).__qualname__}".removeprefix("builtins.")
