"""A live kernel moves to other hardware and back: what it has goes along, or is named; what fails leaves it where it was."""

from __future__ import annotations

from typing import Any

from whole_driver import Whole


def test_there_and_back(start: Any) -> None:
    kernel: Whole = start("jupyter-gpu-cpu")
    kernel.ok("x = [1, 2]; y = {'x': x}; import math")
    before = kernel.remote_pid
    result = kernel.run("%remote move H100")
    print(result.outputs, result.reply)
    assert result.error is None
    assert kernel.ok("y['x'] is x and math.pi > 3").results == ["True"]
    assert kernel.remote_pid != before
