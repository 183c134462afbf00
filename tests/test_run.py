"""Recipes, stages that are run once, and provenance; training and drawing are stand-ins here."""

import json
import sys
import types
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import robovae
from robovae import provenance
from robovae.config import ConfigError
from robovae.episodes import EpisodeStore
from robovae.records import digest, read_json, write_json
from robovae.run import Listeners, Stage, load_recipe, parse_size, run_recipe, run_stage
from robovae.uncertainty import CalibrateConfig
from tests.toy_env import make_toy

RECIPE = """
collect: {env: Toy-v0, out: data/toy, episodes: {train: 3, test: 1}, workers: 1, size: 16}
train: {out: runs/toy, lr: 1e-3}
"""


@dataclass(frozen=True)
class Model:
    latent_dim: int = 8
    deterministic: bool = False


@dataclass(frozen=True)
class TrainConfig:
    lr: float = 0.1
    steps: int = 5
    threads: int = 0
    model: Model = field(default_factory=Model)


@dataclass
class Calls:
    """What the stand-ins were asked to do, and what the listeners heard."""

    trained: list[TrainConfig] = field(default_factory=list)
    drawn: int = 0
    judged: list[str] = field(default_factory=list)
    stages: list[tuple[str, str]] = field(default_factory=list)
    fail: BaseException | None = None

    def train(self, data: Path, out: Path, config: TrainConfig, on_event: Any) -> dict[str, Any]:
        if self.fail is not None:
            raise self.fail
        self.trained.append(config)
        out.mkdir(parents=True, exist_ok=True)
        (out / "model.safetensors").write_text(str(config))
        on_event("step")
        return {"ev": 0.9}

    def judge(self, run: Path, data: Path, scale: str) -> dict[str, Any]:
        self.judged.append(scale)
        (run / "judge").mkdir(exist_ok=True)
        (run / "judge" / "judge.json").write_text("{}")
        return {}

    def write(self, run: Path, data: Path) -> Path:
        self.drawn += 1
        page = run / "report" / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("<html>")
        return page


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    train = types.SimpleNamespace(TrainConfig=TrainConfig, train=calls.train, HOW_NOT_WHAT=("threads",))
    report = types.SimpleNamespace(write=calls.write)
    for name, module in (("train", train), ("report", report)):
        monkeypatch.setitem(sys.modules, f"robovae.{name}", module)
        monkeypatch.setattr(robovae, name, module, raising=False)
    return calls


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def do(path: Path, calls: Calls) -> dict[str, Any]:
    calls.stages.clear()
    listeners = Listeners(
        on_stage=lambda event: calls.stages.append((event.stage, event.state)), on_event=lambda *_: None
    )
    return run_recipe(
        load_recipe(path, path.parent), lambda _: partial(make_toy, max_steps=4), listeners, calls.judge
    )


def test_a_recipe_collects_trains_and_reports(recipe_file, calls):
    result = do(recipe_file, calls)
    assert [state for state in calls.stages if state[1] != "done"] == [
        ("collect", "start"),
        ("train", "start"),
        ("report", "start"),
    ]
    assert calls.trained == [TrainConfig(lr=1e-3)]  # YAML reads 1e-3 as text
    assert Path(result["report"]).is_file()
    assert len(list((recipe_file.parent / "data" / "toy").glob("*.safetensors"))) == 4
    assert result["stages"]["train"]["result"] == {"ev": 0.9}


def test_what_is_finished_is_skipped(recipe_file, calls):
    first = do(recipe_file, calls)
    written = (recipe_file.parent / "runs" / "toy" / provenance.FILE).stat().st_mtime_ns
    assert do(recipe_file, calls) == first
    assert (recipe_file.parent / "runs" / "toy" / provenance.FILE).stat().st_mtime_ns == written
    assert calls.stages == [("collect", "skip"), ("train", "skip"), ("report", "skip")]
    assert (len(calls.trained), calls.drawn) == (1, 1)


def test_another_train_config_trains_anew_and_keeps_the_old_run(recipe_file, calls):
    do(recipe_file, calls)
    recipe_file.write_text(RECIPE.replace("1e-3", "0.5"))
    do(recipe_file, calls)
    assert calls.trained[-1] == TrainConfig(lr=0.5)
    assert calls.stages[:3] == [("collect", "skip"), ("train", "aside"), ("train", "start")]
    assert (recipe_file.parent / "runs" / "toy.old-1" / "model.safetensors").is_file()
    assert (
        read_json(recipe_file.parent / "runs" / "toy" / "provenance.json")["stages"]["train"]["config"]["lr"]
        == 0.5
    )


def test_more_episodes_add_to_the_dataset_and_train_anew(recipe_file, calls):
    do(recipe_file, calls)
    recipe_file.write_text(RECIPE.replace("train: 3", "train: 5"))
    do(recipe_file, calls)
    assert calls.stages[0] == ("collect", "resume")
    assert ("train", "aside") in calls.stages
    assert len(list((recipe_file.parent / "data" / "toy").glob("*.safetensors"))) == 6


