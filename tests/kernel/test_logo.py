"""The picture of a kernel is well-formed, and its words fit into the chip."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from jupyter_gpu.kernel.logo import svg


@pytest.mark.parametrize("hardware", ["H100", "H100:2", "CPU", "A100-SXM4-80GB", "T4", "<RTX & Co>"])
def test_words_fit(hardware: str) -> None:
    root = ET.fromstring(svg(hardware))
    texts = [each for each in root if each.tag.endswith("text")]
    assert [each.text for each in texts] == ([hardware.partition(":")[0], "× 2"] if ":" in hardware else [hardware])
    for each in texts:
        assert 0.6 * float(each.get("font-size", 0)) * len(each.text or "") <= 40


def test_what_is_simulated_is_dashed() -> None:
    assert "dasharray" in svg("H100", True) and "dasharray" not in svg("H100")
