"""Suites that others wrote, unmodified, from their sdists, through our provisioner and through the local one: ``python3 tests/upstream/run.py``.

For each suite the same tests must pass with both, and afterwards nothing of ours may be left: no process, no session, no file. Packages come
from wherever pip is configured to get them. ``--only NAME`` (repeatable) runs some; ``--where FOLDER`` keeps everything in one place.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
PROVISIONERS = {"local": "local-provisioner", "ours": "jupyter-gpu"}
#: In the environment of everything that a run starts.
MARK = "JUPYTER_GPU_UPSTREAM_RUN"
#: Seconds for what was asked to end, to end.
_SETTLE = 20.0

#: name -> (sdist, tests in it, further options of pytest)
SUITES: dict[str, tuple[str, list[str], list[str]]] = {
    "jupyter_kernel_test": ("jupyter_kernel_test==0.7.0", ["test_ipykernel.py"], []),
    "nbclient": ("nbclient==0.11.0", ["tests"], []),
    "jupyter_server": (
        "jupyter_server==2.21.1",
        [
            "tests/services/kernels/test_api.py",
            "tests/services/kernels/test_execution_state.py",
            "tests/services/kernels/test_cull.py",
            "tests/services/sessions",
        ],
        [],
    ),
    "ipykernel": (
        "ipykernel==7.4.0",
        [f"tests/test_{name}.py" for name in ("message_spec", "subshells", "async", "debugger", "kernel")],
        [],
    ),
    "jupyter_client": (
        "jupyter_client==8.10.0",
        ["tests/test_provisioning.py", "tests/test_manager.py", "tests/test_kernelmanager.py", "tests/test_restarter.py"],
        [],
    ),
}


#: Tests that pass with the local provisioner alone by what they are, and why.
EXPECTED = {
    "tests.test_provisioning.TestDiscovery.test_find_all_specs": "it replaces the list of entry points by one in which ours is not",
}


@dataclass
class Outcome:
    """Of one suite with one provisioner: test -> passed, failed, error or skipped."""

    tests: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, *kinds: str) -> int:
        return sum(1 for kind in self.tests.values() if kind in kinds)

    def passed(self) -> set[str]:
        return {name for name, kind in self.tests.items() if kind == "passed"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=SUITES)
    parser.add_argument("--where", type=Path, help="a folder to work in, which is kept")
    parser.add_argument("--provisioner", choices=PROVISIONERS, help="this one alone")
    parser.add_argument("-k", default="", help="as pytest's")
    chosen = parser.parse_args()
    where = chosen.where or Path(tempfile.mkdtemp(prefix="jgu-"))
    where.mkdir(parents=True, exist_ok=True)
    names = chosen.only or list(SUITES)
    python = set_up(where, names)
    rows, fine = [], True
    try:
        for name in names:
            found = {}
            for side in [chosen.provisioner] if chosen.provisioner else PROVISIONERS:
                print(f"\n===== {name}, {side}", flush=True)
                found[side] = run(where, python, name, side, chosen.k)
            text, ok = compare(name, found)
            fine = fine and ok
            rows.append(text)
            print(f"===== {text}", flush=True)
    finally:
        if not chosen.where:
            shutil.rmtree(where, ignore_errors=True)
    print("\n" + "\n".join(rows))
    print(f"\n{sum(1 for r in rows if ' ok ' in r)} passed, {sum(1 for r in rows if ' FAILED ' in r)} failed")
    return 0 if fine else 1


def set_up(where: Path, names: list[str]) -> Path:
    """An environment with the project and what the suites need; the sdists of those that are named, unpacked."""
    python = where / "venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-q"]
    wanted = (HERE / "requirements.txt").read_text() + (ROOT / "pyproject.toml").read_text() + (ROOT / "constraints.txt").read_text()
    stamp = where / "set-up"
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(where / "venv")], check=True)
        constraints = ["-c", str(ROOT / "constraints.txt"), "-r", str(HERE / "requirements.txt"), "-e", str(ROOT)]
        subprocess.run([*pip, "install", *constraints], check=True)
        stamp.write_text(wanted)
    for sdist in [SUITES[name][0] for name in names]:
        if not source(where, sdist).exists():
            subprocess.run(
                [*pip, "download", "--no-binary", sdist.partition("==")[0], "--no-deps", "-d", str(where / "sdists"), sdist],
                check=True,
            )
            with tarfile.open(next((where / "sdists").glob(sdist.replace("==", "-") + ".tar.gz"))) as archive:
                archive.extractall(where / "sources", filter="data")
    return python


def source(where: Path, sdist: str) -> Path:
    return where / "sources" / sdist.replace("==", "-")


def environment(where: Path, python: Path, mark: str) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER_", "JPY_", "PYTEST_"))}
    home = where / "home"
    home.mkdir(exist_ok=True)
    runtime = Path(tempfile.mkdtemp(prefix="jgr-"))
    return env | {
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "PATH": f"{python.parent}{os.pathsep}{env.get('PATH', '')}",
        "JUPYTER_PLATFORM_DIRS": "1",
        MARK: mark,
    }


class Gateway:
    """One of the person's own, for all kernels of a run: many tests have a runtime folder of their own, and would each start one."""

    def __init__(self, python: Path, env: dict[str, str]) -> None:
        self.info = Path(env["JUPYTER_RUNTIME_DIR"]) / "jupyter_gpu" / "gateway.json"
        self.info.parent.mkdir(mode=0o700)
        self.log = (self.info.parent / "log").open("wb")
        command = [str(python), "-m", "jupyter_gpu_gateway", "--own", str(self.info), "--standby", "2", "--preload", ""]
        self.process = subprocess.Popen(command, env=env, stdout=self.log, stderr=self.log, start_new_session=True)
        end = time.monotonic() + 60
        while not self.info.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit("the gateway did not start: " + (self.info.parent / "log").read_text())
            time.sleep(0.05)
        told = json.loads(self.info.read_text())
        self.env = {"JUPYTER_GPU_GATEWAY": told["url"], "JUPYTER_GPU_TOKEN": told["token"]}

    def sessions(self, python: Path, env: dict[str, str]) -> list[str]:
        code = (
            "from jupyter_gpu.client import Gateway\nfor s in Gateway.connect(start=False).sessions(): print(s.session_id, s.state.value)"
        )
        done = subprocess.run([str(python), "-c", code], env=env | self.env, capture_output=True, text=True, check=True)
        return [f"session {line}" for line in done.stdout.splitlines()]

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.log.close()


