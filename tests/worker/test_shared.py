"""The folder of chunks that sessions share: what goes in, what comes out, and what a hostile or broken folder can do."""

from __future__ import annotations

import errno
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from jupyter_gpu_worker import shared
from jupyter_gpu_worker.shared import FOLDER, SIZE, Shared, from_environment

from jupyter_gpu.sync.chunks import ChunkStore, digest
from jupyter_gpu.wire.messages import Offer

LOG = logging.getLogger("test")
MIB = 1 << 20


def offer(*chunks: bytes) -> Offer:
    return Offer(id=1, digests=[blake3(c).digest() for c in chunks], sizes=[len(c) for c in chunks])


def name_of(data: bytes) -> str:
    return blake3(data).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "cache"
    found.mkdir(mode=0o700)
    return found


@pytest.fixture
def session(folder: Path) -> Iterator[Callable[..., Shared]]:
    """Opens the folder as another worker would."""
    made: list[Shared] = []

    def new(budget: int = 100 * MIB) -> Shared:
        made.append(Shared(str(folder), budget, LOG))
        return made[-1]

    yield new
    for each in made:
        each.close()


def send(it: Shared, *chunks: bytes) -> int:
    """What a client and its kernel do; bytes that had to be sent."""
    store, sent = ChunkStore(), 0
    lacking = it.lacking(offer(*chunks), store)
    for i, data in enumerate(chunks):
        if i in lacking:
            it.arrived(memoryview(data))
            sent += len(data)
        else:
            assert bytes(store.take(digest(data))) == data
    return sent


def test_what_one_session_was_sent_another_need_not_be(session: Callable[..., Shared], folder: Path) -> None:
    a, b = os.urandom(MIB), os.urandom(3 * MIB)
    assert send(session(), a) == MIB
    assert send(session(), a, b) == 3 * MIB
    assert send(session(), b, a) == 0
    assert sorted(os.listdir(folder)) == sorted([name_of(a), name_of(b)])
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o400}


def test_what_comes_out_is_memory_of_its_own(session: Callable[..., Shared], folder: Path) -> None:
    data = bytes(MIB)
    send(session(), data)
    store = ChunkStore()
    assert session().lacking(offer(data), store) == []
    store.take(digest(data))[:3] = b"abc"
    assert (folder / name_of(data)).read_bytes() == data
    assert send(session(), data) == 0


@pytest.mark.parametrize("how", ["other bytes", "shorter", "longer", "empty"])
def test_a_poisoned_file_is_refused_and_replaced(session: Callable[..., Shared], folder: Path, how: str) -> None:
    data = os.urandom(2 * MIB)
    send(session(), data)
    path = folder / name_of(data)
    path.chmod(0o600)
    poison = {"other bytes": data[:-1] + bytes([data[-1] ^ 1]), "shorter": data[:-1], "longer": data + b"x", "empty": b""}[how]
    path.write_bytes(poison)
    assert send(session(), data) == len(data)
    assert path.read_bytes() == data
    assert send(session(), data) == 0


@pytest.mark.parametrize("how", ["folder", "pipe", "link", "dangling"])
def test_what_is_no_file_is_not_opened(session: Callable[..., Shared], folder: Path, how: str, tmp_path: Path) -> None:
    data = os.urandom(MIB)
    path = folder / name_of(data)
    (tmp_path / "elsewhere").write_bytes(data)
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)  # whoever waits for its writer waits for ever
    else:
        path.symlink_to(tmp_path / ("elsewhere" if how == "link" else "nowhere"))
    assert send(session(), data) == len(data)
    assert send(session(), data) == (len(data) if how == "folder" else 0)
    assert (tmp_path / "elsewhere").read_bytes() == data