def test_another_policy_collects_anew_and_keeps_the_old_episodes(recipe_file, calls):
    do(recipe_file, calls)
    recipe_file.write_text(RECIPE.replace("workers: 1", "workers: 1, policy: zero"))
    do(recipe_file, calls)
    assert calls.stages[:2] == [("collect", "aside"), ("collect", "start")]
    assert len(list((recipe_file.parent / "data" / "toy.old-1").glob("*.safetensors"))) == 4


def test_the_number_of_workers_and_threads_changes_nothing(recipe_file, calls):
    do(recipe_file, calls)
    recipe_file.write_text(RECIPE.replace("workers: 1", "workers: 2").replace("lr:", "threads: 1, lr:"))
    do(recipe_file, calls)
    assert calls.stages == [("collect", "skip"), ("train", "skip"), ("report", "skip")]


def test_more_test_episodes_draw_a_new_report_of_the_same_model(recipe_file, calls):
    do(recipe_file, calls)
    recipe_file.write_text(RECIPE.replace("test: 1", "test: 2"))
    do(recipe_file, calls)
    assert [state for _, state in calls.stages] == ["resume", "done", "skip", "start", "done"]


def test_a_calibrated_recipe_is_calibrated_and_judged_before_the_report(recipe_file, calls, monkeypatch):
    calibrated: list[Any] = []

    def calibrate_run(run: Path, data: Path, config: Any, on_event: Any) -> dict[str, Any]:
        calibrated.append(config)
        for name in ("uncertainty.safetensors", "monitor.json"):
            (run / name).write_text("limits")
        on_event("part")
        return {"threshold": 1.0}

    stand_in = types.SimpleNamespace(CalibrateConfig=CalibrateConfig, calibrate_run=calibrate_run)
    monkeypatch.setitem(sys.modules, "robovae.uncertainty", stand_in)
    recipe_file.write_text(
        RECIPE.replace("test: 1", "test: 1, calibrate: 2, rare: 1")
        + "calibrate: {steps: 7}\nevaluate: quick\n"
    )
    result = do(recipe_file, calls)
    assert list(result["stages"]) == ["collect", "train", "calibrate", "evaluate", "report"]
    assert calibrated == [CalibrateConfig(steps=7)]
    assert calls.judged == ["quick"]
    rare = EpisodeStore(Path(result["data"])).split("rare")
    assert (np.abs(rare[0].action) == 1.0).all()  # bang-bang, whoever acts in the others
    do(recipe_file, calls)
    assert len(calibrated) == len(calls.judged) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("evaluate: quick\n", "beside a section 'calibrate'"),
        ("calibrate: {}\nevaluate: long\n", "expected quick or full"),
        ("calibrate: {stepz: 7}\n", "unknown key 'stepz'"),
    ],
)
def test_a_recipe_that_cannot_be_judged_is_refused_before_anything_runs(recipe_file, calls, more, message):
    recipe_file.write_text(RECIPE + more)
    with pytest.raises(ConfigError, match=message):
        do(recipe_file, calls)
    assert calls.trained == []


def test_a_plain_autoencoder_is_trained_beside_the_model_where_the_recipe_asks(recipe_file, calls):
    recipe_file.write_text(RECIPE + "ae: {steps: 3, model: {latent_dim: 4}}\n")
    do(recipe_file, calls)
    plain = calls.trained[1]
    assert (plain.lr, plain.steps, plain.model) == (1e-3, 3, Model(latent_dim=4, deterministic=True))
    assert (recipe_file.parent / "runs" / "toy" / "ae" / "model.safetensors").is_file()
    assert calls.trained[0].model == Model()
    do(recipe_file, calls)
    assert [state for _, state in calls.stages] == ["skip"] * 4


def test_lost_artefacts_are_made_again(recipe_file, calls):
    result = do(recipe_file, calls)
    next((recipe_file.parent / "data" / "toy").glob("*.safetensors")).unlink()
    Path(result["report"]).unlink()
    do(recipe_file, calls)
    assert [state for _, state in calls.stages] == ["resume", "done", "skip", "resume", "done"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), RuntimeError("killed")])
def test_an_interrupted_stage_is_resumed_and_its_seconds_add_up(recipe_file, calls, stop):
    calls.fail = stop
    with pytest.raises(type(stop)):
        do(recipe_file, calls)
    record = recipe_file.parent / "runs" / "toy" / "train.json"
    assert read_json(record)["state"] == "running"
    write_json(record, {**read_json(record), "seconds": 100.0})
    calls.fail = None
    result = do(recipe_file, calls)
    assert calls.stages[:2] == [("collect", "skip"), ("train", "resume")]
    assert result["stages"]["train"]["seconds"] >= 100.0


def test_the_config_lies_beside_each_artefact(recipe_file, calls):
    do(recipe_file, calls)
    collected = read_json(recipe_file.parent / "data" / "toy" / "collect.json")["config"]
    assert collected["policy"] == "random"  # resolved: defaults too
    assert collected["episodes"] == {"train": 3, "test": 1}
    assert read_json(recipe_file.parent / "runs" / "toy" / "train.json")["config"] == {
        "lr": 0.001,
        "steps": 5,
        "model": {"latent_dim": 8, "deterministic": False},
    }


