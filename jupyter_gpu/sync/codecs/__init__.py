"""How values of certain libraries travel, where their own way would lose what aliases what, or copy what need not be copied.

Each library's codec is a module that is loaded when a type of that library is first met; none imports its library by itself.

Others add theirs by an entry point of the group ``jupyter_gpu.codecs``. Its name is the top-level package whose types it is for, and
it refers to a module or an object as in ``base.Codec``::

    [project.entry-points."jupyter_gpu.codecs"]
    mylibrary = "mylibrary.jupyter_gpu_codec"

It must be installed at both ends, since the pickles name its functions. It is looked for when a type of ``mylibrary`` is met for the
first time; one that cannot be loaded, or fails, is a warning, and the library's own way is taken. The built-in codecs come first.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

from ..flat import is_flat, is_long_and_flat
from .arrays import _load_flat, _view, begin_load, is_made_view, loaded_flats, note_flat, note_view, views_among
from .base import Codec, Route

if TYPE_CHECKING:
    from ..pickler import Pickler

__all__ = [
    "Codec",
    "Route",
    "_load_flat",
    "_view",
    "begin_load",
    "is_flat",
    "is_long_and_flat",
    "is_made_view",
    "loaded_flats",
    "note_flat",
    "note_view",
    "route_of",
    "trusted_names",
    "views_among",
]

GROUP = "jupyter_gpu.codecs"
#: Top-level package of a type -> module of the codec.
_BUILT_IN = {
    "numpy": ".arrays",
    "pandas": ".frames",
    "polars": ".polars_codec",
    "pyarrow": ".arrow",
    "torch": "..torch_codec",
    "jax": ".jax_codec",
    "jaxlib": ".jax_codec",
    "PIL": ".images",
    "matplotlib": ".figures",
}
#: Packages whose types are met all the time, and need no codec.
_NONE = sys.stdlib_module_names | {"__main__", "jupyter_gpu", "scipy", "sklearn"}


def route_of(kind: type, pickler: Pickler) -> Route | None:
    """The reducer for instances of ``kind``; None: the library's own."""
    for library in _libraries_of(kind):
        if library in _NONE or library not in sys.modules or (codec := _codec_of(library)) is None:
            continue
        try:
            route = codec.route_of(kind, pickler)
        except Exception as error:
            if library in _BUILT_IN:
                raise
            _tell(library, error)
            continue
        if route is not None:
            return route
    return None


def trusted_names() -> frozenset[str]:
    """What the built-in codecs call to rebuild values: "module:qualname"."""
    return frozenset().union(*(_built_in(module).trusted for module in _BUILT_IN.values()))


def _libraries_of(kind: type) -> list[str]:
    """Top-level packages of a class and its bases, in their order."""
    found = (getattr(base, "__module__", None) for base in kind.__mro__)
    return list(dict.fromkeys(m.partition(".")[0] for m in found if isinstance(m, str)))


@lru_cache(maxsize=1024)
def _codec_of(library: str) -> Codec | None:
    if (module := _BUILT_IN.get(library)) is not None:
        return _built_in(module)
    for point in _entry_points():
        if point.name == library:
            try:
                codec: Codec = point.load()
                if not callable(codec.route_of) or not isinstance(codec.trusted, frozenset):
                    raise TypeError("it is no codec")
                return codec
            except Exception as error:
                _tell(library, error)
    return None


def _built_in(module: str) -> Codec:
    codec: Codec = importlib.import_module(module, __package__)
    return codec


@lru_cache(maxsize=1)
def _entry_points() -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=GROUP))


@lru_cache(maxsize=64)
def _warned(library: str, reason: str) -> None:
    warnings.warn(f"the codec for {library} does not work, and {library}'s own way is taken: {reason}", RuntimeWarning, stacklevel=4)


def _tell(library: str, error: Exception) -> None:
    _warned(library, f"{type(error).__name__}: {error}")
