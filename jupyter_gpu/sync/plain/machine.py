"""A pickle machine that knows nothing but what the kits know.

Python's own, in Python, with fewer opcodes: those that our ``Pickler`` writes, at protocol 5. The C one would call whatever is on its
stack. Here a stream can call only what an entry of a kit offers, can change only what it made itself, and has no way to look
inside of the objects of the notebook that it names by their tokens.
"""

from __future__ import annotations

import io
import pickle
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

from . import kits
from .entry import Entry, Refused, bounded
from .places import value_at

#: Of a key of a dict or of a part of a set: how many parts of its own are looked at, and how deep they may lie. To hash a tuple, C
#: recurses without a limit.
_KEY_PARTS = 10_000
_KEY_DEPTH = 50
_ATOMS = frozenset({int, float, str, bytes, bool, complex, type(None)})
_LISTS = frozenset({list, deque})
_HOLD = frozenset({list, deque, tuple, set, frozenset})
_DICTS = frozenset({dict, OrderedDict, defaultdict, Counter})
#: Entries of the memo among which an object is looked for that its state has replaced.
_BACK = 1000

_OPCODES = (
    "PROTO FRAME STOP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT SHORT_BINUNICODE BINUNICODE BINUNICODE8 "
    "SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_LIST EMPTY_TUPLE EMPTY_DICT EMPTY_SET MARK APPEND APPENDS SETITEM SETITEMS "
    "ADDITEMS FROZENSET TUPLE TUPLE1 TUPLE2 TUPLE3 MEMOIZE BINGET LONG_BINGET STACK_GLOBAL REDUCE NEWOBJ BUILD BINPERSID NEXT_BUFFER "
    "READONLY_BUFFER POP POP_MARK"
)  # fmt: skip


def _name_of(opcode: int) -> str:
    import pickletools

    return next((op.name for op in pickletools.opcodes if ord(op.code) == opcode), f"{opcode:#x}")


class _Dispatch(dict[int, Callable[[Any], None]]):
    def __missing__(self, opcode: int) -> Callable[[Any], None]:
        raise Refused(f"the pickle opcode {_name_of(opcode)}", "no value of a notebook is written with it")


_Python: Any = pickle._Unpickler


