"""Wheel and sdist: built from a copy of the tree, and used from elsewhere."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "robovae", "envs")
BUILD = "import setuptools.build_meta as b; print(b.build_sdist('dist')); print(b.build_wheel('dist'))"

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **settings: str) -> str:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env={**environ, **settings}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def site_of(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(run(python, "-c", code, cwd=python.parent).strip())


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(sdist, wheel)."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif source.exists():
            shutil.copy(source, tree / name)
    run(sys.executable, "-W", "ignore", "-c", BUILD, cwd=tree)
    (sdist,) = (tree / "dist").glob("*.tar.gz")
    (wheel,) = (tree / "dist").glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(dist: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of a new environment with the wheel in it, and the dependencies borrowed from this one."""
    venv = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", str(venv), cwd=venv)
    python = venv / "bin" / "python"
    site = site_of(python)
    target = ("--target", str(site), "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "install", *target, str(dist[1]), cwd=venv)
    # A plain directory line: .pth files of the other environment, and so its editable robovae, are not read.
    (site / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return venv / "bin"


def test_the_wheel_holds_both_packages_and_nothing_else(dist):
    names = zipfile.ZipFile(dist[1]).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"robovae", "robovae_envs"}
    assert {"robovae/py.typed", "robovae_envs/py.typed"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_holds_every_file_of_the_packages(dist):
    names = set(zipfile.ZipFile(dist[1]).namelist())
    for root in (ROOT, ROOT / "envs"):
        files = [path for path in root.glob("robovae*/**/*") if path.is_file() and path.suffix != ".pyc"]
        files = [path for path in files if "egg-info" not in str(path)]
        assert files
        assert {str(path.relative_to(root)) for path in files} <= names


def test_the_sdist_holds_what_building_needs(dist):
    with tarfile.open(dist[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "robovae/cli/__init__.py", "envs/robovae_envs/camera.py"} <= names


def test_the_installed_packages_are_found_from_elsewhere(installed, tmp_path):
    code = "import robovae, robovae_envs; print(robovae.__file__); print(robovae_envs.__file__)"
    for line in run(installed / "python", "-c", code, cwd=tmp_path).splitlines():
        assert Path(line).is_relative_to(installed.parent)


def test_the_installed_command_runs_from_elsewhere(installed, tmp_path):
    site = site_of(installed / "python")
    entry = next(site.glob("robovae-*.dist-info")) / "entry_points.txt"
    assert "robovae = robovae.cli:main" in entry.read_text()
    said = run(installed / "python", "-m", "robovae", "--help", cwd=tmp_path)
    assert "usage: robovae" in said
    assert run(installed / "python", "-m", "robovae", "--version", cwd=tmp_path).strip() != "0.0.0+checkout"
