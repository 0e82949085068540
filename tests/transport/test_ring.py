"""Shared memory: bytes get across, and whatever is offered that is not what it says, or somebody else's, is not used."""

from __future__ import annotations

import fcntl
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from jupyter_gpu.transport import ring
from jupyter_gpu.transport.ring import SLOT, SLOTS, Ring
from jupyter_gpu.wire.errors import SnapshotRefused
from jupyter_gpu.wire.messages import RingOffer

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no such memory here")


def made() -> tuple[Ring, RingOffer]:
    found = ring.make()
    assert found is not None
    return found


@pytest.fixture
def ends() -> Iterator[tuple[Ring, Ring]]:
    kernel, offer = made()
    client = ring.join(offer)
    assert client is not None
    yield kernel, client
    os.close(kernel.fd)


def test_both_ways_around_it_many_times(ends: tuple[Ring, Ring]) -> None:
    for n in range(3 * SLOTS):
        for sender, reader in (ends, ends[::-1]):
            data = os.urandom(SLOT if n % 2 else 1 + n)
            assert sender.has_room
            assert bytes(reader.read(sender.write(memoryview(data)), len(data))) == data
            reader.free()


def test_it_is_full_and_has_room_again(ends: tuple[Ring, Ring]) -> None:
    for sender, reader in (ends, ends[::-1]):
        for n in range(SLOTS):
            assert sender.has_room
            sender.write(b"%d" % n)
        assert not sender.has_room
        assert bytes(reader.read(0, 1)) == b"0"
        assert not sender.has_room, "it is still being looked at"
        reader.free()
        assert sender.has_room and reader.has_room


@pytest.mark.parametrize(("slot", "size"), [(1, 10), (-1, 10), (1 << 62, 10), (0, 0), (0, -1), (0, SLOT + 1)])
def test_a_slot_that_was_not_due(ends: tuple[Ring, Ring], slot: int, size: int) -> None:
    ends[0].write(b"0123456789")
    with pytest.raises(SnapshotRefused):
        ends[1].read(slot, size)
    assert bytes(ends[1].read(0, 10)) == b"0123456789"


def test_the_kernel_uses_it_when_the_client_is_there() -> None:
    kernel, offer = made()
    assert not kernel.is_shared
    assert ring.join(replace(offer, nonce=bytes(16))) is None and not kernel.is_shared
    assert ring.join(offer) is not None and kernel.is_shared
    os.close(kernel.fd)


def test_the_peer_cannot_take_the_memory_away() -> None:
    kernel, _ = made()
    with pytest.raises(PermissionError):
        os.ftruncate(kernel.fd, 0)
    os.close(kernel.fd)


def offers() -> Iterator[tuple[str, RingOffer, list[int]]]:
    nonce = bytes(range(16))

    def of(fd: int) -> RingOffer:
        return RingOffer(pid=os.getpid(), fd=fd, nonce=nonce)

    size = os.fstat(made()[0].fd).st_size
    unsealed = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, size)
    os.pwrite(unsealed, nonce, 0)
    yield "not sealed", of(unsealed), [unsealed]
    small = os.memfd_create("small", os.MFD_ALLOW_SEALING)
    os.ftruncate(small, 4096)
    os.pwrite(small, nonce, 0)
    fcntl.fcntl(small, fcntl.F_ADD_SEALS, 7)
    yield "too small", of(small), [small]
    file = os.open("/tmp", os.O_TMPFILE | os.O_RDWR)
    os.ftruncate(file, size)
    os.pwrite(file, nonce, 0)
    yield "a file", of(file), [file]
    reader, writer = os.pipe()
    yield "a pipe", of(reader), [reader, writer]
    yield "a device", of(os.open("/dev/zero", os.O_RDWR)), []
    yield "closed", of(9999), []
    yield "negative", of(-1), []
    yield "nobody's", RingOffer(pid=2**22 + 1, fd=3, nonce=nonce), []
    yield "another's", RingOffer(pid=1, fd=3, nonce=nonce), []


def test_what_is_not_what_it_says_is_not_used() -> None:
    for what, offer, opened in offers():
        before = set(os.listdir("/proc/self/fd"))
        assert ring.join(offer) is None, what
        assert set(os.listdir("/proc/self/fd")) == before, what
        for fd in opened:
            os.close(fd)
    assert ring.join(None) is None


@pytest.mark.parametrize("at", ["make", "join"])
def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    found = made()
    monkeypatch.setenv(ring.SWITCH, "0")
    assert (ring.make() if at == "make" else ring.join(found[1])) is None


def test_no_memory_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*args: object) -> int:
        raise OSError

    monkeypatch.setattr(os, "ftruncate", none)
    before = len(os.listdir("/proc/self/fd"))
    assert ring.make() is None
    monkeypatch.setattr(os, "memfd_create", none)
    assert ring.make() is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_another_process_and_its_end() -> None:
    """The other process is killed: nothing of it is left, and this end still has its memory."""
    code = (
        "import sys, time; from jupyter_gpu.transport import ring; r, o = ring.make(); print(o.pid, o.fd, o.nonce.hex(), flush=True);"
        "sys.stdin.readline(); print(r.is_shared, r.write(b'hello'), flush=True); time.sleep(60)"
    )
    before = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        pid, fd, nonce = process.stdout.readline().split()
        end = ring.join(RingOffer(pid=int(pid), fd=int(fd), nonce=bytes.fromhex(nonce)))
        assert end is not None
        print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "True 0\n"
        process.kill()
    assert bytes(end.read(0, 5)) == b"hello"
    end.write(b"x" * SLOT)
    assert (set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()) == before
    assert isinstance(end._memory, mmap.mmap)
