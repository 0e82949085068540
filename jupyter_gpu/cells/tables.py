"""Numbers and tables as people read them, as text and as HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence


def human_bytes(count: float) -> str:
    """``3.2 MB``; powers of 1,000."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 999.5:
            return (
                f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.2g} {unit}" if count < 9.95 else f"{count:.0f} {unit}"
            )
        count /= 1000
    return f"{count:,.1f} TB"


def human_seconds(seconds: float) -> str:
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
            widths = [max(len(row[i]) for row in [self.columns, *self.rows]) for i in range(len(self.columns))]
            lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in [self.columns, *self.rows]]
        return "\n".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        parts = [f"<div><strong>{html.escape(self.title)}</strong></div>"] if self.title else []
        if self.rows:
            head = "".join(f'<th style="text-align:left">{html.escape(c)}</th>' for c in self.columns)
            body = "".join(
                "<tr>" + "".join(f'<td style="text-align:left">{html.escape(c)}</td>' for c in row) + "</tr>" for row in self.rows
            )
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        parts += [f"<div>{html.escape(note)}</div>" for note in self.notes]
        return "".join(parts)


class Tables:
    """Several under one another."""

    def __init__(self, *tables: Table) -> None:
        self.tables = tables

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self.tables))

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables)
