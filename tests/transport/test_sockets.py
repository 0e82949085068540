"""ZMQ on an asyncio loop: nothing is dropped, nothing overtakes, and one socket does not starve the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_gpu.transport.sockets import Sockets, zmq

MANY = 20_000


async def until(condition: Callable[[], bool]) -> None:
    async def holds() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(holds(), 30)


class Pair:
    """Two sockets that are connected to each other, and what came at which."""

    def __init__(self, folder: Path) -> None:
        self.got: list[tuple[str, list[bytes]]] = []
        self.sockets = Sockets(zmq.Context(), lambda name, frames: self.got.append((name, frames)))
        self.sockets.add("a", zmq.PAIR).bind(f"ipc://{folder}/s")
        self.sockets.add("b", zmq.PAIR).connect(f"ipc://{folder}/s")
        for name in "ab":
            self.sockets.watch(name)

    def at(self, name: str) -> list[list[bytes]]:
        return [frames for where, frames in self.got if where == name]

    def close(self) -> None:
        self.sockets.close()
        self.sockets.context.term()


def go(folder: Path, test: Callable[[Pair], Any]) -> None:
    async def run() -> None:
        pair = Pair(folder)
        try:
            await test(pair)
        finally:
            pair.close()

    asyncio.run(run())


def test_many_in_both_directions(tmp_path: Path) -> None:
    async def test(pair: Pair) -> None:
        for n in range(MANY):
            pair.sockets.send("a", [b"%d" % n, b""])
            pair.sockets.send("b", [b"%d" % n])
        await until(lambda: len(pair.got) == 2 * MANY)
        assert pair.at("b") == [[b"%d" % n, b""] for n in range(MANY)] and pair.at("a") == [[b"%d" % n] for n in range(MANY)]

    go(tmp_path, test)


def test_a_pause_holds_what_comes_and_loses_nothing(tmp_path: Path) -> None:
    async def test(pair: Pair) -> None:
        pair.sockets.pause("b")
        for n in range(MANY):
            pair.sockets.send("a", [b"%d" % n])
        pair.sockets.send("b", [b"on"])
        await until(lambda: bool(pair.at("a")))
        assert not pair.at("b")
        pair.sockets.resume("b")
        await until(lambda: len(pair.at("b")) == MANY)

    go(tmp_path, test)


def test_one_that_is_flooded_starves_nobody(tmp_path: Path) -> None:
    async def test(pair: Pair) -> None:
        for n in range(MANY):
            pair.sockets.send("a", [b"%d" % n])
        pair.sockets.send("b", [b"me too"])
        await until(lambda: bool(pair.at("a")))
        assert len(pair.at("b")) < MANY

    go(tmp_path, test)


def test_whether_the_other_end_is_gone(tmp_path: Path) -> None:
    async def test(pair: Pair) -> None:
        gone = pair.sockets.monitor("b")
        pair.sockets.send("a", [b"last words"])
        await until(lambda: bool(pair.got))
        assert not gone()
        pair.sockets.send("a", [b"very last words"])
        pair.sockets.close("a")
        await until(gone)
        pair.sockets.drain("b")
        assert pair.at("b")[-1] == [b"very last words"]
        pair.sockets.send("a", [b"to nobody"])
        assert pair.sockets.names() == ["b"]

    go(tmp_path, test)
