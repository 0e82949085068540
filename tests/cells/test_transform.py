"""Which cells are remote without a magic."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jupyter_gpu.cells.transform import ADDED, RemoteTransform


def transformed(code: str, default: str = "", shell: Any = None) -> str:
    transform = RemoteTransform(shell or SimpleNamespace())
    transform.default = default
    return "".join(transform(code.splitlines(keepends=True)))


@pytest.mark.parametrize(
    ("first", "options"),
    [("# remote: gpu=H100", "gpu=H100"), ("#remote:gpu=H100 quiet", "gpu=H100 quiet"), ("# Remote: gpu = H100", "gpu = H100"), ("# remote:", ""),
     ("# remote: --gpu H100", "--gpu H100"), ("# remote: H100", "H100")],
)  # fmt: skip
def test_directive(first: str, options: str) -> None:
    assert transformed(f"{first}\nx = 1\n") == f"%%remote {options}\nx = 1\n"


@pytest.mark.parametrize(
    "code", ["# remote sensing data\nx\n", "# remote: see the wiki about it\nx\n", "x = 1\n# remote: gpu=H100\n", "\n", ""]
)
def test_no_directive(code: str) -> None:
    assert transformed(code) == code


def test_default_wraps_every_cell_but_ours() -> None:
    assert transformed("x = 1\n", "gpu=H100") == f"%%remote gpu=H100 {ADDED}\nx = 1\n"
    assert transformed("%%time\nx = 1\n", "gpu=H100").startswith("%%remote gpu=H100")
    assert transformed("# remote: gpu=A100\nx\n", "gpu=H100") == "%%remote gpu=A100\nx\n"
    for local in ("# remote: off\nx = 1\n", "%remote status\n", "%%remote gpu=A100\nx\n", "%load_ext autoreload\n", "x?\n", "?x\n", "\n\n"):
        assert transformed(local, "gpu=H100") == local


@pytest.mark.parametrize(
    ("content", "remote"),
    [({"silent": False, "store_history": True}, True), ({"silent": True}, False), ({"store_history": False}, False), ({}, True)],
)
def test_default_leaves_code_of_front_ends_alone(content: dict[str, bool], remote: bool) -> None:
    shell = SimpleNamespace(kernel=SimpleNamespace(get_parent=lambda: {"content": content}))
    assert transformed("x\n", "gpu=H100", shell).startswith("%%remote") is remote


def test_completeness_is_that_of_the_python(shell: Any) -> None:
    shell._jupyter_gpu_transform.default = "gpu=H100"
    assert shell.check_complete("x = 1") == ("complete", "")
    assert shell.check_complete("for x in y:")[0] == "incomplete"
    assert shell.check_complete("# remote: gpu=H100\nx = 1")[0] == "complete"
