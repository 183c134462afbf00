"""Who may import whom: robovae no robovae_envs, robovae_envs no torch, and workers start without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIGHT = "robovae, robovae.collect, robovae.episodes, robovae.cli, robovae.run, robovae_envs.camera"


def imports(source: str) -> set[str]:
    """Top-level packages that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def importers(package: Path, forbidden: set[str], allowed: Path | None = None) -> list[str]:
    files = [path for path in package.rglob("*.py") if allowed is None or allowed not in path.parents]
    assert files, f"no sources in {package}"
    return [str(path.relative_to(ROOT)) for path in files if imports(path.read_text()) & forbidden]


def test_robovae_imports_robovae_envs_only_in_its_command_line():
    assert importers(ROOT / "robovae", {"robovae_envs"}, allowed=ROOT / "robovae" / "cli") == []


def test_the_command_line_is_where_both_meet():  # negative control: the search does find such imports
    assert importers(ROOT / "robovae" / "cli", {"robovae_envs"})


def test_robovae_envs_imports_neither_torch_nor_robovae():
    assert importers(ROOT / "envs" / "robovae_envs", {"torch", "robovae"}) == []


def test_envs_is_a_source_root_and_no_package():
    assert not (ROOT / "envs" / "__init__.py").exists()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch.nn as nn", {"torch"}),
        ("def f():\n    from torch import nn", {"torch"}),
        ("from . import torch", set()),
        ("x = 'import torch'", set()),
    ],
)
def test_imports_are_found_wherever_they_stand(source, found):
    assert imports(source) == found


def torch_after(statement: str) -> bool:
    """Whether torch is loaded in a fresh process after a statement."""
    code = f"import sys; {statement}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


def test_what_workers_import_leaves_torch_alone():
    assert not torch_after(f"import {LIGHT}")


def test_torch_would_be_seen():  # negative control
    assert torch_after("import torch")
