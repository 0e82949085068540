"""Two people's notebooks at one gateway: what the second one sends of an array that the first one has sent, counted at the socket."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from notebook_driver import Notebook, wait_for

pytestmark = pytest.mark.timeout(300)
R = "%%remote gpu=H100 quiet\n"
TOKEN = "the-token-of-this-test"
SIZE = 8 << 20
#: Of a cell that sends nothing but names, acknowledgements and the beginning of a link.
LITTLE = 64 << 10
MAKE = f"import numpy as np\nx = np.random.default_rng(0).integers(0, 255, {SIZE}, dtype=np.uint8)"
SHOW = R + "import hashlib\nprint(hashlib.sha256(x.tobytes()).hexdigest())"


class Counter:
    """Forwards TCP to the gateway, and counts the bytes on their way there."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.url = f"ws://127.0.0.1:{self._server.getsockname()[1]}"
        self.out = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                gateway = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [client, gateway]
                threading.Thread(target=self._pump, args=(client, gateway, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(gateway, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                self.out += len(data) if counts else 0
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in [self._server, *self._sockets]:
            each.close()


class Person:
    """A notebook at the gateway."""

    def __init__(self, env: dict[str, str], port: int, folder: Path) -> None:
        folder.mkdir()
        self.counter = Counter(port)
        more = {"JUPYTER_GPU_GATEWAY": self.counter.url, "JUPYTER_GPU_TOKEN": TOKEN}
        self.notebook = Notebook({**env, **more}, folder)

    def sends(self, cell: str = SHOW) -> tuple[int, str]:
        """Bytes that the cell took on the wire, and what it printed."""
        before = self.counter.out
        text = self.notebook.ok(cell).text()
        return self.counter.out - before, text.strip()

    def close(self) -> None:
        self.notebook.close()
        self.counter.close()


NewPerson = Callable[[], Person]
NewGateway = Callable[..., NewPerson]


@pytest.fixture
def gateway(place: dict[str, str], tmp_path: Path) -> Iterator[NewGateway]:
    """Starts a gateway with options, and gives what makes people that use it."""
    with contextlib.ExitStack() as stack:

        def start(*options: str, **more: str) -> NewPerson:
            command = [sys.executable, "-m", "jupyter_gpu_gateway", "--url", "ws://127.0.0.1:0", "--folder", str(tmp_path / "gateway")]
            command += ["--preload", "numpy", "--simulate", "H100:3", *options]
            # No shared memory: everything is to go by the socket.
            env = {**place, "JUPYTER_GPU_TOKEN": TOKEN, "JUPYTER_GPU_RING": "0", **more}
            with open(tmp_path / "log", "ab") as log:
                process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log)
            stack.callback(_end, process)
            assert process.stdout is not None
            first = process.stdout.readline().decode()
            assert first.startswith("The gateway listens at ws://127.0.0.1:"), (tmp_path / "log").read_text()
            port = int(first.split()[4].rsplit(":", 1)[1])

            def new_person() -> Person:
                person = Person(place, port, tmp_path / f"person {len(os.listdir(tmp_path))}")
                stack.callback(person.close)
                person.notebook.ok(MAKE)
                return person

            return new_person

        yield start


def _end(process: subprocess.Popen[bytes]) -> None:
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    assert process.wait(30) == 0
    assert process.stdout is not None
    process.stdout.close()
    wait_for(lambda: not any(p.is_running() for p in family), "what the gateway had started ends")


def test_nothing_is_shared_unless_the_operator_says_so(gateway: NewGateway, tmp_path: Path) -> None:
    """Nor does the environment say it, whosever it is."""
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    env = {"JUPYTER_GPU_SHARED_CACHE": str(cache), "JUPYTER_GPU_SHARED_CACHE_SIZE": str(10**9)}
    new_person = gateway(**env)
    a, b = new_person(), new_person()
    (first, one), (second, two) = a.sends(), b.sends()
    assert first > SIZE and second > SIZE
    assert one == two and os.listdir(cache) == []


def test_the_second_session_sends_an_offer_and_no_bytes(gateway: NewGateway, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    new_person = gateway("--shared-cache", str(cache))
    a, b = new_person(), new_person()
    first, one = a.sends()
    assert SIZE < first < SIZE + LITTLE
    (name,) = os.listdir(cache)
    before = (cache / name).read_bytes()
    assert len(before) == SIZE and cache.stat().st_mode & 0o777 == 0o700
    second, two = b.sends()
    assert second < LITTLE and one == two

    # Each has memory of its own: what one changes there, the other does not see, nor does the file.
    b.notebook.ok(R + "x[:5] = 0")
    assert b.notebook.value("x[:5].sum()") == "np.uint64(0)"
    assert a.sends()[1] == one and (cache / name).read_bytes() == before

    # A change travels as a change, and is nothing to share.
    a.notebook.ok("x[7] ^= 1")
    cost, changed = a.sends()
    assert cost < LITTLE and changed != one and os.listdir(cache) == [name]

    # Somebody wrote other bytes under that name: they are not taken, and the right ones are sent.
    (cache / name).chmod(0o600)
    (cache / name).write_bytes(bytes(SIZE))
    c = new_person()
    third, three = c.sends()
    assert third > SIZE and three == one and (cache / name).read_bytes() == before


def test_the_summary_says_what_was_there(gateway: NewGateway, tmp_path: Path) -> None:
    new_person = gateway("--shared-cache", str(tmp_path / "cache"))
    a, b = new_person(), new_person()
    cell = "%%remote gpu=H100\nx.sum()"
    assert "sent 8.4 MB" in a.notebook.ok(cell).summary
    summary = b.notebook.ok(cell).summary
    assert "(8.4 MB already there)" in summary and "sent 8.4 MB" not in summary


def test_a_folder_that_others_may_open_is_not_used(gateway: NewGateway, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o755)
    new_person = gateway("--shared-cache", str(cache))
    assert f"the shared cache {cache} cannot be used: other users may open it (mode 0755)" in (tmp_path / "log").read_text()
    a, b = new_person(), new_person()
    assert a.sends()[0] > SIZE and b.sends()[0] > SIZE and os.listdir(cache) == []
