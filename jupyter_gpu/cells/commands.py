"""``%remote status``, ``plan``, ``stop``, ``default``, ``quiet``."""

from __future__ import annotations

from time import time
from typing import Any

from ..sync.names import analyze
from ..sync.replica import Export
from ..sync.trust import sentence
from ..wire.errors import BadOptionValue, NoSuchName, SessionNotFound
from ..wire.messages import Gpu, SessionInfo
from .last import table_of
from .notebook import Notebook
from .options import Options, nearest, parse
from .register import transform_of
from .remote import Remote
from .runner import source_of
from .tables import Table, Tables, human_bytes, human_seconds
from .wants import names_of_cell

_KIND_WIDTH = 40


def _show(table: Table | Tables) -> None:
    from IPython.display import display

    display(table)


# ---------------------------------------------------------------- status


def status(notebook: Notebook) -> None:
    """The gateway, its hardware, the sessions."""
    gateway = notebook.gateway()
    gpus = gateway.inventory()
    sessions = gateway.sessions()
    ours = {r.session.info.session_id: r for r in notebook.remotes.values() if r.session is not None}
    welcome = gateway.welcome
    about = [f"gateway {gateway.url} · jupyter-gpu {welcome.software}" + (" · your own" if welcome.own else "")]
    default = transform_of(notebook.shell).default
    about.append(sentence(notebook.trust()))
    about.append(f"every cell is remote: {default}" if default else "cells are local unless they say otherwise")
    hardware = Table("Hardware", ["GPU", "name", "memory", "state"], [_gpu_row(g, sessions) for g in gpus])
    if not gpus:
        hardware.notes = ["no GPU; gpu=cpu works"]
    table = Table(
        "Sessions", ["session", "state", "this notebook", "since", "process"], [_session_row(s, ours.get(s.session_id)) for s in sessions]
    )
    if not sessions:
        table.notes = ["none"]
    _show(Tables(Table("jupyter-gpu", [], [], about), hardware, table))


def _gpu_row(gpu: Gpu, sessions: list[SessionInfo]) -> list[str]:
    holder = next((s for s in sessions if s.session_id == gpu.session_id), None)
    state = "free" if not gpu.session_id else f"in use by {holder.label} ({holder.state.value})" if holder else "in use"
    return [gpu.type, gpu.name + (" (simulated)" if gpu.simulated else ""), human_bytes(gpu.memory), state]


def _session_row(info: SessionInfo, remote: Remote | None) -> list[str]:
    state = info.state.value + (f", {info.queue_position} in the queue" if info.queue_position else "")
    mine = "no" if remote is None else f"yes, name={remote.name}" if remote.name else "yes"
    return [info.label, state, mine, human_seconds(max(0.0, time() - info.created)), str(info.pid or "")]


# ---------------------------------------------------------------- plan


def plan_cell(notebook: Notebook, options: Options, cell: str) -> None:
    """What would travel for this cell. Nothing runs, nothing is sent."""
    names = analyze(source_of("plan", cell))
    notes = (
        ["The cell may use more names than can be seen in it (exec, eval, import *, magics): they are fetched when it needs them."]
        if names.star
        else []
    )
    _plan(notebook, options, names_of_cell(notebook.shell, options, names), notes)


def plan_names(notebook: Notebook, words: list[str]) -> None:
    """The same for variables: ``%remote plan gpu=H100 model data``."""
    options = parse(" ".join(w for w in words if "=" in w))
    names = [w.strip(",") for w in words if "=" not in w]
    if not names and options.sent is None:
        raise BadOptionValue(option="%remote plan", value="", expected="names of variables; or write `%%remote plan` over a cell")
    for name in names:
        if name not in notebook.shell.user_ns:
            raise NoSuchName(name=name, option="plan", nearest=nearest(name, [n for n in notebook.shell.user_ns if n[:1] != "_"]))
    _plan(notebook, options, names or list(options.sent or ()), [])


def _plan(notebook: Notebook, options: Options, names: list[str], notes: list[str]) -> None:
    remote = notebook.peek(options)
    with remote.lock:
        export = remote.replica.export(remote.replica.needed(names))
        remote.replica.abandon(export)
    rows = _plan_rows(notebook, names, export)
    where = remote.label if remote.session is not None else f"{options.hardware or 'a new session'}, which is not started yet"
    total = f"{human_bytes(sum(export.sent.values()))} would be sent, {human_bytes(sum(export.unchanged.values()))} are already there"
    if not rows:
        notes = ["No variable would travel.", *notes]
    _show(Table(f"Plan for {where}: {total}", ["variable", "type", "size", "what happens"], rows, [*notes, *export.warnings]))


def _plan_rows(notebook: Notebook, names: list[str], export: Export) -> list[list[str]]:
    def row(name: str, size: str, what: str) -> list[str]:
        kind = type(notebook.shell.user_ns.get(name)).__qualname__
        return [name, kind if len(kind) <= _KIND_WIDTH else kind[: _KIND_WIDTH - 1] + "…", size, what]

    def why(name: str) -> str:
        return "" if name in names else ", used by a function"

    return [
        *(row(s.name, "", f"cannot travel: {s.path} is a {s.type}: {s.reason}") for s in export.stuck),
        *(row(n, human_bytes(size), "is sent" + why(n)) for n, size in sorted(export.sent.items(), key=lambda item: -item[1])),
        *(row(n, human_bytes(size), "is there" + why(n)) for n, size in sorted(export.unchanged.items(), key=lambda item: -item[1])),
    ]


# ---------------------------------------------------------------- last


def last(notebook: Notebook) -> None:
    """What the last remote cell sent, found there, brought back and left there."""
    if notebook.last is None:
        print("No remote cell has run in this notebook yet.")
        return
    _show(table_of(notebook.last))


# ---------------------------------------------------------------- stop, default, quiet


def stop(notebook: Notebook, which: str) -> None:
    """End sessions of this notebook: the usual ones, one by name or hardware, or all."""
    remotes = list(notebook.remotes.values())
    if which == "all":
        chosen = remotes
    elif not which:
        chosen = [r for r in remotes if not r.name] or remotes
    else:
        chosen = [r for slot, r in notebook.remotes.items() if which in (r.name, slot, r.label) or (not r.name and which.upper() == slot)]
        if not chosen:
            raise SessionNotFound(session=which)
    if not chosen:
        print("This notebook has no remote session.")
    for remote in chosen:
        label = f"{remote.name} ({remote.label})" if remote.name else remote.label
        started = notebook.stop(remote) is not None
        print(f"{label}: stopped." if started else f"{label}: was not started.")


def default(notebook: Notebook, text: str) -> Any:
    """Make later cells remote, or local again."""
    transform = transform_of(notebook.shell)
    if not text:
        print(
            f"Every cell is remote: {transform.default}"
            if transform.default
            else "Cells are local. `%remote default gpu=H100` makes them remote."
        )
        return
    if text.lower() in ("off", "local", "none"):
        transform.default, notebook.default = "", None
        print("Cells are local again.")
        return
    options = parse(text)
    transform.default, notebook.default = text, options
    print(
        f"Every cell from here on is remote: {text}. `# remote: off` in its first line keeps "
        "a cell here, `%remote default off` all of them."
    )


def quiet(notebook: Notebook, text: str) -> None:
    """Hide or show the lines that sum up."""
    if text.lower() not in ("", "on", "off"):
        raise BadOptionValue(option="%remote quiet", value=text, expected="on or off")
    notebook.quiet = text.lower() != "off"
    print("Cells no longer sum up what they cost." if notebook.quiet else "Cells sum up what they cost.")
