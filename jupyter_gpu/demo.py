"""``jupyter gpu demo``: the first notebook, headless, on a gateway of its own, with its outputs and a table of times."""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_SIMULATED = "H100:2"


def notebook_path() -> Path:
    """The notebook, in the wheel or in a checkout."""
    here = Path(__file__).parent
    packaged = here / "notebooks" / "01-first-cell.ipynb"
    return packaged if packaged.exists() else here.parent / "notebooks" / "01-first-cell.ipynb"


def run(gpu: str = "") -> int:
    """Execute and show. ``gpu``: hardware of this machine to use; empty: simulated GPUs, which are called so. Returns 0, or 1 if a
    cell failed that should not."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    from rich.console import Console

    console = Console()
    book = nbformat.read(notebook_path(), as_version=4)
    if gpu:
        for cell in book.cells:
            cell.source = cell.source.replace("gpu=H100", f"gpu={gpu}")
    times: list[float] = []
    with tempfile.TemporaryDirectory(prefix="jupyter-gpu-demo-") as folder:
        runtime = Path(folder) / "runtime"
        runtime.mkdir(mode=0o700)
        # A gateway of the demo's own: it must not meet, or end, the one of the person.
        os.environ.update(JUPYTER_RUNTIME_DIR=str(runtime), JUPYTER_GPU_SIMULATE="" if gpu else _SIMULATED)
        os.environ.pop("JUPYTER_GPU_GATEWAY", None)
        began: list[float] = []
        client = NotebookClient(
            book,
            timeout=300,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            on_cell_execute=lambda **_: began.append(time.perf_counter()),
            on_cell_executed=lambda **_: times.append(time.perf_counter() - began[-1]),
        )
        failure = None
        try:
            client.execute()
        except CellExecutionError as error:
            failure = error
        finally:
            _end_gateway()
    _show(console, book, times)
    if failure is not None:
        console.print(f"[red]The demo failed:[/red] {_ANSI.sub('', str(failure))[-2000:]}")
    return 1 if failure is not None else 0


def _end_gateway() -> None:
    from .cli import _stop_gateway

    _stop_gateway()


def _show(console: Any, book: Any, times: list[float]) -> None:
    from rich.markdown import Markdown
    from rich.syntax import Syntax
    from rich.table import Table

    table = Table(title="Times", title_justify="left", header_style="dim", box=None)
    for column in ("cell", "first line", "total", "what jupyter-gpu says"):
        table.add_column(column)
    number = 0
    for cell in book.cells:
        if cell.cell_type == "markdown":
            console.print(Markdown(cell.source))
            continue
        console.print(Syntax(cell.source, "python", background_color="default"))
        summary = _show_outputs(console, cell.outputs)
        if number < len(times):
            title = next((line for line in cell.source.splitlines() if line and not line.startswith("%%")), "")
            table.add_row(str(cell.execution_count or ""), title[:44], f"{times[number]:.2f} s", summary)
        number += 1
    console.print(table)


def _show_outputs(console: Any, outputs: list[Any]) -> str:
    """Print outputs as text; returns the summary line, if there is one."""
    summary = ""
    for output in outputs:
        if output.output_type == "stream":
            console.print(output.text, end="", markup=False, highlight=False)
        elif output.output_type == "error":
            console.print(_ANSI.sub("", "\n".join(output.traceback)), markup=False, highlight=False, style="red")
        else:
            text = output.data.get("text/plain", "")
            if " · ran " in text:
                summary = text.splitlines()[0]
            if "image/png" in output.data:
                text = f"[figure, {len(output.data['image/png']) * 3 // 4 // 1024} KiB PNG] {text}"
            console.print(text, markup=False, highlight=False)
    return summary
