"""Where a result comes from: command, versions, machine, commit, seeds and times."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import robovae
from robovae.records import read_json, write_json

PACKAGES = ("torch", "gymnasium", "mujoco", "numpy", "opencv-python", "safetensors", "stable-baselines3")
FILE = "provenance.json"
WEIGHTS = "train"
"""The stage that makes what a run is."""


def gather() -> dict[str, Any]:
    """What can be told of this process, JSON-able: command, time, versions, machine, git commit."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(),
        "git": git_state(Path(robovae.__file__).parents[1]),
    }


def record(run: Path, stage: str, facts: Mapping[str, Any]) -> None:
    """Add facts of one stage to `run/provenance.json`; nothing is written if they all stand there already.

    Each stage has the command, time, versions, machine and commit of its own under "from"; those at the top
    are of the weights, which the stage "train" leaves.

    Args:
        run: the run directory.
        stage: "collect", "train", ...
        facts: of this stage, JSON-able: seeds, seconds; "gl_backend" if it drew frames.
    """
    path = run / FILE
    known = read_json(path) or {}
    stages = known.pop("stages", {})
    before = stages.get(stage, {})
    if before.items() >= facts.items():
        return
    here = gather()
    stages[stage] = {**before, **facts, "from": here}
    data = known if known and stage != WEIGHTS else here
    drawn_by = [facts["gl_backend"] for facts in stages.values() if facts.get("gl_backend")]
    data["machine"]["gl_backend"] = drawn_by[0] if drawn_by else data["machine"]["gl_backend"]
    write_json(path, {**data, "stages": stages})


def versions() -> dict[str, str]:
    """Versions of Python, robovae and what its results depend on; packages that are missing are left out."""
    found = {"python": platform.python_version(), "robovae": robovae.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, cores, memory, operating system, and the GL backend that MUJOCO_GL asks for."""
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "memory_gb": memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "gl_backend": os.environ.get("MUJOCO_GL", "default"),
    }


def usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gb() -> float | None:
    """Memory of the machine in GB, None where the system does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def git_state(root: Path) -> dict[str, Any] | None:
    """Commit of the checkout at `root` and whether it has changes; None if it is no checkout."""
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes)} if commit else None


def _git(root: Path, *words: str) -> str | None:
    """What git says, None if it is missing or refuses."""
    command = ["git", "-C", str(root), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
