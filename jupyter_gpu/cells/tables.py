"""Numbers and tables as people read them, as text and as HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence

from ..sync.units import human_bytes

__all__ = ["Table", "Tables", "human_bytes", "human_seconds"]


def human_seconds(seconds: float, whole: bool = False) -> str:
    """``whole``: without tenths, for a clock that ticks."""
    if whole and seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 0.95:
        return f"{seconds * 1000:.0f} ms" if seconds < 0.095 else f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


class Table:
    """Shown by ``display``: HTML where that is possible, aligned columns elsewhere."""

    def __init__(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
        self.title = title
        self.columns = list(columns)
        self.rows = [list(row) for row in rows]
        self.notes = list(notes)

    def __repr__(self) -> str:
        lines = [self.title] if self.title else []
        if self.rows:
            every = [self.columns, *self.rows]
            widths = [max(len(row[i]) for row in every) for i in range(len(self.columns))]
            places = list(zip(widths, map(self._is_number, range(len(self.columns)))))
            lines += ["  ".join(c.rjust(w) if right else c.ljust(w) for c, (w, right) in zip(row, places)).rstrip() for row in every]
        return "\n".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        pad = "padding-left:.5em"  # as much as the cells of a table
        parts = [f'<div style="{pad}"><strong>{html.escape(self.title)}</strong></div>'] if self.title else []
        if self.rows:
            body = "".join(f"<tr>{self._cells('td', row)}</tr>" for row in self.rows)
            parts.append(
                f'<table style="margin:.2em 0 .8em"><thead><tr>{self._cells("th", self.columns)}</tr></thead><tbody>{body}</tbody></table>'
            )
        parts += [f'<div style="{pad};font-size:.93em">{html.escape(note)}</div>' for note in self.notes]
        return "".join(parts)

    def _cells(self, tag: str, row: Sequence[str]) -> str:
        sides = ("right" if self._is_number(i) else "left" for i in range(len(row)))
        return "".join(f'<{tag} style="text-align:{side}">{html.escape(cell)}</{tag}>' for side, cell in zip(sides, row))

    def _is_number(self, column: int) -> bool:
        """Sizes, times and numbers stand on the right, whatever their unit."""
        cells = [row[column] for row in self.rows if row[column]]
        return bool(cells) and all(cell[0].isdigit() for cell in cells)


class Tables:
    """Several under one another."""

    def __init__(self, *tables: Table) -> None:
        self.tables = tables

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self.tables))

    def _repr_html_(self) -> str:
        return "".join(f'<div style="margin-bottom:.8em">{table._repr_html_()}</div>' for table in self.tables)