def test_a_file_that_changes_while_it_is_read_harms_nobody(
    session: Callable[..., Shared], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is verified is what is used: a copy in memory."""
    data = os.urandom(2 * MIB)
    send(session(), data)
    path, real = folder / name_of(data), shared._blake3
    path.chmod(0o600)

    def late(view: Any) -> bytes:
        path.write_bytes(bytes(len(data)))
        return real(view)

    monkeypatch.setattr(shared, "_blake3", late)
    store = ChunkStore()
    assert session().lacking(offer(data), store) == []
    assert bytes(store.take(digest(data))) == data


def test_only_what_was_asked_for_is_kept(session: Callable[..., Shared], folder: Path) -> None:
    """Deltas and streams of the same session come by the same way."""
    it, wanted, other = session(), os.urandom(MIB), os.urandom(MIB)
    assert it.lacking(offer(wanted), ChunkStore()) == [0]
    it.arrived(memoryview(other))
    assert os.listdir(folder) == []
    it.arrived(memoryview(wanted))
    it.arrived(memoryview(os.urandom(5)))
    assert os.listdir(folder) == [name_of(wanted)]


@pytest.mark.parametrize(
    "bad",
    [
        Offer(id=1, digests=[b"x" * 32], sizes=[]),
        Offer(id=1, digests=[b"x" * 32], sizes=[0]),
        Offer(id=1, digests=[b"x" * 32], sizes=[-5]),
        Offer(id=1, digests=[b""], sizes=[5]),
        Offer(id=1, digests=[b"../../../etc/passwd"], sizes=[5]),
        Offer(id=1, digests=[b"x" * 5000], sizes=[1 << 62]),
    ],
)
def test_an_offer_that_makes_no_sense_lacks_all(session: Callable[..., Shared], bad: Offer) -> None:
    assert session().lacking(bad, ChunkStore()) == [0]


# ---------------------------------------------------------------- the budget


def test_what_was_used_longest_ago_goes_first(session: Callable[..., Shared], folder: Path) -> None:
    a, b, c = (os.urandom(MIB) for _ in range(3))
    for age, data in ((300, a), (200, b)):
        send(session(3 * MIB), data)
        os.utime(folder / name_of(data), (0, 10**9 - age))
    assert send(session(3 * MIB), a) == 0  # it is the younger one from here on
    d = os.urandom(MIB)
    assert send(session(3 * MIB), c, d) == 2 * MIB
    assert sorted(os.listdir(folder)) == sorted(map(name_of, (a, c, d)))


def test_it_stays_within_its_budget(session: Callable[..., Shared], folder: Path) -> None:
    it = session(4 * MIB + 5)
    for _ in range(12):
        send(it, os.urandom(MIB))
        assert sum(f.stat().st_size for f in folder.iterdir()) <= 4 * MIB + 5
    assert len(os.listdir(folder)) == 4
    send(it, os.urandom(5 * MIB))
    assert len(os.listdir(folder)) == 4, "what is larger than all of it displaces nothing"


def test_files_that_are_not_ours_are_left_alone(session: Callable[..., Shared], folder: Path) -> None:
    (folder / "thesis.tex").write_bytes(bytes(10 * MIB))
    (folder / ".0123456789abcdef.partial").write_bytes(b"somebody is writing this")
    (folder / ".fedcba9876543210.partial").write_bytes(b"somebody was killed a day ago")
    os.utime(folder / ".fedcba9876543210.partial", (0, 10**9))
    send(session(2 * MIB), os.urandom(MIB))
    assert {"thesis.tex", ".0123456789abcdef.partial"} < set(os.listdir(folder)) and len(os.listdir(folder)) == 3


def test_a_file_that_is_dropped_while_it_is_read_is_read_to_its_end(
    session: Callable[..., Shared], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(3 * MIB)
    send(session(), data)
    monkeypatch.setattr(shared, "_BLOCK", MIB)
    real = os.readv

    def reading(file: int, buffers: Any) -> int:
        (folder / name_of(data)).unlink(missing_ok=True)
        return real(file, buffers)

    monkeypatch.setattr(os, "readv", reading)
    assert send(session(), data) == 0


# ---------------------------------------------------------------- several at once

RACE = """
import logging, os, random, sys
from blake3 import blake3
from jupyter_gpu_worker.shared import Shared
from jupyter_gpu.sync.chunks import ChunkStore, digest
from jupyter_gpu.wire.messages import Offer
folder, seed, budget = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
logging.basicConfig(stream=sys.stdout, level=logging.INFO)
chunks = [random.Random(n).randbytes(1 << 20) for n in range(6)]
it, store, order = Shared(folder, budget, logging.getLogger()), ChunkStore(), random.Random(seed)
print("ready", flush=True)
sys.stdin.readline()
hits = 0
for _ in range(80):
    data = order.choice(chunks)
    if it.lacking(Offer(id=1, digests=[blake3(data).digest()], sizes=[len(data)]), store):
        it.arrived(memoryview(data))
    else:
        assert bytes(store.take(digest(data))) == data
        hits += 1
print("hits", hits)
"""


@pytest.mark.parametrize("budget", [100 * MIB, 3 * MIB], ids=["room", "little room"])
def test_processes_that_write_and_drop_the_same_chunks_at_once(folder: Path, budget: int) -> None:
    command = [sys.executable, "-c", RACE, str(folder)]
    racers = [subprocess.Popen([*command, str(n), str(budget)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for n in range(4)]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        said, _ = racer.communicate(timeout=60)
        assert racer.returncode == 0 and said.startswith("hits "), said  # nothing was refused, and nobody complained
        assert int(said.split()[1]) > (70 if budget > 10 * MIB else 0)
    names = os.listdir(folder)
    assert not [n for n in names if n.endswith(".partial")]
    for name in names:
        assert blake3((folder / name).read_bytes()).hexdigest() == name


def test_two_that_write_the_same_chunk_at_the_same_moment(session: Callable[..., Shared], folder: Path) -> None:
    data = os.urandom(4 * MIB)
    both = [session(), session()]
    for it in both:
        assert it.lacking(offer(data), ChunkStore()) == [0]
    threads = [threading.Thread(target=it.arrived, args=(memoryview(data),)) for it in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.listdir(folder) == [name_of(data)] and send(session(), data) == 0


# ---------------------------------------------------------------- a folder that cannot be used


def test_nothing_is_shared_unless_the_gateway_says_so() -> None:
    assert from_environment({}, LOG) is None


def test_the_environment_is_cleared(folder: Path) -> None:
    environment = {FOLDER: str(folder), SIZE: "5000000", "OTHER": "x"}
    found = from_environment(environment, LOG)
    assert found is not None and environment == {"OTHER": "x"}
    found.close()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "No such file"),
        ("a file", "Not a directory"),
        ("a link", "Not a directory|symbolic links"),
        ("writable by others", "0702.*chmod 700"),
        ("readable by others", "0755.*chmod 700"),
        ("another's", "belongs to another user"),
        ("no size", "invalid literal"),
    ],
)
def test_a_folder_that_cannot_be_used_is_told_and_nothing_is_shared(
    folder: Path, how: str, words: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {FOLDER: str(folder), SIZE: "" if how == "no size" else "1000"}
    if how == "missing":
        folder.rmdir()
    elif how == "a file":
        folder.rmdir()
        folder.touch()
    elif how == "a link":
        folder.rename(folder.with_name("real"))
        folder.symlink_to(folder.with_name("real"))
    elif how == "writable by others":
        folder.chmod(0o702)
    elif how == "readable by others":
        folder.chmod(0o755)
    elif how == "another's":
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert from_environment(environment, LOG) is None
    assert len(caplog.messages) == 1
    assert re.search(words, caplog.text), caplog.text


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    found = tmp_path / "disk"
    found.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(found)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root")
    yield found
    subprocess.run(["umount", "-l", found], check=True)


def test_a_disk_that_is_full(disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    it = Shared(str(disk), 100 * MIB, LOG)
    large, small = os.urandom(3 * MIB), os.urandom(MIB)
    assert [send(it, large), send(it, large)] == [3 * MIB, 3 * MIB]
    assert os.listdir(disk) == [] and len(caplog.messages) == 1 and "No space left" in caplog.text
    assert [send(it, small), send(it, small)] == [MIB, 0]
    it.close()


def test_a_folder_that_became_read_only(disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    it, data, other = Shared(str(disk), 100 * MIB, LOG), os.urandom(MIB), os.urandom(MIB)
    send(it, data)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert [send(it, data), send(it, other), send(it, other)] == [0, MIB, MIB]
    assert len(caplog.messages) == 1 and "Read-only" in caplog.text
    it.close()


def test_a_folder_that_was_removed(session: Callable[..., Shared], folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    it, data = session(), os.urandom(MIB)
    folder.rmdir()
    assert [send(it, data), send(it, data)] == [MIB, MIB]
    assert len(caplog.messages) == 1 and os.strerror(errno.ENOENT) in caplog.text
