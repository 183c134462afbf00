"""The launch scripts, without installing anything: what they ask of a machine, and what they say."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from robovae.config import ConfigError, from_mapping
from robovae.run import load_recipe
from robovae.run.acting import policy_configs
from robovae.train import TrainConfig
from robovae.uncertainty import CalibrateConfig

ROOT = Path(__file__).parents[1]
SCRIPTS = [*sorted((ROOT / "launch").glob("*.sh")), ROOT / ".ci" / "run"]
OURS = {"robovae"}


def bash(code: str, bin_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run a line with the functions of launch/apt.sh and the commands in `bin_dir` before all others."""
    path = f"{bin_dir}:{os.environ['PATH']}"
    line = f"set -euo pipefail; source launch/apt.sh; {code}"
    return subprocess.run(
        ["bash", "-c", line], cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )


def fake(bin_dir: Path, **commands: str) -> Path:
    """Commands that stand in for those of the system."""
    for name, body in commands.items():
        file = bin_dir / name.replace("_", "-")
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
    return bin_dir


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_strict_and_parse(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    if os.access(script, os.X_OK):
        assert text.startswith("#!/usr/bin/env bash\n")
        assert "set -euo pipefail" in text


def test_without_rights_the_exact_line_is_printed_and_nothing_installed(tmp_path):
    fake(tmp_path, id="echo 1000", sudo="exit 1", apt_get="echo installed")
    done = bash("apt_install libgl1 libegl1", tmp_path)
    assert done.returncode == 1
    assert "installed" not in done.stdout
    wanted = "    sudo apt-get update && sudo apt-get install -y --no-install-recommends libgl1 libegl1\n"
    assert wanted in done.stderr


@pytest.mark.parametrize(("user", "prefix"), [("0", ""), ("1000", "sudo -n ")])
def test_with_rights_packages_are_installed_without_a_question(tmp_path, user, prefix):
    log = tmp_path / "log"
    sudo = f'echo "sudo $@" >> {log}; shift; exec "$@"'
    fake(tmp_path, id=f"echo {user}", sudo=sudo, apt_get=f'echo "apt-get $@" >> {log}')
    done = bash("apt_install chromium", tmp_path)
    assert done.returncode == 0
    lines = log.read_text()
    assert "apt-get update" in lines
    assert re.search(r"apt-get install -y .*chromium", lines)
    assert ("sudo" in lines) == bool(prefix)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ("libglib2.0-0 libosmesa6 libgl1", "libglib2.0-0 libosmesa6 libgl1 libegl1 libgl1-mesa-dri"),
        ("libglib2.0-0t64 libgl1", "libglib2.0-0t64 libgl1 libegl1 libgl1-mesa-dri"),
        ("", "libglib2.0-0 libosmesa6 libgl1 libegl1 libgl1-mesa-dri"),
    ],
)
def test_packages_have_the_names_of_the_release(tmp_path, known, expected):
    lists = "|".join(known.split()) or "none"
    fake(tmp_path, apt_cache=f'case "$2" in {lists}) echo "  Candidate: 1.0" ;; esac')
    assert bash("gl_packages", tmp_path).stdout.split() == expected.split()


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=]", requirement)[0].lower() for requirement in requirements} - OURS


def test_constraints_pin_every_direct_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = names(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        direct |= names(extra)
    lines = (ROOT / "launch" / "constraints.txt").read_text().splitlines()
    pins = {line.partition("==")[0].lower() for line in lines if "==" in line}
    assert direct <= pins
    assert "torch==2.13.0" in lines


def test_the_keys_of_the_quickstart_are_known():
    recipe = load_recipe(ROOT / "launch" / "quickstart.yaml")
    parts = [(TrainConfig, recipe.train), (TrainConfig, recipe.ae_config())]
    parts.append((CalibrateConfig, dict(recipe.calibrate or {})))
    for config, given in parts:
        assert given
        from_mapping(config, given, "quickstart")
        with pytest.raises(ConfigError, match="unknown key 'latents'"):  # negative control
            from_mapping(config, {**given, "latents": 10}, "quickstart")
    assert set(policy_configs(recipe)) == {"", "mu", "augmented", "state"}
