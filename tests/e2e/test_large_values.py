"""Large arrays on every way that there is: shared memory, our own websockets, those of the library."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from notebook_driver import Notebook, wait_for

pytestmark = pytest.mark.timeout(180)
R = "%%remote gpu=H100\n"
WAYS = {"ring": {}, "link": {"JUPYTER_GPU_RING": "0"}, "websockets": {"JUPYTER_GPU_RING": "0", "JUPYTER_GPU_CARRIER": "websockets"}}
SHARED = "import pathlib; print(sum('jupyter-gpu' in line for line in pathlib.Path('/proc/self/maps').read_text().splitlines()))"


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, place: dict[str, str], tmp_path: Path) -> Iterator[tuple[str, Notebook]]:
    book = Notebook(place | WAYS[request.param], tmp_path)
    yield request.param, book
    book.close()


def test_there_changed_and_back(way: tuple[str, Notebook]) -> None:
    name, book = way
    book.ok("import numpy as np; a = np.random.default_rng(0).random((1500, 1000)); before = a.copy(); b = a.T[:, ::2].copy()")
    book.ok(R + "c = a * 2; b += 1; a[3, 4] = 7; tail = a[-1].sum()")
    assert book.value("bool((c == before * 2).all() and a[3, 4] == 7 and (a[4:] == before[4:]).all())") == "True"
    assert book.value("bool((b == before.T[:, ::2] + 1).all() and c.flags.writeable and tail == before[-1].sum())") == "True"
    assert book.ok(SHARED).text() == ("1\n" if name == "ring" else "0\n")


def test_what_came_is_memory_of_its_own(way: tuple[str, Notebook]) -> None:
    """A forked child changes its own copy; a later transfer changes nothing that came before."""
    _, book = way
    book.ok("import numpy as np; a = np.ones(700_000)")
    child = "import os\npid = os.fork()\nif not pid:\n    a[:] = 5\n    os._exit(0)\n_ = os.waitpid(pid, 0)\nprint(a.sum())"
    assert book.ok(R + child).text() == "700000.0\n"
    book.ok(R + "import numpy as np\nmade = np.full(700_000, 3.0)")
    assert book.ok(child.replace("a[:]", "made[:]").replace("a.sum", "made.sum")).text() == "2100000.0\n"
    for n in range(3):
        book.ok(f"other = np.full(3_000_000, {n}.0)")
        assert book.ok(R + "print(other[-1], a.sum()); more = other + 1").text() == f"{n}.0 700000.0\n"
        assert book.value("(float(made.sum()), float(more[0]))") == f"(2100000.0, {n + 1}.0)"


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="shared memory has no names here")
def test_nothing_is_left_of_a_kernel_or_a_notebook_that_is_killed(place: dict[str, str], tmp_path: Path) -> None:
    before = set(os.listdir("/dev/shm"))
    book = Notebook(place, tmp_path)
    try:
        book.ok("import numpy as np; a = np.zeros(2_000_000)")
        book.ok(R + "a += 1")
        assert book.run(R + "import os, signal; os.kill(os.getpid(), signal.SIGKILL)").error is not None
        book.ok("b = np.ones(2_000_000)")
        assert book.ok(R + "print(b.sum())").text() == "2000000.0\n"
        assert set(os.listdir("/dev/shm")) <= before
    finally:
        book.close()
    wait_for(lambda: set(os.listdir("/dev/shm")) <= before, "nothing is left")
