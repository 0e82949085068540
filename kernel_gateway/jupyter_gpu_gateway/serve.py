"""From the options of the command line to a gateway that listens."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from jupyter_gpu._version import __version__
from jupyter_gpu.wire.errors import BadOptionValue, JupyterGpuError, TokenFileExposed
from jupyter_gpu.wire.messages import PROTOCOL

from .app import Gateway
from .auth import new_token
from .backends.process import PRELOAD
from .runtime import kept_token, socket_path, sole_owner, write_info

DEFAULT_URL = "ws://127.0.0.1:8890"


def run(chosen: argparse.Namespace, folder: Path, zygote: subprocess.Popen[bytes]) -> int:
    """Serve until told to end. Returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("websockets").setLevel(logging.ERROR)
    try:
        with contextlib.ExitStack() as stack:
            if chosen.own:
                stack.enter_context(sole_owner(chosen.own))
            else:
                stack.enter_context(sole_owner(folder / "gateway"))  # two would end each other's workers
            asyncio.run(_serve(chosen, folder, zygote))
        return 0
    except JupyterGpuError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            print(
                f"The gateway cannot write its files in {folder}: {error.strerror}. Free some space there, or choose --folder.",
                file=sys.stderr,
            )
            return 1
        print(f"The gateway cannot listen: {error.strerror or error}. Choose another address with --url.", file=sys.stderr)
        return 1


async def _serve(chosen: argparse.Namespace, folder: Path, zygote: subprocess.Popen[bytes]) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    token, shown = _token(chosen)
    gateway = Gateway(
        _url(chosen),
        token,
        folder,
        own=bool(chosen.own),
        simulate=chosen.simulate,
        standby=chosen.standby,
        alone=(10.0 if chosen.own else 3600.0) if chosen.alone is None else chosen.alone,
        lease=chosen.lease,
        exit_when_idle=chosen.exit_when_idle,
        preload=PRELOAD if chosen.preload is None else [m for m in chosen.preload.split(",") if m],
        zygote=zygote,
        shared_cache=chosen.shared_cache,
        shared_cache_size=int(chosen.shared_cache_size * 1e9),
    )

    def ready(url: str) -> None:
        if chosen.own:
            info = {
                "url": url,
                "token": token,
                "pid": os.getpid(),
                "software": __version__,
                "protocol": PROTOCOL,
                "simulate": chosen.simulate,
            }
            write_info(chosen.own, info)
        else:
            _introduce(gateway, url, token if shown else "")

    try:
        await gateway.run(ready, stop)
    finally:
        if chosen.own:
            chosen.own.unlink(missing_ok=True)


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT end the gateway in order."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def _url(chosen: argparse.Namespace) -> str:
    if chosen.url or not chosen.own:
        return str(chosen.url or DEFAULT_URL)
    path = socket_path(chosen.own)
    return f"unix://{path}" if path is not None else "ws://127.0.0.1:0"


def _token(chosen: argparse.Namespace) -> tuple[str, bool]:
    """(token, whether to show it). A token that somebody gave is known to them already."""
    if chosen.token_file:
        try:
            mode = chosen.token_file.stat().st_mode & 0o777
        except OSError as error:
            raise BadOptionValue(option="--token-file", value=str(chosen.token_file), expected=f"a file ({error.strerror})") from None
        if mode & 0o077:
            raise TokenFileExposed(path=str(chosen.token_file), mode=f"{mode:04o}")
        return chosen.token_file.read_text().strip(), False
    if chosen.own:
        return kept_token(chosen.own, new_token()), False
    given = os.environ.get("JUPYTER_GPU_TOKEN", "")
    return (given, False) if given else (new_token(), True)


def _introduce(gateway: Gateway, url: str, token: str) -> None:
    """What a person who starts a gateway needs to know."""
    offers = ", ".join(gateway.manager.fleet.describe())
    print(f"The gateway listens at {url} and offers: {offers}.\n")
    print("Notebooks reach it with these two in their environment:")
    print(f"    export JUPYTER_GPU_GATEWAY={url}")
    print(f"    export JUPYTER_GPU_TOKEN={token or '(the token that you gave)'}\n")
    for warning in [*gateway.warnings, *gateway.notes]:
        print(f"Note: {warning}")
    print("Ctrl-C ends it, and all of its workers.", flush=True)
