"""matplotlib: a figure that arrives is no window of the other end's, and pyplot there does not show it a second time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .base import Route

if TYPE_CHECKING:
    from ..pickler import Pickler

#: None: a figure is rebuilt by whatever its artists are made of.
trusted: frozenset[str] = frozenset()
#: In a figure's state, that pyplot managed it.
_MANAGED = "_restore_to_pylab"


def route_of(kind: type, pickler: Pickler) -> Route | None:
    figures = sys.modules.get("matplotlib.figure")
    return _reduce_figure if figures is not None and issubclass(kind, figures.Figure) else None


def _reduce_figure(pickler: Pickler, figure: Any) -> Any:
    reduced = pickler._reduce_once(figure)
    if isinstance(reduced, tuple) and len(reduced) > 2 and isinstance(state := reduced[2], dict) and _MANAGED in state:
        return *reduced[:2], {key: value for key, value in state.items() if key != _MANAGED}, *reduced[3:]
    return reduced
