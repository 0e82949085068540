"""What a change costs on the wire, in both directions, between a real notebook and a real worker. Bytes are exact, so they are compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from notebook_driver import Notebook

pytestmark = pytest.mark.timeout(300)
R = "%%remote gpu=H100 quiet\n"
SIZE = 16 << 20

METER = """
class Meter:
    'Bytes of all messages, as they are encoded: to the kernel, and from it.'
    def __init__(self):
        self.out = self.back = 0
        for remote in get_ipython()._jupyter_gpu.remotes.values():
            self.watch(remote.session)
    def watch(self, session):
        from jupyter_gpu.wire.codec import encode, size_of
        if hasattr(session, 'metered'):
            session.metered = self
            return
        session.metered = self
        send, receive = session.send, session.receive
        def sending(message, buffers=(), **more):
            session.metered.out += size_of(encode(message, list(buffers)))
            return send(message, buffers, **more)
        def receiving(timeout=None):
            got = receive(timeout)
            if got is not None:
                session.metered.back += size_of(encode(got[0], list(got[1])))
            return got
        session.send, session.receive = sending, receiving
"""
CHECK = "import hashlib, pickle\ndef same(v):\n    import numpy\n    return hashlib.sha256(numpy.ascontiguousarray(v).tobytes() if hasattr(v, 'dtype') else pickle.dumps(v)).hexdigest()"
#: Drops every copy of a process, and keeps none from here on.
NO_COPIES = "import gc\nfrom jupyter_gpu.sync.copies import Copies\nfor c in [c for c in gc.get_objects() if type(c) is Copies]:\n    c.clear()\n    c.memory = 0"


class Book:
    """``to_kernel`` and ``to_client`` make a change at one end, let the other see it, compare, and give the bytes that it took."""

    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook

    def bytes_of(self, cell: str) -> tuple[int, int]:
        self.notebook.ok("_meter = Meter()")
        self.notebook.ok(cell)
        out, back = eval(self.notebook.value("(_meter.out, _meter.back)"))
        return out, back

    def to_kernel(self, change: str, name: str = "x") -> int:
        self.notebook.ok(change)
        out, _ = self.bytes_of(R + f"type({name})")
        self.compare(name)
        return out

    def to_client(self, change: str, name: str = "x") -> int:
        _, back = self.bytes_of(R + change)
        self.compare(name)
        return back

    def compare(self, name: str) -> None:
        here = eval(self.notebook.value(f"same({name})"))
        assert self.notebook.ok(R + f"print(same({name}))").text() == here + "\n"


@pytest.fixture(scope="module")
def book(place: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Book]:
    notebook = Notebook(place, tmp_path_factory.mktemp("partial"))
    notebook.ok("import numpy as np, pandas as pd\nrng = np.random.default_rng(0)")
    notebook.ok(METER + CHECK)
    notebook.ok(R + "import numpy as np, pandas as pd\nrng = np.random.default_rng(1)\nnp.zeros(3).sum()")
    yield Book(notebook)
    notebook.close()


CHANGES = [
    pytest.param("pass", 0.0001 * SIZE + 4096, id="unchanged"),
    pytest.param("x[12345] = -1", 0.001 * SIZE, id="one element"),
    pytest.param("x = np.concatenate([x, rng.random(len(x) // 100)])", 0.011 * SIZE * 1.02, id="1% appended"),
    pytest.param("x = np.concatenate([rng.random(1000), x])", 0.003 * SIZE, id="rows prepended"),
    pytest.param("x[rng.integers(0, len(x), len(x) // 1000)] = rng.random(len(x) // 1000)", 0.005 * SIZE, id="0.1% at random"),
]


@pytest.mark.parametrize("kept", [True, False], ids=["copies", "no copies"])
@pytest.mark.parametrize("way", ["to_kernel", "to_client"])
def test_an_array_costs_about_what_changed(book: Book, way: str, kept: bool) -> None:
    """Without copies all is told by digests of pieces, and edits all over an array are no saving."""
    notebook = book.notebook
    if not kept:
        notebook.ok(R + NO_COPIES)
        notebook.ok(NO_COPIES)
    notebook.ok(f"x = rng.random({SIZE} // 8)")
    first = book.bytes_of(R + "x.sum()")[0]
    assert first > SIZE
    for change in CHANGES:
        code, most = change.values
        if not kept and change.id == "0.1% at random":
            continue
        if not kept:  # a piece at each end of what changed, and their digests
            most += 0.02 * SIZE
        cost = getattr(book, way)(str(code))
        assert cost <= float(most), (change.id, cost, most)  # type: ignore[arg-type]
    notebook.ok("import gc\nfor c in [c for c in gc.get_objects() if type(c).__name__ == 'Copies']:\n    c.memory = 256 << 20")
    notebook.ok(R + "for c in [c for c in gc.get_objects() if type(c).__name__ == 'Copies']:\n    c.memory = 256 << 20")


@pytest.mark.parametrize("way", ["to_kernel", "to_client"])
@pytest.mark.parametrize(
    ("name", "value", "change", "most"),
    [
        pytest.param("l", "l = list(range(10**6))", "l.append(5)", 0.01, id="list appended in place"),
        pytest.param("l", "l = list(range(10**6))", "l = l + [5, 6]", 0.01, id="another list"),
        pytest.param("l", "l = list(range(10**6))", "l.insert(0, 5)", 0.012, id="list, at its beginning"),
        pytest.param("l", "l = rng.random(5 * 10**5).tolist()", "l.insert(0, 5.0); del l[300_000]", 0.012, id="list, put in and taken out"),
        pytest.param("l", "l = [f'row {i}' for i in range(300_000)]", "l.insert(0, 'first')", 0.012, id="list of text"),
        pytest.param("b", "b = rng.bytes(8 << 20)", "b = b'abc' + b", 0.01, id="bytes"),
        pytest.param("b", "b = bytearray(rng.bytes(8 << 20))", "b += b'abc'", 0.01, id="bytearray grown in place"),
        pytest.param("s", "s = 'ab' * 10**6 + str(rng.random(10**5).tolist())", "s = s + 'x'", 0.05, id="text"),
        pytest.param("f", "f = np.asfortranarray(rng.random((1000, 1000)))", "f[5, 5] = 1", 0.01, id="columns first"),
    ],
)
def test_other_kinds(book: Book, way: str, name: str, value: str, change: str, most: float) -> None:
    book.notebook.ok(value)
    book.notebook.ok(R + f"type({name})")
    size = int(book.notebook.value(f"len(pickle.dumps({name}, 5))"))
    assert size > 1 << 20
    assert getattr(book, way)(change, name) <= most * size + 4096


@pytest.mark.parametrize("way", ["to_kernel", "to_client"])
def test_a_frame_of_several_blocks(book: Book, way: str) -> None:
    book.notebook.ok(
        "d = pd.DataFrame(rng.random((200_000, 8))); d['n'] = np.arange(200_000); d['f'] = rng.random(200_000).astype('float32')"
    )
    book.notebook.ok(R + "type(d)")
    first = 200_000 * (8 * 9 + 4)
    name = "d.to_numpy()"
    assert getattr(book, way)("d.loc[77, 'n'] = -5", name) <= 0.005 * first
    assert getattr(book, way)("d.iloc[5, 3] = 0.5", name) <= 0.005 * first
    grown = "d = pd.concat([d, d.iloc[:2000]], ignore_index=True)"
    assert getattr(book, way)(grown, name) <= 0.02 * first


def test_a_group_that_shares_objects(book: Book) -> None:
    notebook = book.notebook
    notebook.ok("big = rng.random(10**6); other = rng.random(10**6); group = {'big': big, 'other': other}")
    notebook.ok(R + "type(group), type(big), type(other)")
    notebook.ok("big[5] = 7")
    out, _ = book.bytes_of(R + "print(group['big'] is big, big[5])")
    assert out < 30_000
    _, back = book.bytes_of(R + "group['other'][3] = 9; len(other)")
    assert back < 30_000
    assert notebook.value("(group['big'] is big, group['other'] is other, other[3])") == "(True, True, np.float64(9.0))"


@pytest.mark.parametrize("where", ["here", "there"])
def test_an_end_that_has_forgotten_gets_the_whole(fresh: Notebook, where: str, tmp_path: Path) -> None:
    """Nobody hears of it, and the next change is small again."""
    fresh.ok("import numpy as np\nrng = np.random.default_rng(0)\n" + METER + CHECK)
    fresh.ok(R + "import numpy as np")
    book = Book(fresh)
    fresh.ok("x = rng.random(10**6); y = [x]")
    fresh.ok(R + "x.sum(), y")
    forget = "import gc\nfrom jupyter_gpu.sync.replica import Replica\nfor r in [r for r in gc.get_objects() if type(r) is Replica]:\n    r.lineage.reset()"
    if where == "here":
        fresh.ok(forget)
        fresh.ok(NO_COPIES.replace("c.memory = 0", "pass"))
        assert book.to_client("x[1] = 5") > 8_000_000
        assert book.to_client("x[2] = 6") < 20_000
    else:
        fresh.ok(R + forget)
        assert book.to_kernel("x[1] = 5") > 8_000_000
        assert book.to_kernel("x[2] = 6") < 20_000
    assert fresh.value("y[0] is x") == "True"
    assert fresh.ok(R + "print(y[0] is x)").text() == "True\n"
