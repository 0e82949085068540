"""Which GPUs a worker takes for its own. NVML is a fake here: what it answers, not what it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest
from jupyter_gpu_worker import gpu


class FakeNvml(ModuleType):
    class NVMLError(Exception):
        pass

    def __init__(self, names: list[str], *, driver: bool = True) -> None:
        super().__init__("pynvml")
        self.names = names
        self.driver = driver
        self.open = 0

    def nvmlInit(self) -> None:
        if not self.driver:
            raise self.NVMLError
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, i: int) -> int:
        return i

    def nvmlDeviceGetName(self, i: int) -> bytes:
        return self.names[i].encode()

    def nvmlDeviceGetUUID(self, i: int) -> str:
        return f"GPU-{i}{i}"

    def nvmlDeviceGetMemoryInfo(self, i: int) -> SimpleNamespace:
        return SimpleNamespace(total=i << 30)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    fake = FakeNvml(["NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB", "NVIDIA L4"])
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    gpu._own.cache_clear()
    yield fake
    gpu._own.cache_clear()
    assert fake.open == 0, "NVML is left as it was found"


@pytest.mark.parametrize(
    ("visible", "numbers"),
    [
        ("", []),
        ("GPU-11", [1]),
        ("2,0", [2, 0]),
        ("GPU-2,GPU-00", [2, 0]),
        ("GPU-77,0", []),
        ("0,9,1", [0]),
        ("GPU-", []),
        ("-1", []),
        ("SIM-1", []),
    ],
)
def test_only_those_that_cuda_sees(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, visible: str, numbers: list[int]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [g.number for g in gpu.own()] == numbers


def test_labels(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu.device_label("cuda:1") == "cuda:1 (NVIDIA A100-SXM4-40GB)"
    assert gpu.device_label("cuda") == "cuda (NVIDIA H100 80GB HBM3)"
    assert [gpu.device_label(d) for d in ("cpu", "", "cuda:9", "mps")] == ["cpu", "", "cuda:9", "mps"]


def test_no_driver(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvml.driver = False
    assert gpu.own() == () and gpu.device_label("cuda:0") == "cuda:0"