class Machine(_Python):  # type: ignore[misc]
    """Loads one pickle. ``resolve`` gives the object for a persistent id; without it there are none. Raises ``Refused`` by name,
    and whatever a damaged stream makes of Python's machine. ``memo``: index -> object."""

    dispatch: dict[int, Callable[[Any], None]]
    stack: list[Any]
    metastack: list[list[Any]]

    def __init__(
        self,
        stream: bytes | memoryview,
        buffers: Iterable[memoryview] | None = None,
        resolve: Callable[[Any], Any] | None = None,
    ) -> None:
        self._file = io.BytesIO(stream)
        super().__init__(self._file, buffers=buffers)
        self.memo: dict[int, Any] = {}
        self._left = len(stream)
        self._resolve = resolve
        self._live: dict[int, Any] = {}  #: objects of the notebook, which the stream may hold, and never change
        self._strange: dict[int, Any] = {}  #: those that may run code of the notebook's when they are compared, iterated over, hashed
        self._known: dict[int, tuple[str, Any, Entry]] = {}  #: by id of the object for which a name stands
        self._unfilled: dict[int, tuple[Any, Entry, str]] = {}

    @property
    def failing(self) -> int:
        """Position in a stream, that is one list of values, of the value that was being rebuilt."""
        frame = self._unframer.current_frame
        ahead = 0 if frame is None else len(frame.getbuffer()) - frame.tell()
        return value_at(self._file.getvalue(), self._file.tell() - ahead)

    # ------------------------------------------------------------ names

    def find_class(self, module: str, name: str) -> Any:
        found = kits.find(module, name)
        if found is None:
            raise Refused(f"{module}.{name}", kits.is_code(module, name))
        target, entry = found
        self._known[id(target)] = (f"{module}.{name}", target, entry)
        return target

    def persistent_load(self, pid: Any) -> Any:
        if self._resolve is None:
            raise Refused("a persistent id", "no object is known here")
        found = self._resolve(pid)
        self._live[id(found)] = found
        if not kits.is_plain(type(found)):
            self._strange[id(found)] = found
        return found

    def knows(self, obj: Any) -> bool:
        """Whether it is an object of the notebook's own, named by its token."""
        return id(obj) in self._live

    def _entry(self, obj: Any) -> tuple[str, Entry]:
        found = self._known.get(id(obj)) or kits.callable_of(obj)
        if found is None:  # what else lies on the stack: a result, an object of the notebook
            raise Refused(f"a call of a {type(obj).__qualname__}")
        return found[0], found[2]

    # ------------------------------------------------------------ what makes objects

    def _made(self, name: str, entry: Entry, make: Callable[..., Any] | None, args: Any) -> Any:
        if make is None:
            raise Refused(name, "it may be named, and not called")
        if type(args) is not tuple:
            raise Refused(name, "its arguments are no tuple")
        self._check_given(args, name)
        try:
            made = make(*args)
        except Refused:
            raise
        except Exception as error:  # a library's own words for arguments that it did not write
            raise Refused(name, f"{type(error).__name__}: {error}") from error
        if entry.fill is not None:
            self._unfilled[id(made)] = made, entry, name
        return made

    def _check_given(self, parts: Iterable[Any], name: str) -> None:
        """What a call, or a state, is given."""
        if self._strange:
            bounded(tuple(parts), self._parts_of, "objects of the notebook that are nested too deeply")
        if self._unfilled and any((held := self._unfilled.get(id(p))) is not None and held[1].must for p in parts):
            raise Refused(name, "it was given what is not complete")

    def _parts_of(self, part: Any) -> Iterable[Any]:
        if id(part) in self._strange:
            raise Refused(f"a {type(part).__module__}.{type(part).__qualname__} of the notebook", "it was given to a call")
        if type(part) in _DICTS:
            return [*part.keys(), *part.values()]
        return part if type(part) in _HOLD else ()

    def load_reduce(self) -> None:
        args = self.stack.pop()
        name, entry = self._entry(self.stack[-1])
        self.stack[-1] = self._made(name, entry, entry.make, args)

    def load_newobj(self) -> None:
        args = self.stack.pop()
        name, entry = self._entry(self.stack[-1])
        self.stack[-1] = self._made(name, entry, entry.new, args)

    def load_build(self) -> None:
        state = self.stack.pop()
        old = self.stack[-1]
        held = self._unfilled.pop(id(old), None)
        if held is None or held[1].fill is None or id(old) in self._live:
            raise Refused(f"the state of a {type(old).__module__}.{type(old).__qualname__}")
        self._check_given(state.values() if type(state) is dict else state if type(state) in (tuple, list) else (state,), held[2])
        try:
            new = held[1].fill(old, state)
        except Refused:
            raise
        except Exception as error:
            raise Refused(held[2], f"{type(error).__name__}: {error}") from error
        if new is not old:
            self.stack[-1] = new
            for index in range(len(self.memo) - 1, max(-1, len(self.memo) - _BACK), -1):
                if self.memo[index] is old:
                    self.memo[index] = new
                    break

    def load(self) -> Any:
        value = super().load()
        unfilled = next((name for _, entry, name in self._unfilled.values() if entry.must), None)
        if unfilled is not None:
            raise Refused(unfilled, "its state is missing")
        return value

    # ------------------------------------------------------------ what fills containers

    def _mine(self, kinds: frozenset[type]) -> Any:
        """The container on top, which this stream has made."""
        held = self.stack[-1]
        if type(held) not in kinds or id(held) in self._live:
            raise Refused(f"a change of a {type(held).__module__}.{type(held).__qualname__}")
        return held

    def load_append(self) -> None:
        value = self.stack.pop()
        self._mine(_LISTS).append(value)

    def load_appends(self) -> None:
        items = self.pop_mark()
        self._mine(_LISTS).extend(items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        held = self._mine(_DICTS)
        check_key(key)
        held[key] = value

    def load_setitems(self) -> None:
        items = self.pop_mark()
        held = self._mine(_DICTS)
        for i in range(0, len(items) - 1, 2):
            key = items[i]
            if type(key) not in _ATOMS:
                check_key(key)
            held[key] = items[i + 1]

    def load_additems(self) -> None:
        items = self.pop_mark()
        held = self._mine(frozenset({set}))
        for item in items:
            check_key(item)
        held.update(items)

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        for item in items:
            check_key(item)
        self.append(frozenset(items))

    # ------------------------------------------------------------ memory

    def load_bytearray8(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        if size > self._left:  # it would be allocated before it is read
            raise pickle.UnpicklingError("a bytearray that is longer than the stream")
        data = self.read(size)
        if len(data) != size:
            raise pickle.UnpicklingError("the stream ends within a bytearray")
        self.append(bytearray(data))

    def load_readonly_buffer(self) -> None:
        buffer = self.stack[-1]
        if type(buffer) is not memoryview:
            raise Refused("READONLY_BUFFER of what is no buffer")
        self.stack[-1] = buffer.toreadonly()

    def load_pop(self) -> None:
        if self.stack:
            del self.stack[-1]
        else:
            self.pop_mark()

    def load_memoize(self) -> None:
        memo = self.memo
        memo[len(memo)] = self.stack[-1]


def check_key(key: Any) -> None:
    """Raises ``Refused`` for what is no key of plain data: to hash it could run code of the notebook's, or take for ever."""
    if type(key) in _ATOMS:
        return
    todo, looked = [(key, 0)], 0
    while todo:
        part, depth = todo.pop()
        kind = type(part)
        looked += 1
        if looked > _KEY_PARTS or depth > _KEY_DEPTH:
            raise Refused("a key that is too large to be one")
        if kind is tuple or kind is frozenset:
            todo.extend((inner, depth + 1) for inner in part)
        elif kind not in _ATOMS and not kits.is_hashable(kind) and not kits.is_member(part):
            raise Refused(f"a key of type {kind.__module__}.{kind.__qualname__}")


def _table() -> dict[int, Callable[[Any], None]]:
    """Our own method for an opcode where there is one, else Python's."""
    own = {
        "REDUCE": Machine.load_reduce, "NEWOBJ": Machine.load_newobj, "BUILD": Machine.load_build, "APPEND": Machine.load_append,
        "APPENDS": Machine.load_appends, "SETITEM": Machine.load_setitem, "SETITEMS": Machine.load_setitems, "POP": Machine.load_pop,
        "ADDITEMS": Machine.load_additems, "FROZENSET": Machine.load_frozenset, "BYTEARRAY8": Machine.load_bytearray8,
        "READONLY_BUFFER": Machine.load_readonly_buffer, "MEMOIZE": Machine.load_memoize,
    }  # fmt: skip
    codes = {name: getattr(pickle, name)[0] for name in _OPCODES.split()}
    return {code: own.get(name) or _Python.dispatch[code] for name, code in codes.items()}


Machine.dispatch = _Dispatch(_table())


def loads(stream: bytes | memoryview) -> Any:
    """A pickle of builtin values alone. Raises ``Refused`` for anything that has a name."""
    return _Nameless(stream).load()


class _Nameless(Machine):
    def find_class(self, module: str, name: str) -> Any:
        raise Refused(f"{module}.{name}")
