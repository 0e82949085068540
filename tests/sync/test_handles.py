from __future__ import annotations

import copy
import operator
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jupyter_gpu.sync.handles import Handle, describe
from jupyter_gpu.wire.errors import HandleError
from jupyter_gpu.wire.messages import HandleInfo


def handle(fetch: Callable[[], Any] = lambda: "the value", **more: Any) -> Handle:
    return Handle(HandleInfo(**{"name": "model", "type": "torch.Tensor", "text": "tensor([1, 2])", **more}), fetch)


USES: dict[str, Callable[[Any], Any]] = {
    "call": lambda h: h(1),
    "attribute": lambda h: h.weights,
    "set": lambda h: setattr(h, "weights", 1),
    "item": lambda h: h[0],
    "set item": lambda h: operator.setitem(h, 0, 1),
    "delete item": lambda h: operator.delitem(h, 0),
    "iterate": lambda h: list(h),
    "len": len,
    "bool": bool,
    "in": lambda h: 1 in h,
    "less": lambda h: h < 1,
    "add": lambda h: h + 1,
    "radd": lambda h: 1 + h,
    "iadd": lambda h: operator.iadd(h, 1),
    "matmul": lambda h: h @ h,
    "negative": lambda h: -h,
    "int": int,
    "float": float,
    "ufunc": np.sin,
    "numpy left": lambda h: np.ones(2) + h,
    "with": lambda h: h.__enter__(),
    "pickle": pickle.dumps,
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "equal": lambda h: h == 1,
    "unequal": lambda h: h != 1,
    "in a list": lambda h: h in [1, 2],
    "of another type": lambda h: h == np.ones(2),
    "array": np.asarray,
    "array in a list": lambda h: np.array([h]),
    "frame": lambda h: pd.DataFrame(h),
    "mean": np.mean,
    "concatenate": lambda h: np.concatenate([h, h]),
    "where": lambda h: np.where(h, 1, 2),
    "matrix left": lambda h: np.ones((2, 2)) @ h,
    "unpack": lambda h: [*h],
    "keywords": lambda h: dict(**h),
    "hex": hex,
    "round": round,
    "sum": sum,
    "sorted": sorted,
    "format": lambda h: f"{h:.2f}",
    "delete attribute": lambda h: delattr(h, "weights"),
    "bytes": bytes,
    "open": open,
    "async with": lambda h: h.__aenter__(),
    "json": lambda h: __import__("json").dumps(h, default=lambda o: o.tolist()),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_using_it_here_says_what_to_do_instead(use: Callable[[Any], Any]) -> None:
    fetched: list[int] = []
    with pytest.raises(HandleError) as caught:
        use(handle(lambda: fetched.append(1)))
    assert "'model' stayed on the worker" in str(caught.value) and "model.fetch()" in str(caught.value)
    assert fetched == [], "never without being asked"


def test_an_array_of_it() -> None:
    with pytest.raises(HandleError):
        np.asarray(handle())


def test_the_sentence_is_a_sentence() -> None:
    with pytest.raises(HandleError, match="cannot be called here"):
        handle()()


def test_describing_what_raises_at_its_shape() -> None:
    class Bad:
        shape = property(lambda self: 1 / 0)

    assert describe(Bad(), "b").shape is None


def test_what_asks_whether_hears_no() -> None:
    found = handle()
    for name in ("_repr_png_", "__len_hint__", "_ipython_display_", "__array_priority__"):
        assert not hasattr(found, name)
    assert found == found and hash(found) is not None
    assert weakref.ref(found)() is found


def test_what_shows_it_does_not_use_it() -> None:
    found = handle()
    assert f"{found}" == str(found) == repr(found) and format(found) == repr(found) and "%s" % found == repr(found)
    assert found in [found, 1] and {found: 1}[found] == 1 and [found].index(found) == 0
    assert isinstance(found, Handle) and callable(found.fetch) and found is not None


def test_one_whose_session_has_ended_says_so() -> None:
    class Gone:
        ended = True

        def __call__(self) -> Any:
            raise ConnectionError

    found = Handle(HandleInfo(name="model", type="list", text="[1]"), Gone())
    assert "session has ended" in repr(found) and "session has ended" in found._repr_html_()
    with pytest.raises(HandleError, match="session has ended") as caught:
        found + 1
    assert caught.value.ended and "Run the cell again" in str(caught.value)


def test_fetching_and_why_it_failed() -> None:
    assert handle().fetch() == "the value"

    def gone() -> Any:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        handle(gone).fetch()


def test_what_it_shows() -> None:
    found = handle(shape=[2, 3], dtype="float32", device="cuda:0", size=1_234_567)
    assert (found.shape, found.dtype, found.device, found.type, found.size) == ((2, 3), "float32", "cuda:0", "torch.Tensor", 1_234_567)
    shown = repr(found)
    assert shown.startswith("<remote model: torch.Tensor, 2×3, float32, cuda:0, 1.2 MB>") and shown.endswith("tensor([1, 2])")
    assert handle().shape is None and handle(shape=[]).shape == () and "0-d" in repr(handle(shape=[]))
    assert repr(handle(text="")) == "<remote model: torch.Tensor>"


def test_what_it_shows_as_html_is_text_and_no_markup() -> None:
    markup = handle(text="<script>alert(1)</script>", type="<b>", name="x")._repr_html_()
    assert "<script>" not in markup and "&lt;script&gt;" in markup and "&lt;b&gt;" in markup
    assert "<table>" in handle(html="<table></table>")._repr_html_()


# ---------------------------------------------------------------- describe


def test_arrays_and_frames() -> None:
    found = describe(np.zeros((2, 3), "float32"), "a", "keep=")
    assert (found.name, found.type, found.shape, found.dtype, found.size, found.why) == (
        "a",
        "numpy.ndarray",
        [2, 3],
        "float32",
        24,
        "keep=",
    )
    found = describe(pd.DataFrame({"x": [1, 2, 3]}), "f")
    assert found.shape == [3, 1] and "<table" in found.html and found.size > 0 and found.type.endswith("DataFrame")
    assert describe(np.float32(1), "s").shape == []


def test_polars_and_series() -> None:
    assert "<table" in describe(pd.Series(range(1000)), "s").html and len(describe(pd.Series(range(1000)), "s").html) < 5000
    polars = pytest.importorskip("polars")
    found = describe(polars.DataFrame({"x": range(1000)}), "f")
    assert "<table" in found.html and found.shape == [1000, 1] and found.size == 8000
    assert "<table" in describe(polars.Series([1, 2]), "s").html


def test_tensors_and_modules() -> None:
    torch = pytest.importorskip("torch")
    found = describe(torch.zeros(2, 3, dtype=torch.bfloat16, device="meta"), "t")
    assert (found.shape, found.dtype, found.device, found.size, found.type) == ([2, 3], "torch.bfloat16", "meta", 12, "torch.Tensor")
    found = describe(torch.nn.Linear(10, 10, device="meta"), "m")
    assert found.device == "meta" and found.size == 440 and "Linear(in_features=10" in found.text


def test_plain_values() -> None:
    found = describe([1, 2], "x")
    assert (found.type, found.text, found.shape, found.html) == ("list", "[1, 2]", None, "") and found.size > 0
    assert len(describe("y" * 100_000, "x").text) < 2_100


def test_values_that_misbehave() -> None:
    class Bad:
        shape = "round"
        nbytes = property(lambda self: 1 / 0)

        def dtype(self) -> None: ...

        device = dtype

        def __repr__(self) -> str:
            raise RuntimeError("no")

    found = describe(Bad(), "b")
    assert "whose repr raises RuntimeError" in found.text and found.size == -1
    assert (found.shape, found.dtype, found.device) == (None, "", "")
