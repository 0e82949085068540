from __future__ import annotations

from typing import Any

import pytest

from jupyter_gpu.sync.chunks import ChunkStore, pack, unpack
from jupyter_gpu.sync.handles import Handle, describe
from jupyter_gpu.sync.kept import Kept
from jupyter_gpu.sync.replica import Change, Replica
from jupyter_gpu.sync.trust import may_bind
from jupyter_gpu.wire.errors import SnapshotRefused


class Large:
    """Must not be pickled."""

    def __init__(self, allowed: bool = False) -> None:
        self.allowed = allowed
        self.data = [1]

    def __getstate__(self) -> dict[str, Any]:
        if not self.allowed:
            raise AssertionError("pickled")
        return vars(self)


def test_one_object_has_one_key_by_whatever_names() -> None:
    kept, a, b = Kept(), Large(), Large()
    key = kept.keep(a, "x")
    assert kept.keep(a, "y") == key != kept.keep(b, "z")
    assert kept.stays("x", a) and kept.stays("unheard", a) and not kept.stays("x", [])
    assert Kept().keep(a, "x") != key, "of another kernel"
    assert kept.keep(b, "x") == kept.names["z"], "the name has another value now"


def test_equal_numbers_are_not_the_one_that_is_kept() -> None:
    kept = Kept()
    for value in (5, "text", (), None, True, b"", 2.5):
        key = kept.keep(value, "x")
        assert kept.stays("x", value) and kept.keep(value, "x") == key and not kept.stays("y", value)
    assert kept.keys == {}
    kept.keep("long" * 10_000, "s")
    assert len(kept.keys) == 1


def test_a_key_is_a_name_that_a_client_may_bind_for_a_moment() -> None:
    key = Kept().keep(Large(), "x")
    assert key.isidentifier() and may_bind(key, "data")


def test_letting_go() -> None:
    kept, a = Kept(), Large()
    key = kept.keep(a, "x")
    kept.by_value(a, "x")
    assert not kept.stays("x", a) and kept.values[key] is a, "a handle that is left goes on working"
    again = kept.keep(a, "x")
    kept.release([key, "unheard"])
    assert key not in kept.values and kept.stays("x", a), "another key of the same object"
    kept.release([again])
    assert not kept.values and not kept.keys and not kept.names


class Ends:
    """A kernel that keeps, and a client."""

    def __init__(self) -> None:
        self.here: dict[str, Any] = {"__name__": "__main__"}
        self.there: dict[str, Any] = {"__name__": "__main__"}
        self.handles: dict[str, Handle] = {}
        self.kept = Kept()
        self.client = Replica(self.here, "client", handle_of=self.handles.get)
        self.kernel = Replica(self.there, "kernel", lambda key: self.kept.values[key], kept=self.kept)

    def keep(self, name: str) -> Handle:
        key = self.kept.keep(self.there[name], name)
        handle = self.handles[key] = self.here[name] = Handle(describe(self.there[name], name, key=key), lambda: None)
        return handle

    def carry(self, source: Replica, target: Replica, *names: str) -> Change:
        export = source.export(source.needed(names))
        assert not export.stuck, export.stuck
        parcel, store = pack(export), ChunkStore()
        for name, data in parcel.chunks.items():
            store.put(name, bytearray(data))
        change = target.apply(parcel.snapshot, *unpack(parcel.snapshot, [memoryview(bytes(b)) for b in parcel.inline], store))
        source.confirm(export)
        return change

    def back(self, *names: str) -> Change:
        return self.carry(self.kernel, self.client, *names)

    def out(self, *names: str) -> Change:
        return self.carry(self.client, self.kernel, *names)


def test_inside_of_what_returns_a_handle_takes_its_place() -> None:
    ends = Ends()
    ends.there["big"] = Large()
    handle = ends.keep("big")
    ends.here["box"] = [1]
    ends.out("box")
    ends.there["box"] += [ends.there["big"], {"deep": (ends.there["big"],)}]
    box = ends.here["box"]
    ends.back("box")
    assert ends.here["box"] is box and box[1] is handle and box[2]["deep"][0] is handle
    box.append(2)
    ends.out("box")
    assert ends.there["box"][1] is ends.there["big"] and ends.there["box"][3] == 2, "and is the object again, there"


def test_the_same_with_tokens_and_by_attribute() -> None:
    ends = Ends()
    ends.there["big"] = Large()
    handle = ends.keep("big")
    ends.here["holder"] = holder = Large(allowed=True)
    ends.out("holder")
    ends.there["holder"].data = ends.there["big"]
    ends.back("holder")
    assert ends.here["holder"] is holder and holder.data is handle
    ends.out("holder")
    assert ends.there["holder"].data is ends.there["big"]


def test_aside_all_of_a_value_is_wanted() -> None:
    ends = Ends()
    ends.there["big"] = Large(allowed=True)
    ends.keep("big")
    with ends.kept.aside():
        ends.back("big")
    assert isinstance(ends.here["big"], Large) and ends.kept.stays("big", ends.there["big"])


def test_a_key_that_nobody_knows_changes_nothing() -> None:
    ends = Ends()
    ends.there["big"], ends.there["x"] = Large(), 1
    ends.keep("big")
    ends.handles.clear()
    ends.there["x"] = [ends.there["big"]]
    with pytest.raises(SnapshotRefused, match="stayed remote"):
        ends.back("x")
    assert "x" not in ends.here
