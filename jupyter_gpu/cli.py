"""``jupyter gpu``: run a gateway to share, see what runs, stop it, install kernels, try the demo."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ._version import __version__
from .wire.errors import JupyterGpuError

if TYPE_CHECKING:
    from .client import Gateway


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 with a sentence on stderr that says what is wrong and what to do."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["gateway"]:
        from jupyter_gpu_gateway.__main__ import main as gateway

        return gateway(arguments[1:])
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.run(chosen))
    except JupyterGpuError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jupyter gpu", description="GPU workers for notebook cells.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    add("gateway", _status, "Run a gateway that several people can share (its options: `jupyter gpu gateway --help`).")
    add("status", _status, "Show the sessions and the hardware of your gateway.")
    stop = add("stop", _stop, "End a session, all of them, or your own gateway.")
    which = stop.add_mutually_exclusive_group(required=True)
    which.add_argument("session", nargs="?", help="its id, as `jupyter gpu status` shows it")
    which.add_argument("--all", action="store_true", help="all sessions of the gateway")
    which.add_argument("--gateway", action="store_true", help="your own gateway, with all of its sessions")
    install = add("install", _install, "Write a kernel for each kind of hardware of your gateway, to be picked in any Jupyter client.")
    install.add_argument("gpu", nargs="*", metavar="H100:2", help="this hardware alone, instead of all that the gateway has")
    install.add_argument(
        "--elastic",
        action="store_true",
        help="a kernel that starts on this machine; `%%remote move H100` takes it elsewhere, and back",
    )
    install.add_argument("--user", action="store_true", help="for all of your environments, instead of for this one")
    add("list", _list, "Show the kernels that `jupyter gpu install` wrote.")
    remove = add("remove", _remove, "Take them away again: those named, or all.")
    remove.add_argument("name", nargs="*", metavar="H100", help="hardware, or a name that `jupyter gpu list` shows")
    demo = add("demo", _demo, "Run the first notebook headless, with simulated GPUs, and show its outputs and times.")
    demo.add_argument("--gpu", default="", metavar="H100", help="use your real hardware instead of simulated GPUs")
    return parser


def _status(chosen: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    gateway = _running_gateway()
    console = Console()
    try:
        sessions, gpus = gateway.sessions(), gateway.inventory()
        console.print(f"[bold]{gateway.url}[/bold] (release {gateway.welcome.software})", soft_wrap=True)
        hardware = Table(title="Hardware", title_justify="left", box=None, header_style="dim")
        for column in ("GPU", "memory", "used by"):
            hardware.add_column(column)
        for gpu in gpus:
            hardware.add_row(gpu.type + (" (simulated)" if gpu.simulated else ""), f"{gpu.memory >> 30} GiB", gpu.session_id or "free")
        hardware.add_row("CPU", "", "")
        console.print(hardware)
        table = Table(title="Sessions", title_justify="left", box=None, header_style="dim")
        for column in ("id", "on", "state", "for", "pid"):
            table.add_column(column)
        for session in sessions:
            minutes = max(0, time.time() - session.created) / 60
            table.add_row(session.session_id, session.label, session.state.value, f"{minutes:.0f} min", str(session.pid or ""))
        console.print(table if sessions else "No sessions.")
    finally:
        gateway.close()
    return 0


def _running_gateway() -> Gateway:
    """Raises ``GatewayUnreachable``; where nothing is configured and nothing runs, ``SystemExit`` with a sentence."""
    from . import embedded
    from .client import Gateway
    from .config import load

    config = load()
    if not config.gateway and embedded.find(config) is None:
        raise SystemExit("Your own gateway does not run; the first %%remote cell starts it.")
    return Gateway.connect(config, start=False)


def _stop(chosen: argparse.Namespace) -> int:
    if chosen.gateway:
        return _stop_gateway()
    gateway = _running_gateway()
    try:
        ids = [s.session_id for s in gateway.sessions()] if chosen.all else [chosen.session]
        for session_id in ids:
            gateway.stop(session_id)
            print(f"{session_id} ended.")
        if not ids:
            print("There are no sessions.")
    finally:
        gateway.close()
    return 0


def _stop_gateway() -> int:
    from . import embedded
    from .config import load

    found = embedded.find(load())
    if found is None:
        print("Your own gateway does not run.")
        return 0
    os.kill(found.pid, signal.SIGTERM)
    deadline = time.monotonic() + 15
    while embedded.find(load()) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    print("Your own gateway has ended." if embedded.find(load()) is None else f"The gateway (pid {found.pid}) is still ending.")
    return 0


def _install(chosen: argparse.Namespace) -> int:
    from .cells.options import hardware_text, parse_gpu
    from .client import Gateway
    from .kernel import specs

    gpus = []
    if chosen.gpu or not chosen.elastic:
        gateway = Gateway.connect()
        try:
            gpus = gateway.inventory()
        finally:
            gateway.close()
    wanted = [] if chosen.elastic else specs.offered(gpus)
    if chosen.gpu:
        simulated = {gpu.type for gpu in gpus if gpu.simulated}
        texts = [hardware_text(parse_gpu(text)) for text in chosen.gpu]
        wanted = [specs.Spec(text, text.partition(":")[0] in simulated) for text in texts]
    if chosen.elastic:
        wanted.append(specs.Spec(specs.ELASTIC))
    for spec in wanted:
        path = specs.write(spec, specs.kernels_folder(chosen.user), provisioner=not chosen.user)
        print(f"{spec.display_name}: {path}")
    return 0


def _list(chosen: argparse.Namespace) -> int:
    from .kernel import specs

    found = specs.installed()
    for path, content in found:
        print(f"{path.name}  {content.get('display_name', 'cannot be read')}  {path}")
    if not found:
        print("No kernels are installed; `jupyter gpu install` writes them.")
    return 0


def _remove(chosen: argparse.Namespace) -> int:
    from .kernel import specs

    for path in specs.remove(chosen.name):
        print(f"{path.name} removed.")
    return 0


def _demo(chosen: argparse.Namespace) -> int:
    from .demo import run

    return run(chosen.gpu)


if __name__ == "__main__":
    sys.exit(main())
