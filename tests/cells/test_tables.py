"""Numbers as people read them."""

from __future__ import annotations

import pytest

from jupyter_gpu.cells.tables import Table, human_bytes, human_seconds


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 KB"), (3_210_000, "3.2 MB"), (12_300, "12 KB"), (120_000_000, "120 MB"), (1_100_000_000, "1.1 GB"), (999_700, "1 MB"),
     (5e12, "5.0 TB")],
)  # fmt: skip
def test_bytes(count: float, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.002, "2 ms"), (0.1, "0.1 s"), (2.13, "2.1 s"), (99.0, "99.0 s"), (125, "2 min 5 s"), (7260, "2 h 1 min")]
)
def test_seconds(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


def test_table_is_escaped_and_aligned() -> None:
    table = Table("T", ["a", "long name"], [["<b>", "x"], ["y", "z"]], ["note"])
    assert repr(table).splitlines() == ["T", "a    long name", "<b>  x", "y    z", "note"]
    assert "&lt;b&gt;" in table._repr_html_() and "<b>" not in table._repr_html_()
