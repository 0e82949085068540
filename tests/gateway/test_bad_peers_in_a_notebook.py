"""A gateway or a worker of another kind, as the person at the notebook sees it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from notebook_driver import Notebook, Result, descendants_in
from played import TOKEN, VERSIONS, Running, go
from test_bad_input import clear  # type: ignore[import-not-found]
from websockets.sync.server import ServerConnection, serve

from jupyter_gpu.rpc import here
from jupyter_gpu.transport.envelope import SUBPROTOCOL
from jupyter_gpu.wire.codec import encode
from jupyter_gpu.wire.messages import PROTOCOL, Assign, Assigned, Welcome

CELL = "%%remote gpu=cpu\nkept.append(2)"


@pytest.fixture
def book(folder: Path) -> Iterator[Callable[[str], Notebook]]:
    """A notebook of a person who was given the address of a gateway."""
    runtime = folder / "rt"
    runtime.mkdir(mode=0o700)
    books = []

    def make(url: str) -> Notebook:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER_", "JPY_"))}
        env |= {"HOME": str(folder), "IPYTHONDIR": str(folder / "ipython"), "JUPYTER_RUNTIME_DIR": str(runtime)}
        books.append(Notebook({**env, "JUPYTER_GPU_GATEWAY": url, "JUPYTER_GPU_TOKEN": TOKEN}, folder))
        books[-1].ok("kept = [1]")
        return books[-1]

    yield make
    for each in books:
        each.close()
    assert not descendants_in(runtime), "no process is left"


def unharmed(notebook: Notebook, result: Result, *words: str) -> str:
    text = clear(result, *words)
    assert TOKEN not in text
    assert notebook.value("kept") == "[1]"
    return text


def test_another_python_minor_on_the_worker(folder: Path, book: Callable[[str], Notebook]) -> None:
    async def test() -> None:
        async with Running(folder) as gateway:
            notebook = await asyncio.to_thread(book, gateway.url)
            cell = asyncio.ensure_future(asyncio.to_thread(notebook.run, CELL))
            spec = await gateway.event("start")
            worker = await gateway.worker(spec, versions=type(VERSIONS)(software="0.1.0", python="3.8.2", cloudpickle=here().cloudpickle))
            assign = await worker.hears(Assign)
            await worker.say(Assigned(session_id=assign.session_id))
            ours = ".".join(here().python.split(".")[:2])
            unharmed(
                notebook,
                await cell,
                "The worker runs Python 3.8",
                f"this notebook Python {ours}",
                "Nothing ran",
                "Start the notebook with Python 3.8",
            )
            assert (await gateway.event("stop"))["worker_id"] == spec["worker_id"], "the worker is of no use to this notebook, and ends"
            assert await (await gateway.rpc()).sessions() == {}

    go(test(), 60)


@pytest.mark.parametrize("protocol", [PROTOCOL + 6, PROTOCOL - 1], ids=["newer", "older"])
def test_a_gateway_of_another_protocol(folder: Path, book: Callable[[str], Notebook], protocol: int) -> None:
    async def test() -> None:
        async with Running(folder, protocol=protocol) as gateway:
            notebook = await asyncio.to_thread(book, gateway.url)
            result = await asyncio.to_thread(notebook.run, CELL)
            said = f"The gateway speaks protocol {protocol}, this side protocol {PROTOCOL}"
            unharmed(notebook, result, said, "same release of jupyter-gpu at both ends")
            await gateway.logged("sent away", f"protocol {PROTOCOL}")

    go(test(), 60)


def test_a_gateway_that_speaks_another_subprotocol(book: Callable[[str], Notebook]) -> None:
    """Of a release so old, or so new, that not even the upgrade works."""
    with playing(lambda connection: None, ["jupyter-gpu.v9"]) as url:
        notebook = book(url)
        unharmed(notebook, notebook.run(CELL), "another protocol", SUBPROTOCOL, "same release")


def test_an_own_gateway_of_another_release(folder: Path, book: Callable[[str], Notebook]) -> None:
    own = folder / "rt" / "jupyter_gpu"
    own.mkdir(mode=0o700)
    path = str(own / "gateway.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        info = {"url": f"unix://{path}", "token": "x", "pid": 1, "software": "0.0.3", "protocol": 0, "simulate": ""}
        (own / "gateway.json").write_text(json.dumps(info))
        (own / "gateway.json").chmod(0o600)
        notebook = book("")
        unharmed(notebook, notebook.run(CELL), "protocol 0", "release 0.0.3", "jupyter-gpu stop --gateway")
    assert [f.name for f in own.iterdir()].count("gateway.json") == 1, "it is that gateway's, and is left alone"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("text", "cannot be read"),
        (os.urandom(3000), "cannot be read"),
        (b"\x00" * (2 << 20), "closed the connection"),
        (b"".join(encode(Assigned(session_id="s"))), "a Assigned where a Welcome was due"),
        (None, "closed the connection"),
    ],
    ids=["text", "random", "too-large", "no-welcome", "nothing"],
)
def test_what_answers_is_no_gateway(book: Callable[[str], Notebook], answer: str | bytes | None, words: str) -> None:
    def handle(connection: ServerConnection) -> None:
        connection.recv()
        if answer is not None:
            connection.send(answer)
            connection.recv()

    with playing(handle) as url:
        notebook = book(url)
        unharmed(notebook, notebook.run(CELL), words)


def test_garbage_in_answer_to_a_request(book: Callable[[str], Notebook]) -> None:
    def handle(connection: ServerConnection) -> None:
        connection.recv()
        connection.send(b"".join(encode(Welcome(protocol=PROTOCOL, software="x", gateway_id="g", own=False))))
        connection.recv()
        connection.send(b"\xff" * 1000)
        connection.recv()

    with playing(handle) as url:
        notebook = book(url)
        unharmed(notebook, notebook.run(CELL), "gateway", "cannot be reached", "connection was lost")


class playing:
    """A server of the test's, on a thread: ``with playing(handler) as url``."""

    def __init__(self, handler: Callable[[ServerConnection], None], subprotocols: list[Any] | None = None) -> None:
        def handle(connection: ServerConnection) -> None:
            try:
                handler(connection)
            except Exception:
                pass  # the notebook has hung up

        spoken = subprotocols or [SUBPROTOCOL]
        options: dict[str, Any] = {"select_subprotocol": lambda connection, offered: None} if subprotocols else {"subprotocols": spoken}
        self.server = serve(handle, "127.0.0.1", 0, **options)
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self) -> str:
        self.thread.start()
        return f"ws://127.0.0.1:{self.server.socket.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
