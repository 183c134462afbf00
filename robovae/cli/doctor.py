"""`robovae doctor`: what this machine has and lacks, each lack with its mend."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from robovae import provenance
from robovae.cli.console import show, table_of
from robovae_envs.gl import PACKAGES

Verdict = Literal["ok", "note", "fail"]
PROBE_TIMEOUT = 120.0
LEAST_DISK_GB = 5.0
GL_PACKAGES = f"{PACKAGES} libglib2.0-0"


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    verdict: Verdict
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Doctor:
    """Look at Python, torch, OpenGL, disk and cores, and draw real frames; exits with 1 if anything lacks.

    Examples:
      robovae doctor
      robovae doctor --gl            only what drawing frames needs
      MUJOCO_GL=osmesa robovae doctor
    """

    gl: bool = False
    """Only OpenGL and OpenCV."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Look, and print the findings."""
        findings = [*drawing(), *([] if self.gl else computing())]
        well = all(finding.verdict != "fail" for finding in findings)
        rows = [{"": finding.verdict, "what": finding.what, "found": finding.found} for finding in findings]
        mends = list(dict.fromkeys(finding.mend for finding in findings if finding.mend))
        data = {
            "ok": well,
            "findings": [asdict(finding) for finding in findings],
            "machine": provenance.machine(),
            "versions": provenance.versions(),
        }
        show(data, self.json, table_of(rows), *(f"-> {mend}" for mend in mends))
        return 0 if well else 1


def drawing() -> Iterator[Finding]:
    """The GL backends, each with a frame drawn, and OpenCV's libraries."""
    chosen = os.environ.get("MUJOCO_GL", "")
    backends = list(dict.fromkeys([chosen, *(("egl", "osmesa") if sys.platform == "linux" else ())]))
    probes = {backend: _probe(backend) for backend in backends}
    some = any("fps" in probe for probe in probes.values())
    for backend, probe in probes.items():
        verdict: Verdict = "ok" if "fps" in probe else "fail" if backend == chosen or not some else "note"
        mend = _gl_mend(probe, backend == chosen, some)
        yield Finding(f"OpenGL {backend or 'default'}", verdict, _seen(probe), mend)
    error = _failure([sys.executable, "-c", "import cv2"])
    mend = f"OpenCV needs libGL and glib: apt-get install -y {GL_PACKAGES}" if error else ""
    yield Finding("OpenCV", "fail" if error else "ok", error or "imports", mend)


def computing() -> Iterator[Finding]:
    """Python, torch, cores, memory, disk."""
    mend = "" if sys.version_info >= (3, 11) else "make .venv with Python 3.11 or newer"
    yield Finding("Python", "fail" if mend else "ok", platform.python_version(), mend)
    yield _torch()
    machine = provenance.machine()
    yield Finding("processor", "ok", f"{machine['cores']} cores, {machine['cpu']}, {machine['memory_gb']} GB")
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    mend = "" if free >= LEAST_DISK_GB else "free some disk: 1000 Reacher episodes take 0.6 GB at 64x64"
    yield Finding("disk here", "note" if mend else "ok", f"{free:.0f} GB free", mend)


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("torch", "fail", str(error), "pip install -c launch/constraints.txt torch")
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA"
    capability = torch.backends.cpu.get_cpu_capability()
    threads = f"{torch.get_num_threads()} threads"
    return Finding("torch", "ok", f"{torch.__version__}, {threads}, {capability}, {cuda}")


def _probe(backend: str) -> dict[str, Any]:
    """What robovae.cli.probe prints, or {"error": its last line}."""
    command = [sys.executable, "-m", "robovae.cli.probe"]
    done = _run(command, {"MUJOCO_GL": backend} if backend else {})
    if isinstance(done, str):
        return {"error": done}
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": _last_line(done.stderr) or f"ended with {done.returncode}"}
    return found if found["contrast"] > 0 else {"error": f"{found['renderer']} draws nothing but one colour"}


def _seen(probe: dict[str, Any]) -> str:
    if "fps" in probe:
        return f"{probe['fps']} frames/s, {probe['renderer']}"
    return f"does not start: {probe['error']}"


def _gl_mend(probe: dict[str, Any], is_chosen: bool, some: bool) -> str:
    if "fps" in probe or (some and not is_chosen):
        return ""
    return f"on Debian or Ubuntu: apt-get install -y {GL_PACKAGES}" + (
        ", or choose a backend that works above: export MUJOCO_GL=..." if some else ""
    )


def _failure(command: list[str]) -> str:
    """The last line that a failing command says; empty if it succeeds."""
    done = _run(command, {})
    if isinstance(done, str):
        return done
    return "" if done.returncode == 0 else _last_line(done.stderr) or f"ended with {done.returncode}"


def _run(command: list[str], settings: dict[str, str]) -> "subprocess.CompletedProcess[str] | str":
    """A finished process, or why there is none."""
    try:
        return subprocess.run(
            command,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"hangs: no answer in {PROBE_TIMEOUT:.0f} s"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
