"""Tensors: what a change costs on the wire, and how one takes over the content of its twin."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from jupyter_gpu.sync import swap

torch: Any = pytest.importorskip("torch")

Journal = list[Callable[[], object]]
MIB = 1 << 20


# ---------------------------------------------------------------- bytes


def after(pair: Any, way: str, change: str, *names: str) -> int:
    """Bytes of a change that one end makes and the other hears of."""
    if way == "to the kernel":
        pair.local(change)
        pair.send(*names)
    else:
        pair.run(change)
    return pair.travelled


def begin(pair: Any, code: str, *names: str) -> int:
    """Make values here and send them; bytes."""
    pair.there["torch"] = torch
    pair.local("import torch\ntorch.manual_seed(0)\n" + code)
    pair.send(*names)
    return pair.travelled


def forget_copies(pair: Any) -> None:
    for replica in (pair.client, pair.kernel):
        replica.lineage.copies.clear()
        replica.lineage.copies.memory = 0


WAYS = pytest.mark.parametrize("way", ["to the kernel", "to the client"])
LARGE = "x = torch.rand(16 << 20)"  # 64 MiB
MODEL = "m = torch.nn.Sequential(*[torch.nn.Linear(1024, 1024) for _ in range(8)])"  # 32 MiB in weights, 32 KiB in biases


@WAYS
@pytest.mark.parametrize("kept", [True, False], ids=["copies", "no copies"])
@pytest.mark.parametrize(
    ("change", "most", "most_without"),
    [
        pytest.param("x[12345] = -1", 1000, 150_000, id="one element"),
        pytest.param("x = torch.cat([x, torch.rand(len(x) // 100)])", 0.0101 * 64 * MIB, 0.0135 * 64 * MIB, id="1% appended"),
    ],
)
def test_a_large_tensor_costs_what_changed(pair: Any, way: str, kept: bool, change: str, most: float, most_without: float) -> None:
    """Without copies it is told by the digests of pieces."""
    assert begin(pair, LARGE, "x") > 64 * MIB
    if not kept:
        forget_copies(pair)
    assert after(pair, way, change, "x") < (most if kept else most_without)
    assert torch.equal(pair.here["x"], pair.there["x"])


@WAYS
@pytest.mark.parametrize(
    ("change", "most"),
    [
        pytest.param("with torch.no_grad(): m[3].weight[5, 6] = 7.0", 48_000, id="one element"),
        pytest.param("with torch.no_grad(): m[3].bias[:] = 0", 48_000, id="a bias"),
        pytest.param("torch.nn.init.normal_(m[3].weight)", 4 * MIB + 48_000, id="one parameter of sixteen"),
    ],
)
def test_of_a_module_what_changed(pair: Any, way: str, change: str, most: int) -> None:
    """Small parameters travel inside the message, whether or not they changed."""
    assert begin(pair, MODEL, "m") > 32 * MIB
    parameters = list(pair.here["m"].parameters())
    assert after(pair, way, change, "m") < most
    assert all(torch.equal(a, b) for a, b in zip(parameters, pair.there["m"].parameters()))
    assert all(a is b for a, b in zip(parameters, pair.here["m"].parameters()))


@WAYS
def test_a_step_of_an_optimizer_changes_all_of_it(pair: Any, way: str) -> None:
    """No gain is expected: every weight is another number, and there is a gradient of its size. Nor is it more than that."""
    first = begin(pair, MODEL + "\no = torch.optim.SGD(m.parameters(), lr=0.1)", "m", "o")
    step = "o.zero_grad(); m(torch.rand(4, 1024)).sum().backward(); o.step()"
    cost = after(pair, way, step, "m", "o")
    assert 2 * 32 * MIB < cost < 2 * first + 10_000
    ours, theirs = (end["m"].parameters() for end in (pair.here, pair.there))
    assert all(torch.equal(a, b) and torch.equal(a.grad, b.grad) for a, b in zip(ours, theirs))
    assert pair.here["o"].param_groups[0]["params"][0] is pair.here["m"][0].weight
    assert after(pair, way, "with torch.no_grad(): m[0].weight[0, 0] = 5", "m", "o") < 0.01 * cost


@WAYS
@pytest.mark.parametrize("tie", ["b.weight = a.weight", "b.weight = torch.nn.Parameter(a.weight.data)"], ids=["parameter", "storage"])
def test_tied_weights_are_told_once_and_stay_tied(pair: Any, way: str, tie: str) -> None:
    linear = "torch.nn.Linear(2048, 2048, bias=False)"
    assert begin(pair, f"a, b = {linear}, {linear}\n{tie}", "a", "b") < 16 * MIB + 10_000
    assert after(pair, way, "with torch.no_grad(): a.weight[3, 4] = 9", "a", "b") < 3000
    for end in (pair.here, pair.there):
        assert end["b"].weight[3, 4] == 9 and end["a"].weight.data_ptr() == end["b"].weight.data_ptr()


@WAYS
@pytest.mark.parametrize("dtype", ["bfloat16", "int8", "complex64", "bool"])
def test_other_types(pair: Any, way: str, dtype: str) -> None:
    begin(pair, f"x = torch.rand(4 << 20).mul(100).to(torch.{dtype})", "x")
    assert after(pair, way, "x[77] = 0; x[78] = 1", "x") < 1000
    assert torch.equal(pair.here["x"], pair.there["x"])


# ---------------------------------------------------------------- a new view of what changed


@pytest.mark.parametrize(
    "code", ["v = x[5:10]; x[5] = 1", "x[5] = 1; v = x[5:10]", "v = x.view(2, -1); x[5] = 1", "x[5] = 1; v = x.detach()"]
)
def test_a_new_view_shows_the_new_content(pair: Any, code: str) -> None:
    """What ``x`` had here goes to its twin, unless the twin's memory is shown by another tensor."""
    begin(pair, "x = torch.rand(1 << 20)", "x")
    x = pair.here["x"]
    pair.run(code)
    assert pair.here["x"] is x and torch.equal(x, pair.there["x"]) and torch.equal(pair.here["v"], pair.there["v"])


