"""Medians, p95 and ratios of what was measured side by side."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    """The smallest value that 95% of ``values`` do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]


@dataclass(frozen=True)
class Row:
    """One comparison. ``ours`` and ``base`` in seconds (or in ``unit``); ``target``: what the ratio of medians should not exceed, or
    not fall below where ``more_is_better``."""

    name: str
    ours: Sequence[float]
    base: Sequence[float]
    target: float
    unit: str = "ms"
    more_is_better: bool = False

    @property
    def ratio(self) -> float:
        return median(self.ours) / median(self.base)

    @property
    def reached(self) -> bool:
        return self.ratio >= self.target if self.more_is_better else self.ratio <= self.target

    def cells(self) -> list[str]:
        scale = 1e3 if self.unit == "ms" else 1.0
        digits = 2 if self.unit == "ms" else 0
        figures = [f"{f(v) * scale:,.{digits}f}" for v in (self.ours, self.base) for f in (median, p95)]
        sign = ">=" if self.more_is_better else "<="
        return [
            self.name,
            self.unit,
            *figures,
            f"{self.ratio:.2f}",
            f"{sign} {self.target:g}",
            "yes" if self.reached else "NO",
            str(len(self.ours)),
        ]


HEADER = ["what", "unit", "ours", "p95", "base", "p95", "ratio", "target", "reached", "runs"]


def table(rows: Sequence[Row]) -> str:
    lines = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths))) for line in lines
    )
