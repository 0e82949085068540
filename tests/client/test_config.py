from __future__ import annotations

from pathlib import Path

import pytest
from traitlets.config import Config

from jupyter_gpu.config import ENVIRONMENT, load
from jupyter_gpu.wire.errors import BadOptionValue


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """(the person's own, the system's), and nothing in the environment."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    own, system = tmp_path / "own", tmp_path / "system"
    own.mkdir()
    system.mkdir()
    monkeypatch.setattr("jupyter_core.paths.jupyter_config_path", lambda: [str(own), str(system)])
    return own, system


def test_nothing_is_configured() -> None:
    found = load()
    assert (found.gateway, found.token, found.simulate, found.default_gpu, found.idle, found.quiet) == ("", "", "", "", 0.0, False)
    assert found.exit_when_idle == 300 and found.preload is None


def test_who_wins(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    own, system = folders
    (system / "jupyter_gpu_config.py").write_text("c = get_config()\nc.JupyterGPU.gateway = 'ws://system:1'\nc.JupyterGPU.idle = 60")
    assert (load().gateway, load().idle) == ("ws://system:1", 60)
    (own / "jupyter_gpu_config.json").write_text('{"JupyterGPU": {"gateway": "ws://json:1"}}')
    assert (load().gateway, load().idle) == ("ws://json:1", 60)
    (own / "jupyter_gpu_config.py").write_text("c = get_config()\nc.JupyterGPU.gateway = 'ws://own:1'")
    assert load().gateway == "ws://own:1"
    shell = Config({"JupyterGPU": {"gateway": "ws://shell:1"}, "Other": {"gateway": "x"}})
    assert (load(shell).gateway, load(shell).idle) == ("ws://shell:1", 60)
    monkeypatch.setenv("JUPYTER_GPU_GATEWAY", "ws://environment:1")
    assert load(shell).gateway == "ws://environment:1"
    monkeypatch.setenv("JUPYTER_GPU_GATEWAY", "")
    assert load(shell).gateway == "ws://shell:1", "empty is as if it were not there"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256MB", 256_000_000),
        ("1.5 GiB", 3 << 29),
        ("4096", 4096),
        ("10k", 10_000),
        ("0", 0),
        ("off", -1),
        ("None", -1),
        ("", -1),
        (".5tb", 5 * 10**11),
    ],
)
def test_sizes(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().keep_above_bytes() == 256_000_000
    monkeypatch.setenv("JUPYTER_GPU_KEEP_ABOVE", text)
    assert load().keep_above_bytes() == (size if text else 256_000_000)


@pytest.mark.parametrize("text", ["much", "-1", "1 XB", "1e9", "256 MB each"])
def test_what_is_no_size(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_GPU_KEEP_ABOVE", text)
    with pytest.raises(BadOptionValue, match="256MB"):
        load().keep_above_bytes()


@pytest.mark.parametrize(("variable", "trait"), ENVIRONMENT.items())
def test_the_environment(variable: str, trait: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "something")
    assert getattr(load(), trait) == "something"


@pytest.mark.parametrize(
    "line", ["c.JupyterGPU.idle = -1", "c.JupyterGPU.idle = 'soon'", "c.JupyterGPU.exit_when_idle = 0", "c.JupyterGPU.quiet = 3"]
)
def test_a_value_that_cannot_be(folders: tuple[Path, Path], line: str) -> None:
    (folders[0] / "jupyter_gpu_config.py").write_text(f"c = get_config()\n{line}")
    with pytest.raises(BadOptionValue) as caught:
        load()
    assert line.split(".")[2].split(" ")[0] in str(caught.value) and "jupyter_gpu_config.py" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "says"), [("py", "1 / 0", "division by zero"), ("py", "x = = 1", "invalid syntax"), ("json", "{", "Expecting")]
)
def test_a_file_that_cannot_be_read_is_named(folders: tuple[Path, Path], name: str, text: str, says: str) -> None:
    file = folders[0] / f"jupyter_gpu_config.{name}"
    file.write_text(text)
    with pytest.raises(BadOptionValue) as caught:
        load()
    assert str(file) in str(caught.value) and says in str(caught.value)
