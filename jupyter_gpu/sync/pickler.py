"""Pickling towards the other end: C speed, functions that keep reading the notebook's globals, classes that keep their identity.

Builds on cloudpickle, whose pickler is a subclass of the C one; what differs is said at each place.
"""

from __future__ import annotations

import functools
import io
import pickle
import threading
from functools import partial
from itertools import islice
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import cloudpickle

from . import codecs
from .elsewhere import Environment, reduce_environment, why_elsewhere
from .flat import IN_BAND, Flats, Known, pickled
from .handles import Handle
from .imports import imports_in
from .inplace import content_of, home_of, is_found_by_name
from .kept import KEPT
from .lazy import LazyModule
from .loading import (
    bound_there,
    empty_cell,
    fill_cell,
    load_code,
    make_cached,
    make_class,
    make_function,
    named_module,
    own_dict,
    set_class_state,
)  # fmt: skip
from .names import globals_of
from .reductions import (
    _reduce_cached_property,
    _reduce_cell,
    _reduce_code,
    _reduce_function,
    _reduce_handle,
    _reduce_memoryview,
    _reduce_own_dict,
    _under,
    _whole_layout,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .objects import KnownObjects, Token

_UNSEEN = object()
#: Items that an iterator of a ``__reduce__`` may give, and how many of them are taken at once.
_MOST_ITEMS = 1 << 26
_SLICE = 1 << 16
#: Methods that say how instances are pickled: where one is written in Python, it may have side effects, and runs once per sync.
_STATE_METHODS = ("__getstate__", "__reduce__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__")


#: What a pickler notes about a value.
NOTED = ("globals_seen", "notes", "handles", "imports", "modules", "bare_modules", "private", "storages")


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles into ``self.file``. While it works it notes ``globals_seen`` (names that the notebook's functions read) and ``modules``
    (dotted names of what is pickled by reference) and ``bare_modules`` (modules that are values themselves).

    ``reduced`` is shared by the picklers of one sync: what the person's ``__getstate__`` and the like gave, so that none of them
    runs twice. ``views``: see ``codecs.views_among``. ``flats``: known arrays of plain objects, for which a stand-in will do.
    """

    kept_any = False  #: whether it passes over what stays here

    def __init__(
        self,
        namespace: dict[str, Any],
        reduced: Reduced | None = None,
        views: dict[int, Any] | None = None,
        flats: Flats | None = None,
    ) -> None:
        self.file = io.BytesIO()
        self.buffers: list[pickle.PickleBuffer] = []
        # No bound methods here or in ``_routes``: they would make a cycle, and keep all that is in the memo alive until the collector
        # comes by.
        super().__init__(self.file, protocol=5, buffer_callback=partial(self._take_buffer, self.buffers))
        self.namespace = namespace
        self.globals_seen: set[str] = set()
        self.notes: list[tuple[Any, str]] = []  #: what means nothing elsewhere, and why
        self.handles: list[Handle] = []
        self.imports: set[str] = set()  #: modules that the notebook's functions import when they run
        self.modules: set[str] = set()
        self.bare_modules: set[str] = set()
        self.reduced: Reduced = {} if reduced is None else reduced
        self.views = views or {}
        self.flats = flats
        self.private: dict[int, Any] = {}  #: arrays that stand for a library's internals, and must stay apart
        self.storages: dict[int, Any] = {}
        self.met_arrays = False
        self._routes: dict[type, codecs.Route | None] = {}

    def renew(self) -> None:
        """For another value: as new, but for what it knows of kinds. What was found in the last one is somebody else's by now."""
        self.clear_memo()
        self.file.seek(0)
        self.file.truncate()
        self.buffers.clear()
        self.globals_ref.clear()
        for name in NOTED:
            if found := getattr(self, name):
                setattr(self, name, type(found)())
        self.met_arrays = self.fast = False

    @property
    def dispatch_table(self) -> Any:
        # cloudpickle's is a ChainMap, which costs a microsecond for each instance. `reducer_override` looks there once per type.
        raise AttributeError("dispatch_table")

    @staticmethod
    def _take_buffer(buffers: list[pickle.PickleBuffer], buffer: pickle.PickleBuffer) -> bool:
        """Whether it stays in the stream."""
        with memoryview(buffer) as view:
            if (
                view.nbytes <= IN_BAND and not view.readonly and type(view.obj) is not Known
            ):  # what is read-only would come out of the stream read-only
                return True
        buffers.append(buffer)
        return False

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        route = self._routes.get(kind, _UNSEEN)
        if route is _UNSEEN:
            route = self._routes[kind] = _route_of(kind, self)
        return NotImplemented if route is None else route(self, obj)  # type: ignore[operator]

    def _reduce_function(self, obj: FunctionType) -> Any:
        if obj.__globals__ is self.namespace:
            self.globals_seen |= globals_of(obj)
            self.imports |= imports_in(obj.__code__)
            return _reduce_function(obj)
        if obj in _BY_NAME:  # at both ends, and in every other pickle
            return NotImplemented
        home = None if is_found_by_name(obj) else home_of(obj)
        self.modules.add(home or obj.__module__ or "")
        return super().reducer_override(obj) if home is None else _reduce_function(obj, home)

    def _reduce_cached(self, obj: Any) -> Any:
        """``lru_cache`` around a function of the notebook: without what it keeps, which is no part of what it gives."""
        wrapped = getattr(obj, "__wrapped__", None)
        if not isinstance(wrapped, FunctionType) or wrapped.__globals__ is not self.namespace:
            return NotImplemented
        how = obj.cache_parameters()
        return make_cached, (wrapped, how["maxsize"], how["typed"]), dict(obj.__dict__)

    def _reduce_builtin(self, obj: Any) -> Any:
        self.modules.add(getattr(obj, "__module__", None) or "")
        return NotImplemented

    def _reduce_module(self, obj: ModuleType) -> Any:
        self.bare_modules.add(obj.__name__)
        if isinstance(obj, LazyModule):
            return named_module, (obj.__name__,)
        reduced = cloudpickle.cloudpickle._module_reduce(obj)
        by_name = reduced[0] is cloudpickle.cloudpickle.subimport
        return (named_module, reduced[1]) if by_name else reduced

    def _reduce_once(self, obj: Any) -> Any:
        if (found := self.reduced.get(id(obj))) is None:
            found = self.reduced[id(obj)] = (obj, _reduced(obj))
        reduced = found[1]
        if isinstance(reduced, _Failed):
            raise reduced.error
        if not isinstance(reduced, tuple):
            return reduced
        return tuple(iter(part) if i in (3, 4) and part is not None else part for i, part in enumerate(reduced))

    def _reduce_class(self, cls: type) -> Any:
        reduced = super().reducer_override(cls)
        if isinstance(reduced, tuple) and len(reduced) == 6:
            return make_class, (reduced[0], *_whole_layout(cls, reduced)), *reduced[2:5], set_class_state  # made in the notebook
        self.modules.add(cls.__module__)
        return reduced


#: Functions that our own pickles call.
_BY_NAME: frozenset[Any] = frozenset(
    {bound_there, empty_cell, fill_cell, load_code, make_class, make_function, named_module, own_dict, set_class_state}
)


class ReductionInterrupted(Exception):
    """Raised by a kernel's handler of signals while code of the person's says how a value is pickled."""

    def __str__(self) -> str:
        return "the stop button was pressed while its __reduce__ ran"


class _Reducing(threading.local):
    """Whether this thread is within code of the person's: only there may an interrupt end a pickle, and only that value's."""

    depth = 0


reducing = _Reducing()


class _Failed:
    """In the place of what ``__reduce_ex__`` gave: it raised."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _reduced(obj: Any) -> Any:
    """What ``__reduce_ex__`` gives, whose iterators could be used once only, as lists. A failure is kept too: to ask again would run
    the person's code twice, and may take as long."""
    reducing.depth += 1
    try:
        reduced = obj.__reduce_ex__(5)
        if not isinstance(reduced, tuple):
            return reduced
        return tuple(_listed(part) if i in (3, 4) and part is not None else part for i, part in enumerate(reduced))
    except Exception as error:
        return _Failed(error)
    finally:
        reducing.depth -= 1


def _listed(items: Any) -> list[Any]:
    """By slices: ``list`` of an endless iterator that is written in C would not even see an interrupt."""
    iterator, found = iter(items), []
    while chunk := list(islice(iterator, _SLICE)):
        found += chunk
        if len(found) > _MOST_ITEMS:
            raise pickle.PicklingError(f"its __reduce__ gives more than {_MOST_ITEMS:,} items, and seems not to end")
    return found


#: id -> (the object, so that the id stays true; what its ``__reduce_ex__`` gave)
Reduced = dict[int, tuple[Any, Any]]


def _route_of(kind: type, pickler: Pickler) -> codecs.Route | None:
    """Who reduces instances of ``kind``; None: pickle itself. Asked once for each kind: what means nothing elsewhere is noted at no cost
    for anything else."""
    route = _reducer_of(kind, pickler)
    if issubclass(kind, type) or not (why := why_elsewhere(kind)):
        return route

    def noting(pickler: Pickler, obj: Any) -> Any:
        pickler.notes.append((obj, why))
        return NotImplemented if route is None else route(pickler, obj)

    return noting


def _reducer_of(kind: type, pickler: Pickler) -> codecs.Route | None:
    if (own := _ROUTES.get(kind)) is not None:
        return own
    if issubclass(kind, type):
        return Pickler._reduce_class
    if issubclass(kind, ModuleType):
        return Pickler._reduce_module
    if (codec := codecs.route_of(kind, pickler)) is not None:
        return codec
    listed = cloudpickle.Pickler.dispatch_table.get(kind)
    if listed is not None:
        return lambda _, obj: listed(obj)
    if any(isinstance(getattr(kind, name, None), FunctionType) for name in _STATE_METHODS):
        return Pickler._reduce_once
    if (
        issubclass(kind, dict)
        and kind.__dictoffset__
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
    ):
        return lambda _, obj: _reduce_own_dict(obj)
    return None


_ROUTES: dict[type, codecs.Route] = {
    FunctionType: Pickler._reduce_function,
    BuiltinFunctionType: Pickler._reduce_builtin,
    CellType: lambda _, cell: _reduce_cell(cell),
    CodeType: lambda _, code: _reduce_code(code),
    Environment: lambda _, environment: reduce_environment(environment),
    memoryview: lambda _, view: _reduce_memoryview(view),
    functools._lru_cache_wrapper: Pickler._reduce_cached,
    functools.cached_property: lambda _, prop: _reduce_cached_property(prop),
    MappingProxyType: lambda _, proxy: (MappingProxyType, (_under(proxy),)),
    WeakKeyDictionary: lambda _, weak: (WeakKeyDictionary, (), None, None, iter(list(weak.items()))),
    WeakValueDictionary: lambda _, weak: (WeakValueDictionary, (), None, None, iter(list(weak.items()))),
    Handle: lambda pickler, handle: _reduce_handle(pickler, handle),
}


class KeepingPickler(Pickler):
    """Passes over values that stay at the kernel: in the client's copy of what holds them, their handles take their place.

    ``kept``: id -> key, of ``Kept.keys``."""

    kept_any = True

    def __init__(self, kept: Mapping[int, str], *args: Any) -> None:
        super().__init__(*args)
        self._key_of = kept.get

    def persistent_id(self, obj: Any) -> Any:
        key = self._key_of(id(obj))
        return None if key is None else (KEPT, key)


def pickler_for(
    namespace: dict[str, Any],
    reduced: Reduced | None = None,
    views: dict[int, Any] | None = None,
    flats: Flats | None = None,
    kept: Mapping[int, str] | None = None,
) -> Pickler:
    """One that knows of no objects at the other end. It looks out for what is kept only where something is: that costs a call for each
    part of a value."""
    if kept:
        return KeepingPickler(kept, namespace, reduced, views, flats)
    return Pickler(namespace, reduced, views, flats)


def _first_of(kept: Mapping[int, str], tokens: Mapping[int, Token]) -> Any:
    key_of, token_of = kept.get, tokens.get

    def find(key: int) -> Any:
        return token_of(key) if (found := key_of(key)) is None else found

    return find


class TokenPickler(Pickler):
    """Refers to objects that both ends have by their tokens. The first time in a stream, the content goes along: the other end
    updates its object there and then, before anything that was pickled after it is rebuilt (a ``__setstate__``, a hash). Should it
    have let go of the object, the content makes a new one.

    ``clean``: id -> name of values of names that are the same at both ends: for these the token is enough.
    """

    def __init__(
        self,
        namespace: dict[str, Any],
        reduced: Reduced,
        views: dict[int, Any],
        known: KnownObjects,
        clean: dict[int, str],
        kept: Mapping[int, str] | None = None,
    ) -> None:
        super().__init__(namespace, reduced, views)
        # Keys of what is kept are text, tokens are numbers: one look-up for each part of a value, as if nothing were kept.
        self._find: Any = _first_of(kept, known.tokens) if kept else known.tokens.get
        self._known = known
        self._clean = clean
        self.told: dict[int, Any] = {}
        self._whole: Any = None

    def persistent_id(self, obj: Any) -> Any:
        token = self._find(id(obj))
        return None if token is None else (KEPT, token) if type(token) is str else self._refer(obj, token)

    def _refer(self, obj: Any, token: Token) -> Any:
        if obj is self._whole:
            self._whole = None
            return None  # inside of its own update: by value, once
        key = id(obj)
        if key in self.told:
            return token
        if self._known.find(token) is not obj:
            return None  # that one is gone, and its id is another's now
        self.told[key] = obj
        if (name := self._clean.get(key)) is not None:
            return "same", token, name
        kind, content = content_of(obj)
        if kind == "twin":
            self._whole = obj
        elif codecs.is_long_and_flat(content):
            # Nothing in it can be known, and to be asked for each number would cost ten times the pickle. The same bytes as when it
            # went for the first time: then a delta finds them.
            return kind + "!", token, bytes(pickled(content))
        return kind, token, content
