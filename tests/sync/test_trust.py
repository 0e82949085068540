"""Under ``trust="data"`` a hostile worker's snapshot is refused by name, runs nothing, and leaves the notebook as it was."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import functools
import io
import ipaddress
import operator
import os
import pathlib
import pickle
import random
import re
import subprocess
import sys
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from hostile import (
    CANARY,
    Calls,
    by_our_pickler,
    call,
    dumped,
    four,
    long_int,
    named,
    pickled,
    registered,
    snapshot_of,
    text,
    touch,
)

from jupyter_gpu.sync import loading
from jupyter_gpu.sync.exceptions import dump_exception, load_exception
from jupyter_gpu.sync.plain.machine import Machine
from jupyter_gpu.sync.replica import Replica
from jupyter_gpu.sync.trust import chosen, may_bind, sentence
from jupyter_gpu.wire.errors import BadOptionValue, SnapshotRefused, UntrustedValue

pytestmark = pytest.mark.timeout(60)


class Mine:
    """A class of the notebook, with every hook that a stream could pull."""

    def __init__(self) -> None:
        self.value = 1

    def __setstate__(self, state: Any) -> None:
        touch()

    def __setitem__(self, key: Any, value: Any) -> None:
        touch()

    def append(self, value: Any) -> None:
        touch()

    extend = add = append

    def __call__(self, *args: Any) -> None:
        touch()

    def __hash__(self) -> int:
        touch()
        return 1

    def __eq__(self, other: object) -> bool:
        touch()
        return True

    def __iter__(self) -> Iterator[Any]:
        touch()
        return iter(())


class Notebook:
    """A client that trusts nobody, and has sent a few things to a worker."""

    def __init__(self) -> None:
        self.here: dict[str, Any] = {"__name__": "__main__", "kept": [1, 2], "table": {"a": 1}, "mine": Mine(), "array": np.arange(4.0)}
        self.here["touch"] = touch
        exec("def touch_me(*args): return touch()", self.here)
        self.client = Replica(self.here, "client", trust="data")
        export = self.client.export(["kept", "table", "mine", "array", "touch_me"])
        assert not export.stuck
        self.client.confirm(export)
        CANARY.clear()

    def token(self, name: str) -> int:
        return self.client.objects.tokens[id(self.here[name])]

    def picture(self) -> Any:
        here = self.here
        values = [list(here["kept"]), dict(here["table"]), vars(here["mine"]).copy(), here["array"].tolist(), here["touch_me"].__code__]
        return values, {name: id(value) for name, value in here.items()}

    def apply(self, *parts: tuple[list[str], bytes], **more: Any) -> Any:
        return self.client.apply(*snapshot_of(parts, **more))


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


def refused(notebook: Notebook, stream: bytes, what: str, names: list[str] | None = None, **more: Any) -> UntrustedValue:
    before, modules = notebook.picture(), set(sys.modules)
    with pytest.raises(UntrustedValue) as caught:
        notebook.apply((names or ["x"], stream), **more)
    assert what in caught.value.what, caught.value
    assert "fetch" in caught.value.hint and "JUPYTER_GPU_TRUST=code" in caught.value.hint
    assert notebook.picture() == before and CANARY == []
    assert not {"antigravity", "this", "turtle"} & (set(sys.modules) - modules)
    return caught.value


# ---------------------------------------------------------------- names that are code

BY_REDUCE: dict[str, tuple[Callable[[], Any], str]] = {
    "os.system": (lambda: Calls(os.system, "echo no"), "posix.system"),
    "subprocess": (lambda: Calls(subprocess.Popen, ["echo", "no"]), "subprocess.Popen"),
    "eval": (lambda: Calls(eval, "1"), "builtins.eval"),
    "exec": (lambda: Calls(exec, "1"), "builtins.exec"),
    "compile": (lambda: Calls(compile, "1", "f", "eval"), "builtins.compile"),
    "__import__": (lambda: Calls(__import__, "this"), "builtins.__import__"),
    "open": (lambda: Calls(open, "/dev/null"), "open"),
    "input": (lambda: Calls(input), "builtins.input"),
    "getattr": (lambda: Calls(getattr, "".join, "join"), "builtins.getattr"),
    "getattr of a class": (lambda: Calls(getattr, dict, "__subclasses__"), "builtins.getattr"),
    "getattr of an enumeration": (lambda: Calls(getattr, re.RegexFlag, "__class__"), "builtins.getattr"),
    "getattr chain": (lambda: Calls(getattr, Calls(getattr, object, "__class__"), "mro"), "builtins.getattr"),
    "setattr": (lambda: Calls(setattr, Calls(list), "x", 1), "builtins.setattr"),
    "globals": (lambda: Calls(globals), "builtins.globals"),
    "map": (lambda: Calls(map, touch, [1]), "builtins.map"),
    "type of three": (lambda: Calls(type, "X", (), {}), "builtins.type"),
    "type of an object": (lambda: Calls(type, 1), "builtins.type"),
    "partial": (lambda: functools.partial(touch, 1), "functools.partial"),
    "methodcaller": (lambda: operator.methodcaller("append", 1), "operator.methodcaller"),
    "attrgetter": (lambda: operator.attrgetter("__class__"), "operator.attrgetter"),
    "itemgetter": (lambda: operator.itemgetter(1), "operator.itemgetter"),
    "cloudpickle subimport": (lambda: Calls(cloudpickle.cloudpickle.subimport, "this"), "cloudpickle.cloudpickle.subimport"),
    "cloudpickle function": (lambda: Calls(cloudpickle.cloudpickle._make_function, 1, {}, "f", (), ()), "cloudpickle.cloudpickle._make_function"),
    "nested loads": (lambda: Calls(pickle.loads, dumped(Calls(touch))), "_pickle.loads"),
    "our own function": (lambda: Calls(touch), "touch"),
    "numpy load": (lambda: Calls(np.load, "/dev/null"), "numpy.load"),
    "numpy fromfile": (lambda: Calls(np.memmap, "/dev/null"), "numpy.memmap"),
    "pandas read_pickle": (lambda: Calls(pd.read_pickle, "/dev/null"), "read_pickle"),
    "pandas eval": (lambda: Calls(pd.eval, "1"), "eval"),
    "an opened file": (lambda: Calls(io.FileIO, "/dev/null"), "_io.FileIO"),
    "a method of a path": (lambda: Calls(getattr, pathlib.Path, "home"), "builtins.getattr"),
    "load_code": (lambda: Calls(loading.load_code, b"N"), "loading.load_code"),
    "make_function": (lambda: Calls(loading.make_function, 1, "f", None, None, None), "loading.make_function"),
    "bound_there": (lambda: Calls(loading.bound_there, "kept"), "loading.bound_there"),
    "class state setter": (lambda: Calls(loading.set_class_state, dict, ({}, None)), "loading.set_class_state"),
    "own_dict": (lambda: Calls(loading.own_dict, {}, True), "loading.own_dict"),
    "fill_cell": (lambda: Calls(loading.fill_cell, 1, (1,)), "loading.fill_cell"),
    "state setter of six": (lambda: Calls(list, more=(1, None, None, touch)), ""),
    "an exception that ends the shell": (lambda: SystemExit(1), "builtins.SystemExit"),
    "a module by our own way": (lambda: Calls(loading.named_module, "antigravity"), "loading.named_module"),
    "a lazy module": (lambda: Calls(loading.named_module, "turtle"), "loading.named_module"),
    "the notebook's module": (lambda: Calls(loading.named_module, "__main__"), "loading.named_module"),
    "a thread": (lambda: Calls(__import__("threading").Thread), "threading.Thread"),
    "an enumeration's maker": (lambda: Calls(enum.IntEnum, "E", ["A"]), "enum.IntEnum"),
    "a weak reference": (lambda: Calls(__import__("weakref").ref, re), "ref"),
    "a proxy": (lambda: Calls(types.MethodType, touch, 1), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_REDUCE)
def test_a_name_that_is_code(notebook: Notebook, name: str) -> None:
    make, what = BY_REDUCE[name]
    try:
        stream = dumped(make())
    except (pickle.PicklingError, AttributeError, TypeError):  # __main__ and the like have another way
        stream = by_our_pickler(make())
    refused(notebook, stream, what)


@pytest.mark.parametrize(
    "code",
    [
        "value = lambda: 1",
        "def value(): return touch()",
        "class value: pass",
        "class C: pass\nvalue = C()",
        "class C(dict): pass\nvalue = C(a=1)",
        "class C:\n    def __reduce__(self): return list, ()\nvalue = C",
        "import enum\nclass C(enum.Enum): A = 1\nvalue = C.A",
        "value = [x for x in [len, print]]",
        "value = (lambda x: lambda: x)(1)",
        "value = compile('1', 'f', 'eval')",
        "import types\nvalue = types.CodeType",
        "class E(Exception): pass\nvalue = E('x')",
        "import dataclasses\n@dataclasses.dataclass\nclass D:\n    a: int\nvalue = D(1)",
        "import collections\nP = collections.namedtuple('P', 'a')\nvalue = P(1)",
        "import collections\nvalue = collections.defaultdict(lambda: 1)",
        "import types\nvalue = types.ModuleType('made_here')",
    ],
)
def test_code_of_an_honest_worker(notebook: Notebook, code: str) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "touch": touch}
    exec(compile(code, "<there>", "exec", dont_inherit=True), namespace)
    refused(notebook, by_our_pickler(namespace["value"], namespace), "")


def test_a_class_that_is_here_takes_no_state(notebook: Notebook) -> None:
    """A tracker id that the notebook knows gives no way to its class."""
    stream = by_our_pickler(type("Theirs", (), {"__module__": "__main__", "f": lambda self: touch()}))
    refused(notebook, stream, "")


# ---------------------------------------------------------------- opcodes

RAW: dict[str, tuple[bytes, str]] = {
    "GLOBAL": (pickled(b"cos\nsystem\n", text("echo no"), b"\x85R"), "GLOBAL"),
    "INST": (pickled(b"(", text("echo no"), b"ios\nsystem\n"), "INST"),
    "OBJ": (pickled(b"(", named("os", "system"), text("echo no"), b"o"), "os.system"),
    "OBJ of what is allowed": (pickled(b"(", named("builtins", "list"), b"o"), "OBJ"),
    "NEWOBJ_EX": (pickled(named("builtins", "list"), b")}\x92"), "NEWOBJ_EX"),
    "NEWOBJ of a value": (pickled(named("builtins", "list"), b")\x81"), "builtins.list"),
    "EXT1": (pickled(b"\x82\xf1"), "EXT1"),
    "EXT2": (pickled(b"\x83\xf1\x00"), "EXT2"),
    "EXT4": (pickled(b"\x84\xf1\x00\x00\x00"), "EXT4"),
    "PERSID": (pickled(b"P1\n"), "PERSID"),
    "LONG_BINPUT far beyond": (pickled(b"]r\xff\xff\xff\x7f"), "LONG_BINPUT"),
    "BINPUT": (pickled(b"]q\x01"), "BINPUT"),
    "PUT": (pickled(b"]p99999999999\n"), "PUT"),
    "INT by text": (pickled(b"I" + b"9" * 5000 + b"\n"), "INT"),
    "LONG by text": (pickled(b"L" + b"9" * 5000 + b"L\n"), "LONG"),
    "STRING": (pickled(b"S'a'\n"), "STRING"),
    "UNICODE": (pickled(b"Va\n"), "UNICODE"),
    "DUP": (pickled(b"]2"), "DUP"),
    "DICT": (pickled(b"(d"), "DICT"),
    "an opcode that is none": (pickled(b"\xff"), "0xff"),
    "a call of a result": (pickled(named("builtins", "list"), b"\x85", b")R"), "a call of a tuple"),
    "a call of a string": (pickled(text("os.system"), b")R"), "a call of a str"),
    "arguments that are no tuple": (pickled(named("builtins", "range"), b"]R"), "builtins.range"),
    "state of a list": (pickled(b"]}b"), "the state of a"),
    "state of a class": (pickled(named("builtins", "list"), b"}b"), "the state of a"),
    "state of a named function": (pickled(named("builtins", "range"), b"}b"), "the state of a"),
    "a name with dots": (pickled(named("os", "path.os.system")), "os.path.os.system"),
    "a name below what is allowed": (pickled(named("builtins", "list.__class__")), "builtins.list.__class__"),
    "a dunder of a kit": (pickled(named("numpy", "__loader__")), "numpy.__loader__"),
    "numpy's testing": (pickled(named("numpy.testing._private.utils", "runstring")), "runstring"),
    "READONLY_BUFFER of a list": (pickled(b"]\x98"), "READONLY_BUFFER"),
    "items into a tuple": (pickled(b")(", text("a"), b"1", b"e"), ""),
    "a key that is a list": (pickled(b"}]Ns"), "a key of type builtins.list"),
    "a module as state": (pickled(named("builtins", "Exception"), b")R}", text("__class__"), named("builtins", "OSError"), b"sb"), "builtins.Exception"),
    "an enumeration called with more": (pickled(named("re", "RegexFlag"), text("X"), text("A"), b"\x86R"), "re.RegexFlag"),
}  # fmt: skip


@pytest.mark.parametrize("name", RAW)
def test_opcodes(notebook: Notebook, name: str) -> None:
    stream, what = RAW[name]
    if name in ("EXT1", "EXT2", "EXT4"):  # even where the code is known, and its function in the cache, which no find_class sees
        undo = registered(0xF1)
        try:
            refused(notebook, stream, what)
        finally:
            undo()
    elif name == "items into a tuple":
        before = notebook.picture()
        with pytest.raises((UntrustedValue, SnapshotRefused)):
            notebook.apply((["x"], stream))
        assert notebook.picture() == before
    else:
        refused(notebook, stream, what)


# ---------------------------------------------------------------- objects of the notebook


def test_a_function_of_the_notebook_is_not_called(notebook: Notebook) -> None:
    refused(notebook, pickled(long_int(notebook.token("touch_me")), b"Q", text("rm"), b"\x85R"), "a call of a function")


def test_an_object_of_the_notebook_is_not_called(notebook: Notebook) -> None:
    refused(notebook, pickled(long_int(notebook.token("mine")), b"Q)R"), "a call of a Mine")


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("mine", b"}b"),
        ("mine", b"K\x01a"),
        ("mine", b"(K\x01K\x02e"),
        ("mine", b"K\x01K\x02s"),
        ("mine", b"(K\x01K\x02u"),
        ("mine", b"(K\x01\x90"),
        ("kept", b"K\x01a"),
        ("kept", b"(K\x01e"),
        ("table", b"K\x01K\x02s"),
        ("table", b"(K\x01K\x02u"),
        ("array", b"K\x01K\x02s"),
        ("array", b"}b"),
        ("touch_me", b"}b"),
    ],
)
def test_the_machine_changes_nothing_of_the_notebooks(notebook: Notebook, name: str, rest: bytes) -> None:
    refused(notebook, pickled(long_int(notebook.token(name)), b"Q", rest), "")


def test_an_object_of_the_notebook_is_no_key(notebook: Notebook) -> None:
    mine = long_int(notebook.token("mine")) + b"Q"
    refused(notebook, pickled(b"}", mine, b"K\x01s"), "a key of type")
    refused(notebook, pickled(b"\x8f(", mine, b"\x90"), "a key of type")
    refused(notebook, pickled(b"(", mine, b"\x91"), "a key of type")


def test_an_object_of_the_notebook_takes_no_state_of_another(notebook: Notebook) -> None:
    """("twin", token of one, another): their contents would be exchanged."""
    notebook.here["other"] = Mine()
    notebook.client.confirm(notebook.client.export(["other"]))
    CANARY.clear()
    other = long_int(notebook.token("other")) + b"Q"
    refused(notebook, pickled(text("twin"), long_int(notebook.token("mine")), other, b"\x87Q"), "a change of a")


@pytest.mark.parametrize(
    "rest",
    [
        named("builtins", "ValueError") + b"%sR",
        named("builtins", "ValueError") + b")R}" + text("args") + b"%0sb",
        named("builtins", "ValueError") + b")R}" + text("x") + b"]%0asb",
        named("collections", "OrderedDict") + b"%R",
        named("collections", "Counter") + b"%R",
        named("collections", "deque") + b"%R",
        named("types", "SimpleNamespace") + b")R}" + text("a") + b"(%0tsb",
        named("pandas", "DataFrame") + b")\x81}" + text("_typ") + b"%0sb",
        named("pandas", "DataFrame") + b")\x81}" + text("_metadata") + b"]%0asb",
        named("datetime", "timezone") + b"%R",
    ],
)
def test_an_object_of_the_notebook_is_given_to_nobody(notebook: Notebook, rest: bytes) -> None:
    """Its hooks would run: __iter__, __eq__, __bool__, __len__."""
    mine = long_int(notebook.token("mine")) + b"Q"
    stream = pickled(rest.replace(b"%0", mine).replace(b"%s", mine + b"\x85").replace(b"%", mine + b"\x85"))
    refused(notebook, stream, "of the notebook")


def test_an_object_of_the_notebook_may_be_held(notebook: Notebook) -> None:
    notebook.apply((["x"], pickled(b"](", long_int(notebook.token("mine")), b"QK\x01e")))
    assert notebook.here["x"][0] is notebook.here["mine"] and CANARY == []


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("list", "mine", b"]"),
        ("dict", "mine", b"}"),
        ("dict", "kept", b"}"),
        ("list", "kept", b"}"),
        ("list", "touch_me", b"]"),
        ("cell", "touch_me", b")"),
        ("twin", "mine", b"]"),
        ("twin", "touch_me", b"]"),
        ("twin", "kept", named("builtins", "list")),
        ("nonsense", "kept", b"]"),
        ("bytearray", "kept", b"C\x00"),
        ("list", "kept", None),
        ("set", "table", b"\x8f"),
    ],
)
def test_contents_go_where_they_belong(notebook: Notebook, kind: str, name: str, content: bytes | None) -> None:
    if content is None:  # an iterable of the notebook's
        content = long_int(notebook.token("mine")) + b"Q"
    refused(notebook, pickled(text(kind), long_int(notebook.token(name)), content, b"\x87Q"), "a change of a")


def test_plain_content_is_plain(notebook: Notebook) -> None:
    nested = dumped([Calls(touch)])
    stream = pickled(text("list!"), long_int(notebook.token("kept")), b"B" + four(len(nested)) + nested, b"\x87Q")
    refused(notebook, stream, "touch")


@pytest.mark.parametrize(
    "pid",
    [
        b"N",
        text("abc"),
        b"]",
        b")",
        b"K\x01\x85",
        text("same") + b"NN\x87",
        text("same") + b"K\x01N\x87",
        b"NK\x01N\x87",
        b"G" + b"\x00" * 8,
    ],
)
def test_persistent_ids_that_are_no_tokens(notebook: Notebook, pid: bytes) -> None:
    before = notebook.picture()
    with pytest.raises(SnapshotRefused, match="by what is no"):
        notebook.apply((["x"], pickled(pid, b"Q")))
    assert notebook.picture() == before and CANARY == []


def test_tokens_of_objects_that_were_never_sent(notebook: Notebook) -> None:
    notebook.here["secret"] = ["never sent"]
    before = notebook.picture()
    for pid in (long_int(123456789), text("same") + long_int(987654321) + text("secret") + b"\x87"):
        with pytest.raises(SnapshotRefused, match="no longer here"):
            notebook.apply((["x"], pickled(pid, b"Q")))
    assert notebook.picture() == before and "x" not in notebook.here


def test_a_replacement_does_not_reach_beyond_what_travels(notebook: Notebook) -> None:
    """An array that changed its shape is replaced wherever plain containers hold it: one that never travelled is never named."""
    holder = {"a": notebook.here["array"], "b": []}
    twin = by_our_pickler(np.arange(3.0))[2:-1]
    notebook.apply((["x"], pickled(text("twin"), long_int(notebook.token("array")), twin, b"\x87Q")))
    assert holder["a"].tolist() == [0, 1, 2] and notebook.here["array"] is holder["a"]


# ---------------------------------------------------------------- what is allowed, with hostile arguments

_B = "(i4"


def array_of(value: Any) -> bytes:
    return by_our_pickler(value)[2:-1]


def _dtype(code: str, *state: bytes) -> bytes:
    made = call("numpy", "dtype", text(code), b"\x89", b"\x88")
    return made + (b"(" + b"".join(state) + b"tb" if state else b"")


_NONE = b"N"
_INT = b"J\xff\xff\xff\xff"
_OBJECT_FIELD = b"}" + text("a") + _dtype("O8") + b"K\x00\x86s"

ARGUMENTS: dict[str, tuple[bytes, str]] = {
    "a type with objects that says it has none": (
        # Flags of 0: numpy would read the bytes of an array as addresses of objects.
        call(
            "numpy._core.multiarray",
            "scalar",
            _dtype("V8", b"K\x03", text("|"), _NONE, text("a") + b"\x85", _OBJECT_FIELD, b"K\x08", b"K\x01", b"K\x00"),
            b"C\x08AAAAAAAA",
        ),
        "scalar",
    ),
    "an array of addresses": (
        call("numpy._core.numeric", "_frombuffer", b"C\x08AAAAAAAA", _dtype("O8"), b"K\x01\x85", text("C")),
        "_frombuffer",
    ),
    "a scalar of an address": (call("numpy._core.multiarray", "scalar", _dtype("O8"), b"C\x08AAAAAAAA"), "scalar"),
    "a type of nonsense": (call("numpy", "dtype", text("__import__('os')"), b"\x89", b"\x88"), "numpy.dtype"),
    "a type of an object": (call("numpy", "dtype", b"]", b"\x89", b"\x88"), "numpy.dtype"),
    "a field beyond the size": (
        _dtype("V8", b"K\x03", text("|"), _NONE, text("a") + b"\x85", b"}" + text("a") + _dtype("f8") + b"K\x40\x86s", b"K\x08", b"K\x01", b"K\x00"),
        "numpy.dtype",
    ),
    "an array of another class": (
        call("numpy._core.multiarray", "_reconstruct", named("numpy", "matrix"), b"K\x00\x85", b"C\x01b"),
        "numpy.matrix",
    ),
    "an array of a terabyte": (
        call("numpy._core.multiarray", "_reconstruct", named("numpy", "ndarray"), long_int(1 << 40) + b"\x85", b"C\x01b"),
        "_reconstruct",
    ),
    "an array without its state": (
        call("numpy._core.multiarray", "_reconstruct", named("numpy", "ndarray"), b"K\x00\x85", b"C\x01b"),
        "_reconstruct",
    ),
    "an array with fewer bytes than its shape": (
        call("numpy._core.multiarray", "_reconstruct", named("numpy", "ndarray"), b"K\x00\x85", b"C\x01b")
        + b"(K\x01"
        + long_int(1 << 40)
        + b"\x85"
        + _dtype("f8")
        + b"\x89C\x08AAAAAAAAtb",
        "_reconstruct",
    ),
    "a view beyond its array": (
        call("jupyter_gpu.sync.codecs", "_view", array_of(np.zeros(2)), b"K\x00", long_int(1000) + b"\x85", b"K\x08\x85", _dtype("f8")),
        "_view",
    ),
    "a view that is blown up": (
        call("jupyter_gpu.sync.codecs", "_view", array_of(np.zeros(2)), b"K\x00", long_int(1 << 40) + b"\x85", b"K\x00\x85", _dtype("f8")),
        "_view",
    ),
    "a view of objects": (
        call("jupyter_gpu.sync.codecs", "_view", array_of(np.array([None])), b"K\x00", b"K\x01\x85", b"K\x08\x85", _dtype("f8")),
        "_view",
    ),
    "strings that are code": (
        call("jupyter_gpu.sync.codecs", "_load_flat", b"C" + bytes([len(dumped(Calls(touch)))]) + dumped(Calls(touch)), b"K\x01\x85", b"\x89"),
        "touch",
    ),
    "strings of another number": (
        call("jupyter_gpu.sync.codecs", "_load_flat", b"C" + bytes([len(dumped([1]))]) + dumped([1]), long_int(1 << 40) + b"\x85", b"\x89"),
        "_load_flat",
    ),
    "a generator's position": (
        call("numpy.random._pickle", "__bit_generator_ctor", text("Philox"))
        + b"}"
        + text("state")
        + b"}s"
        + text("buffer_pos")
        + long_int(1 << 20)
        + b"sb",
        "__bit_generator_ctor",
    ),
    "seeds by their memory": (
        call("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence", named("numpy.random.bit_generator", "SeedSequence"), b"K\x01", b"]"),
        "SeedSequence",
    ),
    "a fraction of a googol": (call("fractions", "Fraction", text("1e999999999")), "fractions.Fraction"),
    "a bytearray of a terabyte": (call("builtins", "bytearray", long_int(1 << 40)), "builtins.bytearray"),
    "a factory that is code": (call("collections", "defaultdict", named("builtins", "type")), "collections.defaultdict"),
    "a deque of what is there": (call("collections", "deque", text("abc")), "collections.deque"),
    "a zone outside of its folder": (call("zoneinfo", "ZoneInfo._unpickle", text("../../etc/passwd"), b"\x88"), "zoneinfo"),
    "a path of objects": (call("pathlib", "PosixPath", b"]"), "pathlib.PosixPath"),
    "a number of an object": (call("decimal", "Decimal", b"]"), "decimal.Decimal"),
    "a slice of objects": (call("builtins", "slice", b"]", b"N", b"N"), "builtins.slice"),
    "a pattern that prints": (call("re", "_compile", b"]", b"K\x00"), "re._compile"),
    "attributes of an exception": (
        call("builtins", "ValueError", text("x")) + b"}" + text("__traceback__") + b"Nsb",
        "builtins.ValueError",
    ),
    "a unique id by attributes": (named("uuid", "UUID") + b")\x81}" + text("fields") + b"Nsb", "uuid.UUID"),
    "a file in memory with attributes": (named("_io", "BytesIO") + b")\x81(C\x00K\x00" + named("builtins", "list") + b"tb", "_io.BytesIO"),
    "a frame without a manager": (named("pandas", "DataFrame") + b")\x81}" + text("_mgr") + b"]sb", "pandas.DataFrame"),
    "a frame with a method": (named("pandas", "DataFrame") + b")\x81}" + text("to_csv") + named("builtins", "list") + b"sb", "pandas.DataFrame"),
    "a frame that was never filled": (named("pandas", "DataFrame") + b")\x81", "pandas.DataFrame"),
    "columns in places that are not": (
        call(
            "pandas.core.internals.managers",
            "BlockManager",
            call("pandas._libs.internals", "_unpickle_block", array_of(np.zeros((1, 2))), call("builtins", "slice", long_int(1 << 30), long_int((1 << 30) + 1), b"K\x01"), b"K\x02")
            + b"\x85",
            b"](" + array_of(pd.RangeIndex(1)) + array_of(pd.RangeIndex(2)) + b"e",
        ),
        "BlockManager",
    ),
    "a block with another placement": (
        call("pandas._libs.internals", "_unpickle_block", array_of(np.zeros((1, 2))), call("builtins", "slice", b"K\x00", b"K\x09", b"K\x01"), b"K\x02"),
        "_unpickle_block",
    ),
    "codes that are no categories": (
        call("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked", named("pandas", "Categorical"), b"K\x01", b"N")
        + array_of(pd.CategoricalDtype(["a"]))
        + array_of(np.array([0, 100], np.int8))
        + b"\x86b",
        "__pyx_unpickle_NDArrayBacked",
    ),
    "codes beyond the levels": (
        call(
            "pandas.core.indexes.base",
            "_new_Index",
            named("pandas", "MultiIndex"),
            array_of({"levels": [pd.Index([1])], "codes": [np.array([7], np.int8)], "names": [None]}),
        ),
        "_new_Index",
    ),
    "a mask of another length": (
        named("pandas.arrays", "IntegerArray") + b")\x81" + array_of({"_data": np.arange(9), "_mask": np.array([True])}) + b"b",
        "IntegerArray",
    ),
    "an index of functions": (call("pandas.core.indexes.base", "_new_Index", named("builtins", "list"), b"}"), "_new_Index"),
    "memory without an array": (
        call("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked", named("pandas.arrays", "DatetimeArray"), b"K\x01", b"N"),
        "__pyx_unpickle_NDArrayBacked",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
def test_what_is_allowed_with_hostile_arguments(notebook: Notebook, name: str) -> None:
    stream, what = ARGUMENTS[name]
    refused(notebook, pickled(stream), what)


def test_buffers_for_objects(notebook: Notebook) -> None:
    stream = pickled(call("numpy._core.numeric", "_frombuffer", b"\x97", _dtype("O8"), b"K\x01\x85", text("C")))
    refused(notebook, stream, "_frombuffer", buffers=[b"A" * 8])


def test_an_array_is_filled_once(notebook: Notebook) -> None:
    """A second state would free the memory that a view looks at."""
    state = b"(K\x01K\x01\x85" + _dtype("u1") + b"\x89C\x01At"
    array = call("numpy._core.multiarray", "_reconstruct", named("numpy", "ndarray"), b"K\x00\x85", b"C\x01b")
    refused(notebook, pickled(array, state, b"b", state, b"b"), "the state of a")


@pytest.mark.parametrize("layout", ["csr", "csc", "coo"])
def test_sparse_matrices_that_point_elsewhere(notebook: Notebook, layout: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    matrix = getattr(sparse, f"{layout}_array")(np.eye(3))
    wild = matrix.coords[0] if layout == "coo" else matrix.indices
    wild[1] = 1 << 20
    refused(notebook, by_our_pickler(matrix), f"{layout}_array")


@pytest.mark.parametrize("how", ["short", "offsets", "children", "buffers"])
def test_arrow_arrays_that_point_elsewhere(notebook: Notebook, how: str) -> None:
    pa = pytest.importorskip("pyarrow")
    kind, length, nulls, offset, buffers, children, _ = pa.array(["ab", "c"]).__reduce__()[1][0]
    if how == "short":
        length = 1 << 30
    elif how == "offsets":
        buffers = [None, pa.py_buffer(bytearray(np.array([0, 1 << 20, 1 << 21], np.int32).tobytes())), buffers[2]]
    elif how == "children":
        children = [(kind, length, nulls, offset, buffers, [], None)]
    else:
        buffers = []
    refused(
        notebook, by_our_pickler(Calls(pa.lib._restore_array, (kind, length, nulls, offset, buffers, children, None))), "_restore_array"
    )


def test_polars_plans_are_code(notebook: Notebook) -> None:
    pl = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    refused(notebook, by_our_pickler(pl.DataFrame({"a": [1]}).lazy()), "LazyFrame")
    refused(notebook, by_our_pickler(pl.lit(1)), "Expr")
    refused(notebook, pickled(named("polars.dataframe.frame", "DataFrame"), b")\x81C\x04abcdb"), "polars")


@pytest.mark.parametrize("how", ["storage", "reach", "stride", "module", "attributes"])
def test_tensors_that_reach_beyond_their_storage(notebook: Notebook, how: str) -> None:
    torch = pytest.importorskip("torch")
    from jupyter_gpu.sync.torch_codec import _load_storage, _make_tensor

    holder: Any = Calls(_load_storage, b"A" * 16, "cpu")
    shape, stride, attributes = (4,), (1,), {}
    if how == "storage":
        holder = ([1], "")
    elif how == "reach":
        shape = (1 << 20,)
    elif how == "stride":
        shape, stride = (1 << 40,), (0,)
    elif how == "attributes":
        attributes = {"__class__": list}
    made: Any = Calls(_make_tensor, holder, torch.float32, 0, shape, stride, False, False, None, attributes)
    if how == "module":
        made = torch.nn.Linear(1, 1)
    refused(notebook, by_our_pickler(made), "Linear" if how == "module" else "_make_tensor")


def test_images_of_another_size(notebook: Notebook) -> None:
    Image = pytest.importorskip("PIL.Image")
    stream = pickled(named("PIL.Image", "Image"), b")\x81", array_of([{}, "RGB", (1 << 20, 1 << 20), None, b"abc"]), b"b")
    refused(notebook, stream, "PIL.Image.Image")
    assert Image


# ---------------------------------------------------------------- memory and time


def test_a_bytearray_that_is_announced_only(notebook: Notebook) -> None:
    before = notebook.picture()
    for size in (1 << 40, 1 << 62):
        with pytest.raises(SnapshotRefused):
            notebook.apply((["x"], pickled(b"\x96" + size.to_bytes(8, "little") + b"abc")))
    assert notebook.picture() == before


def test_lengths_beyond_the_stream(notebook: Notebook) -> None:
    for op, size in ((b"B", 4), (b"X", 4), (b"\x8e", 8), (b"\x8d", 8), (b"\x95", 8), (b"\x8b", 4)):
        with pytest.raises(SnapshotRefused):
            notebook.apply((["x"], pickled(op + b"\xff" * (size - 1) + b"\x7f")))


def test_a_billion_laughs(notebook: Notebook) -> None:
    """Ten references to ten references ...: small as long as nobody walks it; as a key somebody would."""
    layers = b")\x94" + b"".join(b"0(" + (b"h" + bytes([i])) * 10 + b"t\x94" for i in range(40))
    notebook.apply((["x"], pickled(layers)))
    assert len(notebook.here["x"]) == 10
    refused(notebook, pickled(b"}", layers, b"K\x01s"), "a key that is too large", names=["y"])


def test_a_key_nested_too_deeply_to_be_hashed(notebook: Notebook) -> None:
    """C would hash it by recursion, without a limit, and end the process."""
    refused(notebook, pickled(b"}", b")" + b"\x85" * 1_000_000, b"K\x01s"), "a key that is too large")
    refused(notebook, pickled(b"(", b")" + b"\x85" * 1_000_000, b"\x91"), "a key that is too large")


def test_a_million_levels(notebook: Notebook) -> None:
    """Made and let go of without recursion."""
    notebook.apply((["x"], pickled(b"]" * 1_000_000, b"a" * 999_999)))
    assert len(notebook.here["x"]) == 1
    del notebook.here["x"]


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name", ["__builtins__", "__name__", "get_ipython", "In", "Out", "_oh", "_i1", "_ih", "display", "__", "not a name", "open"]
)
def test_names_that_are_the_shells(notebook: Notebook, name: str) -> None:
    before = notebook.picture()
    with pytest.raises(UntrustedValue, match="the name"):
        notebook.apply(([name], dumped(1)))
    with pytest.raises(SnapshotRefused, match="deletes"):
        notebook.apply((["x"], dumped(1)), deleted=[name])
    assert notebook.picture() == before


def test_names_that_are_the_persons() -> None:
    assert all(may_bind(name, "data") for name in ("x", "_", "_private", "__annotations__", "été", "_x1", "_1x", "_item"))
    assert may_bind("__builtins__", "code")


# ---------------------------------------------------------------- what is refused, and what arrives


def test_all_that_is_refused_is_told_at_once(notebook: Notebook) -> None:
    with pytest.raises(UntrustedValue) as caught:
        notebook.apply((["a"], dumped(Calls(touch))), (["b"], dumped([1])), (["c"], dumped(Calls(os.system, "no"))))
    assert caught.value.refused == {"a": "tests.sync.hostile.touch", "c": "posix.system"} or set(caught.value.refused) == {"a", "c"}
    assert "'a'" in str(caught.value) and "c (posix.system)" in str(caught.value)
    assert not {"a", "b", "c"} & notebook.here.keys()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_one_of_a_group_is_named(notebook: Notebook, place: int) -> None:
    shared = [1]
    values = [[shared], [shared], [shared]]
    values[place].append(Calls(touch))  # type: ignore[arg-type]
    with pytest.raises(UntrustedValue) as caught:
        notebook.apply((["a", "b", "c"], dumped(values)))
    assert list(caught.value.refused) == ["abc"[place]]


def test_the_one_of_a_large_group_is_named(notebook: Notebook) -> None:
    """Pickle writes a list in batches of a thousand."""
    values: list[Any] = [[n] for n in range(2500)]
    values[2222] = Calls(touch)
    names = [f"v{n}" for n in range(2500)]
    with pytest.raises(UntrustedValue) as caught:
        notebook.apply((names, dumped(values)))
    assert list(caught.value.refused) == ["v2222"]


def test_known_objects_are_changed_by_what_is_plain(notebook: Notebook) -> None:
    kept, table, array = notebook.here["kept"], notebook.here["table"], notebook.here["array"]
    kernel = Replica({}, "kernel")
    export = Replica(notebook.here, "client").export(["kept", "table", "array"])
    assert export.sent
    client = notebook.client
    client.reset()
    there = kernel.namespace
    first = client.export(["kept", "table", "array"])
    kernel.apply(first.snapshot, first.stream, [memoryview(bytearray(b)) for b in first.buffers])
    client.confirm(first)
    there["kept"].append(np.float64(3))
    there["table"]["k"] = there["kept"]
    there["array"][0] = 9
    back = kernel.export(["kept", "table", "array"])
    client.apply(back.snapshot, back.stream, [memoryview(bytearray(b)) for b in back.buffers])
    kernel.confirm(back)
    assert notebook.here["kept"] is kept and kept[-1] == 3 and table["k"] is kept and array[0] == 9 and CANARY == []


PLAIN: dict[str, Any] = {
    "builtins": [
        None,
        True,
        1,
        -1,
        1 << 80,
        1.5,
        2j,
        "é",
        b"x",
        bytearray(b"y"),
        (1,),
        [2],
        {"a": (3,)},
        {1},
        frozenset({2}),
        range(3),
        slice(1),
    ],
    "ellipsis": [..., NotImplemented, type(None)],
    "times": [datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc), datetime.date(2020, 1, 1), datetime.timedelta(1)],
    "numbers": [decimal.Decimal("1.5"), fractions.Fraction(1, 3)],
    "ids": [uuid.UUID(int=5), ipaddress.ip_address("10.0.0.1")],
    "paths": [pathlib.Path("/tmp"), pathlib.PurePosixPath("a/b")],
    "patterns": re.compile("a+", re.I),
    "collections": [collections.OrderedDict(a=1), collections.deque([1], 3), collections.Counter("aab"), collections.ChainMap({"a": 1})],
    "members": [re.RegexFlag.I, __import__("http").HTTPStatus.OK],
    "arrays": {"f": np.arange(3.0), "s": np.array(["a"]), "o": np.array([1, "x", None], object), "d": np.array(["2020"], "M8[ns]")},
    "structures": np.zeros(2, np.dtype([("a", "i4"), ("b", "O")])),
    "scalars": [np.float32(1), np.int8(2), np.bool_(True), np.datetime64("2020"), np.dtype(">i4")],
    "exceptions": [ValueError("x")],
    "keys": {(1, "a"): 1, datetime.date(2020, 1, 1): 2, frozenset({1}): 3, np.int64(4): 4, decimal.Decimal(1): 5},
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_data_arrives(notebook: Notebook, name: str) -> None:
    value = PLAIN[name]
    kernel = Replica({"x": value}, "kernel")
    export = kernel.export(["x"])
    notebook.client.apply(export.snapshot, export.stream, [memoryview(bytearray(b)) for b in export.buffers])
    assert repr(notebook.here["x"]) == repr(value) and type(notebook.here["x"]) is type(value)


def test_a_default_dict_and_generators_arrive(notebook: Notebook) -> None:
    value = [collections.defaultdict(list, a=[1]), random.Random(5), np.random.default_rng(5), np.random.RandomState(5), io.BytesIO(b"abc")]
    wanted = [value[0]["a"], random.Random(5).random(), np.random.default_rng(5).random(), np.random.RandomState(5).random_sample(), b"abc"]
    notebook.apply((["x"], by_our_pickler(value)))
    got = notebook.here["x"]
    assert [got[0]["a"], got[1].random(), got[2].random(), got[3].random_sample(), got[4].getvalue()] == wanted and got[0]["new"] == []


def test_frames_arrive(notebook: Notebook) -> None:
    frame = pd.DataFrame(
        {
            "a": [1, 2],
            "f": [1.5, None],
            "s": ["x", "y"],
            "o": [{"k": 1}, None],
            "t": pd.date_range("2020", periods=2, tz="UTC"),
            "c": pd.Categorical(["p", "q"]),
            "n": pd.array([1, None], dtype="Int64"),
            "p": pd.period_range("2020", periods=2, freq="M"),
        },
        index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["l", "m"]),
    )
    kernel = Replica({"x": frame, "s": frame["a"]}, "kernel")
    export = kernel.export(["x", "s"])
    notebook.client.apply(export.snapshot, export.stream, [memoryview(bytearray(b)) for b in export.buffers])
    pd.testing.assert_frame_equal(notebook.here["x"], frame)
    pd.testing.assert_series_equal(notebook.here["s"], frame["a"])
    notebook.here["x"].loc[("a", 1), "a"] = 7
    assert frame["a"].tolist() == [1, 2]


def test_modules_that_are_loaded_or_hold_values_are_bound(notebook: Notebook) -> None:
    notebook.apply((["m", "n"], by_our_pickler([np, sys])))
    assert notebook.here["m"] is np and notebook.here["n"] is sys


def test_tensors_arrive(notebook: Notebook) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6.0).reshape(2, 3)
    state = torch.nn.Linear(2, 2).state_dict()
    notebook.apply((["x"], by_our_pickler([tensor, tensor[:, 1:].bfloat16(), state, torch.Size((1, 2))])))
    got = notebook.here["x"]
    assert torch.equal(got[0], tensor) and got[1].dtype is torch.bfloat16 and torch.equal(got[2]["weight"], state["weight"])


# ---------------------------------------------------------------- exceptions, and the choice


def test_exceptions_of_python_are_rebuilt_and_no_others() -> None:
    def there(code: str) -> bytes:
        namespace: dict[str, Any] = {"__name__": "__main__"}
        try:
            exec(compile(code, "<there>", "exec", dont_inherit=True), namespace)
        except Exception as error:
            found = dump_exception(error, namespace)
            assert found is not None
            return found
        raise AssertionError

    found = load_exception(there("try: 1/0\nexcept Exception as e: raise KeyError('k') from e"), {}, "data")
    assert type(found) is KeyError and type(found.__cause__) is ZeroDivisionError
    assert load_exception(there("class E(Exception): pass\nraise E('x')"), {}, "data") is None
    assert load_exception(dumped(([dumped(Calls(touch))], [(-1, -1, False)])), {}, "data") is None
    assert load_exception(dumped(([dumped(SystemExit(1))], [(-1, -1, False)])), {}, "data") is None
    assert load_exception(dumped(Calls(touch)), {}, "data") is None and CANARY == []


def test_by_code_all_of_it_comes() -> None:
    CANARY.clear()
    client = Replica({}, "client", trust="code")
    client.apply(*snapshot_of([(["x"], dumped(Calls(touch, 1)))]))
    assert CANARY == ["touched"] and client.namespace["x"] == (1,)
    CANARY.clear()


def test_the_setting_in_force() -> None:
    assert [chosen("", True), chosen("", False), chosen("code", False), chosen("data", True)] == ["code", "data", "code", "data"]
    with pytest.raises(BadOptionValue, match="trust"):
        chosen("Data", True)
    assert "run code here" in sentence("code") and "HTML and JavaScript" in sentence("data")


def test_the_machine_has_no_opcode_that_our_pickler_does_not_write() -> None:
    assert Machine.dispatch.keys() < pickle._Unpickler.dispatch.keys()  # type: ignore[attr-defined]
    assert not {ord(op) for op in "ci2oVSILFpqr"} & Machine.dispatch.keys()