def test_provenance_tells_command_versions_machine_and_times(recipe_file, calls):
    do(recipe_file, calls)
    found = read_json(recipe_file.parent / "runs" / "toy" / provenance.FILE)
    assert {"command", "time", "versions", "machine", "git", "stages"} <= set(found)
    assert {"cpu", "cores", "gl_backend"} <= set(found["machine"])
    assert found["stages"]["train"]["seconds"] >= 0
    assert found["stages"]["collect"]["config"]["episodes"] == {"train": 3, "test": 1}
    assert found["versions"]["python"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("workers: 1", "worker: 1", "collect: unknown key 'worker'; did you mean 'workers'"),
        ("lr: 1e-3", "learnrate: 1", "train: unknown key 'learnrate'; known: lr, model, steps, threads"),
        ("train: {out", "tarin: {out", "unknown key 'tarin'; did you mean 'train'"),
        ("lr: 1e-3", "lr: fast", "train.lr: expected a number, received 'fast'"),
        ("lr: 1e-3", "steps: 1.5", "train.steps: expected an integer, received 1.5"),
        ("env: Toy-v0, ", "", "collect: the key 'env' is missing"),
        ("test: 1", "tset: 1", "collect: episodes: unknown key 'tset'; did you mean 'test'"),
        ("train: 3", "train: 0", "collect: episodes must be an integer of at least 1, got 0"),
        ("train: 3", "train: many", "collect: episodes must be an integer of at least 1, got 'many'"),
        ("size: 16", "size: 16y", "collect: size: expected a number of pixels or HxW"),
        ("workers: 1", "quality: best", "collect.quality: expected one of fast, full, received 'best'"),
        ("workers: 1", "spread: 2.0", "collect: spread: expected a share from 0 to 1, received 2"),
        ("out: runs/toy, ", "", "expected a run directory under the key 'out', received None"),
        ("collect: {", "collect: [", "not YAML"),
        ("train: {out", "ae: {setps: 1}\ntrain: {out", "ae: unknown key 'setps'; did you mean 'steps'"),
        ("train: {out", "ae: 1\ntrain: {out", "expected keys and values in the section 'ae', received 1"),
    ],
)
def test_a_bad_recipe_is_refused_before_anything_runs(recipe_file, calls, old, new, message):
    assert old in RECIPE
    recipe_file.write_text(RECIPE.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        do(recipe_file, calls)
    assert sorted(path.name for path in recipe_file.parent.iterdir()) == ["recipe.yaml"]


@pytest.mark.parametrize(("text", "message"), [("", "sections collect and train"), ("- a", "received list")])
def test_a_recipe_of_another_kind_is_refused(recipe_file, text, message):
    recipe_file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_recipe(recipe_file)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml: no readable recipe"):
        load_recipe(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(("text", "size"), [("64", (64, 64)), ("64x96", (64, 96)), ("48X32", (48, 32))])
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "64x", "x64", "64x64x3", "-64", "6.4"])
def test_bad_sizes(text):
    with pytest.raises(ConfigError, match="size: expected"):
        parse_size(text)


def stage(folder: Path, **changes: Any) -> Stage:
    given = {"config": {"a": 1}, "inputs": {"x": "1"}, "run": dict, "is_there": lambda: True, **changes}
    return Stage(name="toy", artefact=folder, record=folder / "toy.json", **given)


def states(one: Stage) -> list[str]:
    heard: list[str] = []
    run_stage(one, lambda event: heard.append(event.state))
    return heard


def test_a_stage_runs_again_for_another_config_another_input_or_a_lost_artefact(tmp_path):
    folder = tmp_path / "a"
    assert states(stage(folder)) == ["start", "done"]
    assert states(stage(folder)) == ["skip"]
    assert states(stage(folder, is_there=lambda: False)) == ["resume", "done"]
    assert states(stage(folder, config={"a": 2})) == ["aside", "start", "done"]
    assert states(stage(folder, config={"a": 2}, inputs={"x": "2"})) == ["aside", "start", "done"]
    assert states(stage(folder, sets_aside=False)) == ["start", "done"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.old-1", "a.old-2"]


def test_a_stage_that_counts_its_own_seconds_is_believed(tmp_path):
    record = run_stage(stage(tmp_path / "a", run=lambda: {"seconds": 50.0}), lambda event: None)
    assert record["seconds"] == 50.0


def test_json_is_whole_or_absent(tmp_path, monkeypatch):
    path = write_json(tmp_path / "deep" / "a.json", {"a": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert [entry.name for entry in path.parent.iterdir()] == ["a.json"]


def test_json_refuses_nan_and_reading_refuses_nothing(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    (tmp_path / "b.json").write_text("{half")
    assert read_json(tmp_path / "b.json") is None
    assert read_json(tmp_path / "none.json") is None


def test_digests_tell_values_apart_and_orders_not():
    assert digest({"a": 1, "b": [1, 2]}) == digest(json.loads('{"b": [1, 2], "a": 1}'))
    assert digest({"a": 1}) != digest({"a": 2})
