"""Which variables go along with a cell, and which of those that cannot are a reason not to run it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from ..sync.handles import Handle
from ..sync.replica import Export, is_hidden
from ..wire.errors import NoSuchName, ValueCannotTravel
from ..wire.messages import CannotTravel, CellNames
from .options import Options
from .remote import Remote, home_of

#: The remote kernel has its own.
_SHELLS_OWN = frozenset({"get_ipython", "exit", "quit", "open", "display"})
_PLAIN_HIDDEN = _SHELLS_OWN | {"In", "Out"}


def names_of_cell(shell: Any, options: Options, names: CellNames) -> list[str]:
    """Names to send, as far as they are written in the cell or in ``in=``. Raises ``NoSuchName`` for one of ``in=``."""
    namespace = shell.user_ns
    if options.sent is not None:
        for name in options.sent:
            if name not in namespace:
                close = difflib.get_close_matches(name, [n for n in namespace if not is_hidden(n)], n=1)
                raise NoSuchName(name=name, option="in", nearest=close[0] if close else "")
        return list(options.sent)
    hidden = shell.user_ns_hidden
    return [
        n for n in dict.fromkeys((*names.loads, *names.deletes))
        if n in namespace and not (n in _SHELLS_OWN and hidden.get(n) is namespace[n])
    ]  # fmt: skip


def stubs_of(shell: Any, export: Export) -> list[str]:
    """Names that the kernel may ask for."""
    gone = export.sent.keys() | export.unchanged.keys()
    # IPython leaves hundreds of names that begin with an underscore: the cheap test first.
    return [n for n in shell.user_ns if (n[:1] != "_" or not is_hidden(n)) and n not in gone and n not in _PLAIN_HIDDEN]


def check_stuck(export: Export, names: CellNames, asked: Sequence[str] | None) -> None:
    """Raises ``ValueCannotTravel`` if the cell needs something that cannot travel. A name that the cell binds itself
    (``for f in files``) may well not need its old value: it stays here, and is fetched if it is needed after all."""
    needed = [s for s in export.stuck if s.name not in names.stores or (asked is not None and s.name in asked)]
    if needed:
        raise cannot_travel(needed)


def cannot_travel(stuck: Sequence[CannotTravel]) -> ValueCannotTravel:
    first, *others = stuck
    return ValueCannotTravel(name=first.name, path=first.path, type=first.type, reason=first.reason, others=[o.path for o in others])


def check_handles(shell: Any, remote: Remote, names: Sequence[str]) -> None:
    """A handle means something in its own session alone. Raises ``ValueCannotTravel``."""
    for name in names:
        if isinstance(value := shell.user_ns.get(name), Handle):
            _check_handle(remote, name, value)


def check_held(remote: Remote, export: Export) -> None:
    """The same for handles inside of what goes along."""
    for name, handle in export.handles:
        _check_handle(remote, name, handle)


def _check_handle(remote: Remote, name: str, handle: Handle) -> None:
    home = home_of(handle)
    if home is remote:
        return
    own = handle.info.name
    if home is None or home.ended:
        reason = "it stayed in a session that has ended, and is gone with it"
    else:
        reason = f"it stayed in the session {home.name or home.label}, and this cell runs in another; "
        reason += f"{own} = {own}.fetch() brings it here first"
    raise ValueCannotTravel(name=name, path=name if own == name else f"the handle {own} inside of it", type=handle.type, reason=reason)