@pytest.mark.parametrize("trust", ["code", "data"])
@pytest.mark.parametrize(
    "code",
    [
        "y.data = x.data; x[1] = 5",  # one memory there, two here
        "x[1] = 5; z = [y, x.detach(), x[7:], x.view(4, -1)]",
        "x[1] = 5; y.data = x[3:]; z = [x[1:], x]",
    ],
)
@pytest.mark.parametrize("before", ["y = x.detach()", "y = x.clone()", "y = x[: len(x) // 2]"])
def test_what_shows_the_same_memory_has_the_same_content(pair: Any, before: str, code: str, trust: Any) -> None:
    """In whatever order the stream has them: some are made before a content is exchanged, and some after it."""
    pair.client.trust = trust
    begin(pair, "x = torch.rand(1 << 20)\n" + before, "x", "y")
    pair.run(code)
    ours, theirs = ([end["x"], end["y"], *end.get("z", [])] for end in (pair.here, pair.there))
    assert len(ours) == len(theirs) and [torch.equal(a, b) for a, b in zip(ours, theirs)] == [True] * len(ours)


# ---------------------------------------------------------------- swapping


def tensors(kind: str, side: int = 700) -> tuple[Any, Any]:
    old, twin = (torch.rand(side, side, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    if kind == "parameters":
        return torch.nn.Parameter(old), torch.nn.Parameter(twin)
    if kind == "transposed":
        columns = [torch.empty_strided(t.shape, (1, side)).copy_(t) for t in (old, twin)]  # a view would hold what it is one of
        return columns[0], columns[1]
    if kind == "channels last":
        return tuple(t.reshape(7, side // 7, 7, side // 7).contiguous(memory_format=torch.channels_last) for t in (old, twin))  # type: ignore[return-value]
    if kind == "a view here":
        return torch.cat([old, old])[side:], twin
    if kind == "a view there":
        return old, torch.cat([twin, twin])[:side]
    if kind == "another order":
        return old, twin.t()
    if kind == "every second":
        return torch.rand(side, 2 * side)[:, ::2], twin
    return old, twin


KINDS = ["plain", "parameters", "transposed", "channels last", "a view here", "a view there", "another order", "every second"]


@pytest.mark.parametrize("kind", KINDS)
def test_content_is_taken_over_and_given_back(kind: str) -> None:
    old, twin = tensors(kind)
    before, after, address = old.clone(), twin.clone(), old.data_ptr()
    journal: Journal = []
    assert swap.swap_tensor(old, twin, journal)
    assert torch.equal(old, after) and old.data_ptr() == address
    while journal:
        journal.pop()()
    assert torch.equal(old, before) and old.data_ptr() == address


@pytest.mark.parametrize("kind", KINDS)
def test_what_else_shows_the_twins_memory_is_left_alone(kind: str) -> None:
    old, twin = tensors(kind)
    other, content = twin.detach(), twin.clone()
    journal: Journal = []
    assert swap.swap_tensor(old, twin, journal)
    assert torch.equal(old, content) and torch.equal(other, content)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is Linux' to tell")
@pytest.mark.parametrize("kind", ["plain", "parameters", "transposed", "channels last"])
def test_there_is_no_third_copy(kind: str) -> None:
    old, twin = tensors(kind, 7000)  # 187 MiB each
    size, now = old.nbytes, _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    journal: Journal = []
    assert swap.swap_tensor(old, twin, journal)
    assert _memory("VmHWM") - now < size // 4


def _memory(what: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) << 10


@pytest.mark.parametrize("kind", ["plain", "parameters", "channels last", "every second"])
def test_an_interrupt_at_any_line_can_be_undone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap, "_LARGE", 1 << 13)
    old, twin = tensors(kind, 210)
    old.note = "old"
    twin.note = "new"
    before, gradient, stopped = old.clone(), old.grad, 0
    for stop in range(1, 200):
        lines = 0

        def trace(frame: FrameType, event: str, arg: object, stop: int = stop) -> Any:
            nonlocal lines
            if frame.f_globals is not vars(swap):
                return None
            if event == "line":
                lines += 1
                if lines == stop:
                    raise KeyboardInterrupt
            return trace

        journal: Journal = []
        other = twin.detach().clone(memory_format=torch.preserve_format).requires_grad_(twin.requires_grad)
        other.note = "new"
        sys.settrace(trace)
        try:
            swap.swap_tensor(old, other, journal)
        except KeyboardInterrupt:
            stopped += 1
        finally:
            sys.settrace(None)
            torch.set_grad_enabled(True)  # an interrupt within torch's own `no_grad` leaves it off
        while journal:
            journal.pop()()
        assert torch.equal(old, before) and old.note == "old" and old.grad is gradient, stop
    assert stopped > (30 if kind != "every second" else 10)


@pytest.mark.parametrize("size", [4, 1 << 20], ids=["copied", "exchanged"])
def test_tied_here_and_untied_there(pair: Any, size: int) -> None:
    pair.local(f"import torch; x = torch.zeros({size}); y = x[:]; z = y")
    pair.run("y.data = x.data.clone(); y += 1; x -= 1")
    assert float(pair.here["x"].max()) == -1 and float(pair.here["y"].min()) == 1
    assert pair.here["z"] is pair.here["y"]
    pair.run("y += 1")
    assert float(pair.here["x"].max()) == -1 and float(pair.here["z"].min()) == 2


def test_rows_that_travel_alone_stay_rows_of_one_matrix(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from jupyter_gpu.sync import torch_codec

    monkeypatch.setattr(torch_codec, "_WHOLE", 1 << 10)
    pair.local("import torch; whole = torch.zeros(100, 100); one, two, column, other = whole[0], whole[1], whole[2:, 5], whole[2:, 6]")
    pair.run("one += 1; two += 2; column[:] = 3; other[:] = 4")
    whole = pair.here["whole"]
    assert [float(whole[i].sum()) for i in (0, 1)] == [100, 200]
    assert float(whole[9, 5]) == 3 and float(whole[9, 6]) == 4
