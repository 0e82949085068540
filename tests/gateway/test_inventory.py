from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jupyter_gpu_gateway.inventory import short_type, simulated_gpus

from jupyter_gpu.wire.errors import BadHardware

SHOW = """
import json
from jupyter_gpu_gateway.inventory import real_gpus
gpus, warnings = real_gpus()
print(json.dumps([[[g.type, g.name, g.memory, g.uuid, g.index, g.simulated] for g in gpus], warnings]))
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA L40S", "L40S"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX4090"),
        ("NVIDIA GeForce RTX 4070 Ti", "RTX4070TI"),
        ("NVIDIA GeForce GTX 1080 Ti", "GTX1080TI"),
        ("NVIDIA GeForce RTX 3060 12GB", "RTX3060"),
        ("NVIDIA RTX A6000", "RTXA6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX6000"),
        ("NVIDIA TITAN V", "TITANV"),
        ("Quadro P5000", "P5000"),
        ("NVIDIA Graphics Device", "NVIDIA GRAPHICS DEVICE"),
        ("", ""),
    ],
)
def test_short_type(name: str, expected: str) -> None:
    assert short_type(name) == expected


def test_simulated_gpus_are_declared() -> None:
    found = simulated_gpus(" h100:2 , A100,H100,")
    assert [(g.uuid, g.type, g.index) for g in found] == [
        ("SIM-H100-0", "H100", 0),
        ("SIM-H100-1", "H100", 1),
        ("SIM-A100-0", "A100", 2),
        ("SIM-H100-2", "H100", 3),
    ]
    assert all(g.simulated and "simulated" in g.name for g in found)
    assert simulated_gpus("") == []


@pytest.mark.parametrize("text", ["H100:0", "H100:-1", "H100:x", "H100:65", "100", "H100;A100", "H 100", ":2", "H100:1:2"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(BadHardware, match="TYPE:COUNT"):
        simulated_gpus(text)


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a libnvidia-ml.so.1 that shows what it is told to."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("NO gcc: nvidia-ml-py is NOT tested against a stub of NVML")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).parent / "fake_nvml.c"
    subprocess.run([gcc, "-shared", "-fPIC", "-w", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return folder


def through_nvml(stub: Path, **env: str) -> tuple[list[list[Any]], list[str]]:
    env = {**os.environ, "LD_LIBRARY_PATH": str(stub), **env}
    done = subprocess.run([sys.executable, "-c", SHOW], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    gpus, warnings = json.loads(done.stdout)
    return gpus, warnings


def test_what_nvml_shows(stub: Path) -> None:
    gpus, warnings = through_nvml(stub, FAKE_NVML="NVIDIA H100 80GB HBM3:81559:1024:7;NVIDIA A100-SXM4-40GB:40960:0:0")
    assert gpus == [
        ["H100", "NVIDIA H100 80GB HBM3", 81559 << 20, "GPU-fa4e0000-0000-0000-0000-000000000000", 0, False],
        ["A100", "NVIDIA A100-SXM4-40GB", 40960 << 20, "GPU-fa4e0000-0000-0000-0000-000000000001", 1, False],
    ]
    assert warnings == []


def test_a_driver_that_does_not_work_is_a_warning(stub: Path) -> None:
    gpus, warnings = through_nvml(stub, FAKE_NVML_FAIL="9")
    assert gpus == [] and len(warnings) == 1 and "NVML cannot be used" in warnings[0]


def test_no_gpu_at_all(stub: Path) -> None:
    assert through_nvml(stub, FAKE_NVML=";") == ([], [])
