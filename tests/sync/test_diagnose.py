from __future__ import annotations

import functools
import io
import os
import pickle
import socket
import sqlite3
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from jupyter_gpu.sync.diagnose import find_culprit, meaningless
from jupyter_gpu.sync.fingerprint import probe


class Box:
    def __init__(self, **parts: Any) -> None:
        vars(self).update(parts)

    def method(self) -> None: ...


def culprit(value: Any) -> Any:
    return find_culprit(value, "v", cloudpickle.dumps)


def closing_over(lock: Any) -> Callable[[], Any]:
    return lambda: lock


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), "v"),
        ([1, [threading.Lock()]], "v[1][0]"),
        ((1, threading.Lock()), "v[1]"),
        ({"a": {"b c": threading.RLock()}}, "v['a']['b c']"),
        ({7: threading.Lock()}, "v[7]"),
        (Box(x=Box(lock=threading.Lock())), "v.x.lock"),
        (Box(lock=threading.Lock()).method, "v.__self__.lock"),
        (functools.partial(print, threading.Lock()), "v.args[0]"),
        (functools.partial(print, end=threading.Lock()), "v.keywords['end']"),
        (closing_over([threading.Lock()]), "v.<closure lock>[0]"),
    ],
    ids=["itself", "list", "tuple", "dict", "key", "attributes", "method", "partial", "keywords", "closure"],
)
def test_the_path_to_it(value: Any, path: str) -> None:
    found = culprit(value)
    assert (found.name, found.path) == ("v", path)
    assert found.type in ("_thread.lock", "_thread.RLock") and "threads of one process" in found.reason


def test_what_can_travel_beside_it_is_not_named() -> None:
    found = culprit({"a": list(range(100)), "b": Box(x=1), "c": [threading.Lock()], "d": threading.Lock()})
    assert found.path == "v['c'][0]", "the first one"


def test_why() -> None:
    with socket.socket() as sock, sqlite3.connect(":memory:") as database, open(__file__) as file:
        reasons = {
            "in the middle of running": (n for n in range(3)),
            "open connection": sock,
            "database connection": database,
            "open file": io.FileIO(file.fileno(), closefd=False),
            "weak reference": weakref.ref(Box()),
        }
        for words, value in reasons.items():
            found = culprit([value])
            assert found.path == "v[0]" and words in found.reason, (words, found)


def test_a_thread_is_named_and_not_what_it_is_made_of() -> None:
    found = culprit([threading.Thread()])
    assert found.path == "v[0]" and "a thread belongs" in found.reason


def test_a_repr_that_fails_inside_a_set() -> None:
    class Bad:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    assert culprit({Bad()}).type == "_thread.lock"


def test_another_reason_is_the_errors_own_words() -> None:
    class Refuses:
        def __reduce__(self) -> Any:
            raise RuntimeError("not today")

    assert culprit([Refuses()]).reason == "RuntimeError: not today"


def test_iterators_are_not_used_up() -> None:
    used: list[int] = []

    def numbers() -> Iterator[int]:
        for n in range(3):
            used.append(n)
            yield n

    generator = numbers()
    culprit({"rows": generator})
    assert used == [] and list(generator) == [0, 1, 2]


def test_what_is_nested_too_deeply() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    found = find_culprit(value, "v", lambda each: pickle._dumps(each))  # type: ignore[attr-defined]
    assert found.path == "v" and "nested too deeply" in found.reason
    while value:
        value = value.pop()  # frees it step by step


def test_a_cycle_ends() -> None:
    value: list[Any] = [threading.Lock()]
    value.insert(0, value)
    assert culprit(value).path == "v[1]"


def test_the_search_is_bounded() -> None:
    looks = 0

    def dumps(value: Any) -> bytes:
        nonlocal looks
        looks += 1
        if isinstance(value, list):
            raise TypeError("no list")
        return b""

    assert find_culprit([Box() for _ in range(100_000)], "v", dumps).path == "v"
    assert looks <= 2002
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    assert find_culprit(deep, "v", dumps).path == "v" + "[0]" * 40


def test_properties_are_not_called() -> None:
    class Model:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        @property
        def expensive(self) -> Any:
            raise AssertionError("code of the person's ran")

    assert culprit(Model()).path == "v.lock"


# ---------------------------------------------------------------- what travels, and means nothing


def told(value: Any, name: str = "v") -> list[str]:
    return meaningless(probe(value, name, {}).notes, value, name)[0]


def test_what_pickles_and_means_nothing_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("content")
    with open(tmp_path / "x") as file, tempfile.TemporaryDirectory() as folder:
        assert folder
        found = told({"f": file, "deep": [[[[{"it": file}]]]], "memory": [io.StringIO(), io.BytesIO()]})
        assert found == ["v['f'] is an open file; its content went along, the file did not"], "an object is told of once"
        assert told(file) == ["v is an open file; its content went along, the file did not"]
        assert told([0] * 10_000 + [[file]])[0].startswith("v holds an open file"), "however far"
        assert told([1, "text", b"", {"a": (None,)}]) == []


def test_the_environment_goes_by_name_and_never_its_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_A_TEST", "hunter2")
    found = probe([os.environ, os.environb], "v", {})
    assert b"hunter2" not in found.stream and found.stuck is None
    assert pickle.loads(found.stream)[0] is os.environ and pickle.loads(found.stream)[1] is os.environb
    assert meaningless(found.notes, [os.environ], "v")[0][0].startswith("v[0] is the environment of this machine")
    assert meaningless(found.notes, [os.environ], "v", "worker") == ([], []), "it is the notebook's own again"


def test_paths_are_told_apart(tmp_path: Path) -> None:
    value = {"there": tmp_path, "gone": tmp_path / "gone", "relative": Path("x")}
    assert meaningless(probe(value, "v", {}).notes, value, "v") == ([], ["v['there'] is a path of this machine"])


class Connection:
    """As PEP 249 has it."""

    def cursor(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...


class Channel:
    def fileno(self) -> int:
        return 3


def test_connections_that_let_themselves_be_pickled() -> None:
    assert "database connection" in told([Connection()])[0] and "connection" in told({"c": Channel()})[0]
    assert told([Connection, Channel]) == [], "their classes are code"
    with tempfile.TemporaryFile() as file:
        assert "array in a file" in told(np.memmap(file, "uint8", "w+", shape=3))[0]


def test_no_more_is_told_than_one_reads(tmp_path: Path) -> None:
    assert len(told([Channel() for _ in range(100)])) == 10
