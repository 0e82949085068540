from __future__ import annotations

import dataclasses
import pickle
from typing import Any, get_type_hints

import msgspec
import pytest

from jupyter_gpu.wire import errors
from jupyter_gpu.wire.errors import BY_CODE, InternalError, JupyterGpuError, from_record
from jupyter_gpu.wire.messages import ErrorRecord

SAMPLES: dict[object, Any] = {str: "some text", int: -7, bool: True, float: 2.5, list[str]: ["one", "two"]}


def sample(kind: type[JupyterGpuError]) -> JupyterGpuError:
    hints = get_type_hints(kind)
    return kind(**{field.name: SAMPLES[hints[field.name]] for field in dataclasses.fields(kind)})


def bare(kind: type[JupyterGpuError]) -> JupyterGpuError:
    """With nothing but what has to be given."""
    hints = get_type_hints(kind)
    needed = [f for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    return kind(**{field.name: SAMPLES[hints[field.name]] for field in needed})


KINDS = sorted(BY_CODE.values(), key=lambda kind: kind.code)


def test_the_tree_of_the_docstring_is_the_tree() -> None:
    told = {}
    for line in (errors.__doc__ or "").splitlines():
        words = line.replace("│", " ").replace("├──", " ").replace("└──", " ").split()
        if len(words) >= 2 and (words[1].rstrip(":").count(".") == 1 or words[1] == "internal:"):
            told[words[0]] = words[1].rstrip(":")
    assert told == {kind.__name__: code for code, kind in BY_CODE.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [sample, bare])
def test_round_trips(kind: type[JupyterGpuError], make: Any) -> None:
    error = make(kind)
    wire = msgspec.msgpack.decode(msgspec.msgpack.encode(error.to_record()), type=ErrorRecord)
    for copy in (from_record(wire), pickle.loads(pickle.dumps(error))):
        assert type(copy) is kind
        assert copy.fields() == error.fields()
        assert str(copy) == str(error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [sample, bare])
def test_says_what_is_wrong_and_what_to_do(kind: type[JupyterGpuError], make: Any) -> None:
    error = make(kind)
    assert error.sentence[-1] in ".?!" and ".." not in error.sentence and " :" not in error.sentence
    assert str(error) == f"{error.sentence} {error.hint}".rstrip()
    assert error.hint or kind is InternalError
    assert not error.hint or error.hint[-1] in ".?!" or error.hint.endswith("some text")
    shown = error._render_traceback_()
    assert shown[0] == f"\x1b[0;31m{kind.__name__}\x1b[0m: {error.sentence}"
    assert shown[1:] == ([error.hint] if error.hint else [])


def test_can_be_caught_by_branch_and_holds_a_traceback() -> None:
    with pytest.raises(errors.UsageError) as caught:
        raise errors.NoSuchName(name="dff", option="in", nearest="df")
    assert str(caught.value) == "There is no variable 'dff', which in= asks for. Did you mean 'df'?"
    assert caught.value.args == ()


def test_wordings_that_depend_on_fields() -> None:
    assert "killed by signal 9" in str(errors.WorkerDied(exit=-9)) and "memory" in str(errors.WorkerDied(exit=-9))
    assert "status 3" in str(errors.WorkerDied(exit=3))
    assert "gpu=any" in str(errors.NoSuchHardware(wanted=["H100"], available=["A100"]))
    assert "no GPU at all" in str(errors.NoSuchHardware(wanted=["H100"]))
    assert "torch 2.1" in str(errors.ModuleMissing(module="torch", here="2.2", there="2.1"))
    assert "no module" in str(errors.ModuleMissing(module="torch", here="2.2"))
    assert "which the cell imports (here it is torch 2.2)" in str(errors.ModuleMissing(module="torch", here="2.2", needed_by="cell"))
    assert "nor does the notebook know" in str(errors.ModuleMissing(module="torch", needed_by="cell"))
    lacking = str(errors.ModuleMissing(module="torch", here="2.2", lacking="notebook"))
    assert "this notebook does not have" in lacking and "pip install torch==2.2" in lacking and "Nothing ran" not in lacking
    assert "because of" not in str(errors.ValueCannotTravel(name="x", path="x", type="lock"))
    assert (
        "known" not in str(errors.UnknownOption(option="gpus", known=["gpu"]))
        and "gpu" in errors.UnknownOption(option="g", known=["gpu"]).hint
    )


def test_the_root_can_stand_alone() -> None:
    error = JupyterGpuError()
    assert str(error) == "Something went wrong."
    assert error._render_traceback_() == ["\x1b[0;31mJupyterGpuError\x1b[0m: Something went wrong."]


@pytest.mark.parametrize(
    "record",
    [
        ErrorRecord(code="worker.from-the-future", fields={"_sentence": "The moon is full."}),
        ErrorRecord(code="worker.from-the-future", fields={"moon": "full"}),
        ErrorRecord(code="wire.garbled", fields={"moon": "full"}),
        ErrorRecord(code="wire.too-large", fields={"size": "full", "limit": 3}),
        ErrorRecord(code="", fields={"moon": "full"}),
    ],
)
def test_a_record_that_cannot_be_read_keeps_its_text(record: ErrorRecord) -> None:
    error = from_record(record)
    assert type(error) is InternalError
    assert "full" in str(error) and record.code in str(error)


def test_fields_of_a_newer_release_are_left_out() -> None:
    error = from_record(ErrorRecord(code="wire.garbled", fields={"reason": "why", "phase_of_the_moon": 3}))
    assert error.fields() == {"reason": "why"}


def test_what_was_refused_is_told_variable_by_variable() -> None:
    error = errors.UntrustedValue(variable="f", what="posix.system", others=["g", "h"], others_what=["builtins.eval", "builtins.exec"])
    assert error.refused == {"f": "posix.system", "g": "builtins.eval", "h": "builtins.exec"}
    assert "'f' was refused" in str(error) and "posix.system" in str(error) and "h (builtins.exec)" in str(error)
    assert "JUPYTER_GPU_TRUST=code" in error.hint and ".fetch()" in error.hint
    assert "So were" not in str(errors.UntrustedValue(variable="f", what="posix.system", reason="it is code"))
