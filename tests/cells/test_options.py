"""What may stand behind %%remote, and what a slip of the keyboard gets."""

from __future__ import annotations

import pytest

from jupyter_gpu.cells.options import Options, parse, parse_gpu
from jupyter_gpu.wire.errors import BadHardware, BadOptionValue, UnknownOption
from jupyter_gpu.wire.messages import Wanted


def test_everything_at_once() -> None:
    got = parse("gpu=h100:2,A100 in=a,b out=x keep=model name=second timeout=5m idle=1.5h quiet")
    assert got == Options(
        gpu=(Wanted(type="H100", count=2), Wanted(type="A100")),
        sent=("a", "b"),
        out=("x",),
        keep=("model",),
        name="second",
        timeout=300.0,
        idle=5400.0,
        quiet=True,
    )
    assert got.hardware == "H100:2,A100"


def test_nothing_is_the_default() -> None:
    assert parse("") == Options() and parse("  # a comment") == Options()


@pytest.mark.parametrize(
    "line", ["gpu=H100", "gpu = H100", "--gpu H100", "--gpu=H100", "-gpu h100", "gpu='H100'", "gpu=H100  # train", "GPU=h100"]
)
def test_tolerated_ways_to_say_the_same(line: str) -> None:
    assert parse(line).gpu == (Wanted(type="H100"),)


def test_blanks_around_commas() -> None:
    assert parse("gpu=H100, A100 in = a , b").sent == ("a", "b")


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("5m", 300), ("1h", 3600), ("45", 45), ("250ms", 0.25), ("2d", 172800)])
def test_durations(text: str, seconds: float) -> None:
    assert parse(f"timeout={text}").timeout == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-5", "0", "soon", "5 minutes", "1h30"])
def test_bad_durations(text: str) -> None:
    with pytest.raises((BadOptionValue, UnknownOption)):
        parse(f"timeout={text}")


@pytest.mark.parametrize(
    "gpu",
    [
        "",
        ",",
        "H100:0",
        "H100:x",
        "H100:1:2",
        "H100:-1",
        "H100,",
        "2",
        "cpu:2",
        "H100:²",
        "H 100:",
        "H100,h100",
        ":2",
        "H100:",
        "H100:2000",
    ],
)
def test_malformed_hardware(gpu: str) -> None:
    with pytest.raises(BadHardware) as raised:
        parse_gpu(gpu)
    assert "gpu=H100" in str(raised.value)


@pytest.mark.parametrize("gpu", ["", ",", "H100:0", "H100:x", "H100:1:2", "H100:-1"])
def test_malformed_hardware_in_a_line(gpu: str) -> None:
    with pytest.raises(BadHardware):
        parse(f"gpu={gpu}")


def test_card_with_a_number_for_a_name() -> None:
    assert parse_gpu("4090") == (Wanted(type="4090"),)


@pytest.mark.parametrize(
    ("line", "near"),
    [("gpus=H100", "gpu"), ("timout=3s", "timeout"), ("keeps=a", "keep"), ("H100", "gpu=H100"), ("Quit", "quiet"), ("time=3", "timeout")],
)
def test_unknown_option_names_the_nearest(line: str, near: str) -> None:
    with pytest.raises(UnknownOption) as raised:
        parse(line)
    assert raised.value.nearest == near and near in str(raised.value)


@pytest.mark.parametrize("line", ["zzz=1", "@!", "=3"])
def test_unknown_option_lists_the_options(line: str) -> None:
    with pytest.raises(UnknownOption) as raised:
        parse(line)
    assert "gpu=" in str(raised.value)


@pytest.mark.parametrize(
    "line",
    [
        "gpu=H100 gpu=A100",
        "quiet quiet",
        "in=a,a",
        "in=1x",
        "out=a-b",
        "in=",
        "keep=class",
        "name=all",
        "name=a/b",
        "gpu",
        "--gpu",
        "quiet=maybe",
        "--gpu in=a",
        "name='a",
    ],
)
def test_refused(line: str) -> None:
    with pytest.raises(BadOptionValue):
        parse(line)


def test_option_names_are_not_swallowed_as_values() -> None:
    with pytest.raises(BadOptionValue):
        parse("--name --gpu H100")
