"""launch/benchmarks/latents.py on runs that exist: figures, resuming, and errors in one line."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from robovae.episodes import write_episode
from robovae.evaluate import EvaluateConfig
from robovae.run.directory import RunFacts, build_model, save_model
from robovae.vae import ModelConfig
from tests.test_evaluate import rollout

SCRIPT = Path(__file__).parents[1] / "launch" / "benchmarks" / "latents.py"


@pytest.fixture
def latents(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("latents", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "latents", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "EvaluateConfig", EvaluateConfig.tiny)
    return module


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for seed in (*range(6), 20000, 20001):
        write_episode(tmp_path / "data", rollout(seed))
    return tmp_path / "data"


def write_run(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    save_model(path, build_model(ModelConfig.tiny(), RunFacts((16, 16, 3), 2, "Toy-v0", {})))
    return path


def test_runs_are_measured_once_and_again_when_their_weights_change(
    latents: ModuleType, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = write_run(tmp_path / "toy", 0), tmp_path / "latents.json"
    options = latents.Latents(runs=(run,), data=(data,), json=True, out=out)
    latents.main(options)
    first = capsys.readouterr()
    found = json.loads(first.out)
    assert json.loads(out.read_text()) == found
    assert found["runs"][0]["run"] == "toy"
    assert {"machine", "versions", "git", "quick"} <= found.keys()
    latents.main(options)
    again = capsys.readouterr()
    assert "measure: skip" in again.err
    assert json.loads(again.out)["runs"] == found["runs"]
    write_run(run, 1)
    latents.main(options)
    changed = capsys.readouterr()
    assert "measure: skip" not in changed.err
    assert json.loads(changed.out)["runs"] != found["runs"]
    latents.main(replace(options, train_frames=1))
    few = json.loads(capsys.readouterr().out)["runs"][0]["train"]
    assert few["episodes"] == 1 < found["runs"][0]["train"]["episodes"]


def test_the_table_names_every_joint_and_says_what_is_missed(
    latents: ModuleType, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "toy", 0)
    latents.main(latents.Latents(runs=(run,), data=(data,), out=tmp_path / "latents.json"))
    shown = capsys.readouterr().out
    assert "EV of mu" in shown
    assert [line.split()[-1] for line in shown.splitlines() if " row " in line or " column " in line][
        -1
    ] == "missed"


def test_joints_without_a_figure_say_why(latents: ModuleType) -> None:
    probe = [
        {"name": "rootx", "kind": "slide", "skipped": "travels"},
        {"name": "target_x", "kind": "slide", "r2": 0.96, "low": 0.95, "high": 0.97},
        {"name": "elbow", "kind": "hinge", "r2": 0.96, "low": 0.95, "high": 0.97},
    ]
    skipped, small, missed = latents.joint_rows({"run": "x", "probe": probe})
    assert skipped[""] == "left out: travels"
    assert (small["target"], small[""]) == (0.95, "")
    assert (missed["target"], missed[""]) == (0.98, "missed")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--runs", "nowhere", "--data", "nothing"], "expected a trained run, received none"),
        (["--runs", "nowhere"], "expected the dataset of each of 1 runs, received 0"),
    ],
)
def test_what_can_be_mended_is_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
