"""``python -m jupyter_gpu_gateway``: run a gateway. The first worker environment is started before anything else is imported, so
that both come up side by side."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

from .environment import without_private


def options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="jupyter gpu gateway", description="Run a gateway that starts GPU workers for notebooks.")
    parser.add_argument("--url", default="", help="where to listen: ws://HOST:PORT or unix:///PATH (default: ws://127.0.0.1:8890)")
    parser.add_argument(
        "--simulate",
        default=os.environ.get("JUPYTER_GPU_SIMULATE", ""),
        metavar="H100:2,A100",
        help="declare simulated GPUs, for demos and tests; whatever shows one says so",
    )
    parser.add_argument("--token-file", type=Path, help="file with the token (default: $JUPYTER_GPU_TOKEN, or a random one that is shown)")
    parser.add_argument("--folder", type=Path, help="where state and logs are kept (default: a folder of Jupyter's data folder)")
    parser.add_argument("--standby", type=int, default=1, metavar="N", help="workers kept warm (default: %(default)s)")
    parser.add_argument(
        "--alone",
        type=float,
        default=None,
        metavar="SECONDS",
        help="end a session that long after its notebook went away (default: 3600; own: 10)",
    )
    parser.add_argument(
        "--lease", type=float, default=300.0, metavar="SECONDS", help="workers end after so long without a gateway (default: %(default)s)"
    )
    parser.add_argument(
        "--exit-when-idle",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="end after so long without sessions and clients (default: never)",
    )
    parser.add_argument(
        "--preload", default=None, metavar="MODULES", help="modules that workers have imported beforehand, comma-separated; '' for none"
    )
    parser.add_argument(
        "--shared-cache",
        type=Path,
        metavar="FOLDER",
        help="let sessions share large buffers by a folder, so that what one has sent another need not send; whoever knows (or guesses) a "
        "content learns whether it is there: see docs/trust.md (default: nothing is shared)",
    )
    parser.add_argument(
        "--shared-cache-size", type=float, default=20.0, metavar="GB", help="most that this folder holds (default: %(default)g)"
    )
    parser.add_argument("--own", type=Path, metavar="INFO_FILE", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _default_folder() -> Path:
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "gpu-gateway"


def spawn_first(log: IO[bytes]) -> subprocess.Popen[bytes]:
    """The same as ``backends.process.spawn_zygote``, without the imports that this must not wait for."""
    command, env = [sys.executable, "-m", "jupyter_gpu_worker.zygote"], without_private()
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True, env=env)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0 after an orderly end, 1 if it could not start."""
    chosen = options(sys.argv[1:] if argv is None else argv)
    folder: Path = chosen.folder or (chosen.own.with_suffix("") if chosen.own else _default_folder())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        with open(folder / "workers.log", "ab") as log:
            first = spawn_first(log)
    except OSError as error:
        print(f"The gateway cannot keep its files in {folder}: {error.strerror}. Choose another folder with --folder.", file=sys.stderr)
        return 1
    try:
        from .serve import run

        return run(chosen, folder, first)
    finally:
        if first.poll() is None:
            first.kill()
        first.wait()


if __name__ == "__main__":
    sys.exit(main())
