"""Codecs: loaded when they are needed, others' by an entry point, and what each keeps."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from jupyter_gpu.sync import codecs
from jupyter_gpu.sync.loading import Unpickler
from jupyter_gpu.sync.pickler import Pickler

HEAVY = ("numpy", "pandas", "polars", "pyarrow", "scipy", "torch", "jax", "PIL", "matplotlib")


def through(value: Any) -> tuple[Any, Pickler]:
    pickler = Pickler({})
    pickler.dump(value)
    return Unpickler(
        pickler.file.getvalue(), [memoryview(bytearray(b.raw())) for b in pickler.buffers], {}, lambda pid: pid
    ).load(), pickler


def run(code: str, *paths: Path) -> str:
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": ":".join(map(str, paths))})
    assert found.returncode == 0, found.stderr
    return found.stdout + found.stderr


def test_nothing_heavy_is_imported_before_its_type_is_met() -> None:
    code = (
        "import sys, decimal\nfrom jupyter_gpu.sync.replica import Replica\nfrom jupyter_gpu.sync import codecs\n"
        "r = Replica({'a': [1], 'f': len, 'd': decimal.Decimal(1)}, 'client'); r.export(r.needed(['a', 'f', 'd'])); codecs.trusted_names()\n"
        f"print([n for n in {HEAVY!r} if n in sys.modules])\n"
    )
    assert run(code).strip() == "[]"


def test_a_codec_is_loaded_with_the_first_value_of_its_library() -> None:
    code = (
        "import sys, numpy\nfrom jupyter_gpu.sync.replica import Replica\nmine = lambda: 'jupyter_gpu.sync.codecs.frames' in sys.modules\n"
        "ns = {'a': numpy.zeros(3)}; r = Replica(ns, 'client'); r.export(r.needed(['a'])); before = mine()\n"
        "import pandas; ns['d'] = pandas.DataFrame({'a': [1]}); r.export(r.needed(['d'])); print(before, mine())"
    )
    assert run(code).strip() == "False True"


def distribution(folder: Path, codec: str) -> Path:
    """A fake one: a library with a type, a codec for it, and the entry point that says so."""
    (folder / "madeup-1.0.dist-info").mkdir(parents=True)
    (folder / "madeup-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: madeup\nVersion: 1.0\n")
    (folder / "madeup-1.0.dist-info" / "entry_points.txt").write_text("[jupyter_gpu.codecs]\nmadeup = madeup_codec\n")
    (folder / "madeup.py").write_text("class Thing:\n    def __init__(self, n): self.n = n\n")
    (folder / "madeup_codec.py").write_text(codec)
    return folder


_USE = (
    "import madeup\nfrom jupyter_gpu.sync.pickler import Pickler\nfrom jupyter_gpu.sync.loading import Unpickler\n"
    "for n in (1, 2):\n    p = Pickler({}); p.dump([madeup.Thing(n)])\n"
    "    print(Unpickler(p.file.getvalue(), (), {}, lambda pid: pid).load()[0].n)\n"
)


def test_others_add_theirs(tmp_path: Path) -> None:
    codec = (
        "import madeup\ntrusted = frozenset({'madeup_codec:make'})\ndef make(n): return madeup.Thing(-n)\n"
        "def route_of(kind, pickler): return (lambda p, obj: (make, (obj.n,))) if kind is madeup.Thing else None\n"
    )
    assert run(_USE, distribution(tmp_path, codec)).split() == ["-1", "-2"]


@pytest.mark.parametrize(
    "codec",
    ["raise ImportError('broken')", "trusted = []", "trusted = frozenset()\ndef route_of(kind, pickler): raise ValueError('broken')\n"],
)
def test_one_that_fails_is_a_warning(tmp_path: Path, codec: str) -> None:
    said = run(_USE, distribution(tmp_path, codec))
    assert said.split()[:1] == ["1"] and "2" in said.split() and said.count("RuntimeWarning") == 1 and "the codec for madeup" in said


def test_what_is_trusted_is_there() -> None:
    names = codecs.trusted_names()
    assert {"jupyter_gpu.sync.codecs:_view", "jupyter_gpu.sync.torch_codec:_make_tensor"} <= names
    for name in names:
        module, _, qualname = name.partition(":")
        if module.startswith("jupyter_gpu"):
            assert callable(getattr(sys.modules[module], qualname)), name


def test_a_class_that_says_it_is_of_a_library_that_is_not_loaded() -> None:
    thing = type("Thing", (), {"__module__": "nowhere_at_all"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert codecs.route_of(thing, Pickler({})) is None


# ---------------------------------------------------------------- library by library


def test_pixels_go_out_of_band() -> None:
    image = pytest.importorskip("PIL.Image").effect_noise((300, 200), 50)
    there, pickler = through([image, image])
    assert there[0] is there[1] and there[0] == image and there[0].info == image.info and len(pickler.buffers) == 1


def test_a_figure_is_shown_by_nobody_where_it_arrives() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    axes.plot([1, 2])
    try:
        before = plt.get_fignums()
        there, _ = through(figure)
        assert plt.get_fignums() == before and there.axes[0].lines[0].get_ydata().tolist() == [1, 2]
    finally:
        plt.close(figure)


def test_polars_out_of_band_with_their_types() -> None:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"a": range(5000), "c": pl.Series(["x", "y"] * 2500, dtype=pl.Categorical), "n": [[1, None]] * 5000})
    there, pickler = through([frame, frame["a"], frame["c"].rename("other")])
    assert there[0].equals(frame) and there[0].schema == frame.schema and there[1].equals(frame["a"]) and there[2].name == "other"
    assert len(pickler.buffers) == 3 and len(pickler.file.getvalue()) < 1000
    thing = pl.Series("o", [object], dtype=pl.Object)
    assert codecs.route_of(pl.Series, Pickler({}))(None, thing) is NotImplemented  # type: ignore[misc]


def test_arrow_copies_nothing_and_a_slice_brings_little() -> None:
    pa = pytest.importorskip("pyarrow")
    array = pa.array(range(100_000))
    _, pickler = through(array)
    assert pickler.buffers[0].raw().obj.address == array.buffers()[1].address  # type: ignore[attr-defined]
    for part in (array.slice(10, 20), pa.table({"a": array}).slice(10, 20), pa.chunked_array([array]).slice(10, 20)):
        there, pickler = through(part)
        assert there.equals(part) and sum(b.raw().nbytes for b in pickler.buffers) < 2000


def test_jax_dtypes_keys_and_weak_types() -> None:
    jnp = pytest.importorskip("jax.numpy")
    import jax

    for array in (
        jnp.arange(3000.0),
        jnp.arange(4, dtype=jnp.bfloat16),
        jnp.ones((2, 3), jnp.float8_e4m3fn),
        jnp.asarray(1.5),
        jnp.zeros((0, 2)),
    ):
        there, _ = through(array)
        assert (there.dtype, there.shape, there.weak_type) == (array.dtype, array.shape, array.weak_type) and (there == array).all()
    assert len(through(jnp.arange(3000.0))[1].buffers) == 1
    key = jax.random.key(7)
    assert jax.random.uniform(through(key)[0]) == jax.random.uniform(key)


def test_jax_is_spread_where_there_are_as_many_devices() -> None:
    pytest.importorskip("jax")
    code = (
        "import os, pickle, sys; os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=' + {count!r}\n"
        "import jax, numpy as np\nfrom jax.sharding import Mesh, NamedSharding, PartitionSpec as P\n"
        "from jupyter_gpu.sync.codecs import jax_codec\n{body}"
    )
    send = (
        "s = NamedSharding(Mesh(np.array(jax.devices()).reshape(2, 2), ('a', 'b')), P('a', None))\n"
        "print(pickle.dumps(jax_codec._reduce_array(None, jax.device_put(np.arange(8.).reshape(4, 2), s))[1]).hex())"
    )
    data = run(code.format(count="4", body=send)).split()[-1]
    take = f"x = jax_codec.load_array(*pickle.loads(bytes.fromhex('{data}'))); print(len(x.sharding.device_set), float(x.sum()))"
    assert run(code.format(count="4", body=take)).split()[-2:] == ["4", "28.0"]
    assert run(code.format(count="1", body=take)).split()[-2:] == ["1", "28.0"]


def test_14_a_tensor_remembers_the_device_that_is_not_here() -> None:
    torch = pytest.importorskip("torch")
    from jupyter_gpu.sync import torch_codec

    if torch.cuda.is_available():
        pytest.skip("there is a device here")
    holder = torch_codec._load_storage(memoryview(bytearray(16)), "cuda:0")
    here = torch_codec._make_tensor(holder, torch.float32, 0, (4,), (1,), False, False, None, {})
    assert here.device.type == "cpu" and here._jupyter_gpu_device == "cuda:0"
    pickler = Pickler({})
    _, (back, *_, attributes) = torch_codec.reduce_tensor(pickler, here)
    assert back.home == "cuda:0" and attributes == {}
