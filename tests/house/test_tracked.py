"""What is tracked names no registry host, no path of anybody's machine, and keeps to the style."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Put together here, so that this file does not contain what it looks for.
HOSTS = ["python" + "hosted", "py" + "pi.org", "registry.npm" + "js", "registry.yarn" + "pkg", "deb.deb" + "ian.org"]


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).is_file()]


def test_no_registry_hosts_and_no_paths_of_this_machine() -> None:
    bad = []
    for file in tracked():
        data = file.read_bytes()
        bad += [f"{file.relative_to(ROOT)}: {host}" for host in HOSTS if host.encode() in data]
        if str(ROOT.parent) != "/" and len(ROOT.parts) > 2 and re.search(re.escape(str(ROOT)).encode() + rb"\b", data):
            bad.append(f"{file.relative_to(ROOT)}: {ROOT}")
    assert not bad


def test_files_hold_one_idea() -> None:
    """About 300 lines: what is longer holds two ideas."""
    long = {
        str(f.relative_to(ROOT)): n
        for f in tracked()
        if f.suffix == ".py" and "tests" not in f.parts and (n := len(f.read_text().splitlines())) > 400
    }
    assert not long


def test_the_lock_names_versions_alone() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert len(lines) > 100
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+( ; .*)?", line) for line in lines)
    assert not any(line.startswith("torch==") for line in lines), "torch is optional"