def run(where: Path, python: Path, name: str, side: str, expression: str) -> Outcome:
    sdist, tests, options = SUITES[name]
    mark = f"{name}-{side}-{os.getpid()}"
    env = environment(where, python, mark)
    remote = f"{mark}-remote"  # what the gateway starts lives as long as it does: looked for afterwards
    gateway = Gateway(python, env | {MARK: remote}) if side == "ours" else None
    report = where / f"{name}-{side}.xml"
    report.unlink(missing_ok=True)
    command = [
        str(python),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        "--timeout=120",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
        *options,
        *tests,
    ]
    command += ["-k", expression] if expression else []
    forwarded = {"JUPYTER_GPU_FORWARD_ENV": "NBEXECUTE_*"}  # nbclient's tests set these in their own process for their kernels
    settings = forwarded | {"JUPYTER_DEFAULT_PROVISIONER_NAME": PROVISIONERS[side], **(gateway.env if gateway is not None else {})}
    began = time.monotonic()
    try:
        subprocess.run(command, cwd=source(where, sdist), env=env | settings)
        outcome = Outcome(read(report), seconds=time.monotonic() - began)
        outcome.left = left_over(mark, lambda: gateway.sessions(python, env) if gateway is not None else [])
    finally:
        if gateway is not None:
            gateway.close()
    outcome.left += left_over(remote, list)
    if gateway is not None:
        outcome.left += [f"file {f.name}" for f in (gateway.info.parent / "kernels").glob("*")]
    shutil.rmtree(env["JUPYTER_RUNTIME_DIR"], ignore_errors=True)
    return outcome


def read(report: Path) -> dict[str, str]:
    if not report.exists():
        return {}
    found = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        found[f"{case.get('classname')}.{case.get('name')}"] = {"failure": "failed"}.get(kinds[0], kinds[0]) if kinds else "passed"
    return found


def left_over(mark: str, sessions: Callable[[], list[str]]) -> list[str]:
    """Processes that this run started, and sessions, once they had time to end; they are ended here."""
    end = time.monotonic() + _SETTLE
    while True:
        left = {pid: command for pid, command in marked(mark)}
        of_gateway = sessions()
        if not (left or of_gateway) or time.monotonic() > end:
            break
        time.sleep(0.2)
    for pid in left.keys() & dict(marked(mark)).keys():  # still this run's own, and nobody else's
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [f"process {pid} {command}" for pid, command in left.items()] + of_gateway


def marked(mark: str) -> list[tuple[int, str]]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                if (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    found.append((int(folder.name), (folder / "cmdline").read_text().replace("\0", " ")[:120]))
        except OSError:
            continue
    return found


def compare(name: str, found: dict[str, Outcome]) -> tuple[str, bool]:
    told = ", ".join(
        f"{side} {o.count('passed')} passed {o.count('failed', 'error')} failed {o.count('skipped')} skipped ({o.seconds:.0f} s)"
        for side, o in found.items()
    )
    ours = found.get("ours", Outcome())
    missing = sorted(found["local"].passed() - ours.passed() - EXPECTED.keys()) if len(found) == 2 else []
    ok = not missing and not ours.left and all(o.tests for o in found.values())
    for line in [f"passes with the local provisioner alone: {test}" for test in missing] + [f"left behind: {each}" for each in ours.left]:
        print(f"      {line}", flush=True)
    return f"{name:20} {'ok' if ok else 'FAILED'} {told}; left behind: {len(ours.left)}", ok


if __name__ == "__main__":
    sys.exit(main())
