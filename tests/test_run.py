"""Recipes, stages that are run once, and provenance; training and drawing are stand-ins here."""

import json
import shutil
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
from robovae.cli.events import Watcher
from robovae.cli.run import acting_words
from robovae.collect import CollectConfig, collect
from robovae.config import ConfigError
from robovae.episodes import EpisodeStore
from robovae.filter import model as filter_model
from robovae.policy import PolicyConfig, PolicyError, PolicyEvent
from robovae.records import digest, read_json, write_json, write_text
from robovae.run import Listeners, Stage, collect_stage, load_recipe, parse_size, run_recipe, run_stage
from robovae.run.acting import policy_configs
from robovae.run.files import CALIBRATION
from robovae.uncertainty import CalibrateConfig
from tests.toy_env import make_toy

RECIPE = """
collect: {env: Toy-v0, out: data/toy, episodes: {train: 3, test: 1}, workers: 1, size: 16}
train: {out: runs/toy, lr: 1e-3}
"""
ACTING = """
calibrate: {}
policy: {steps: 300, others: {mu: {features: mu, stack: 3}, state: {observation: state, seed: 5}}}
control: quick
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
    calibrated: list[CalibrateConfig] = field(default_factory=list)
    learned: dict[str, PolicyConfig] = field(default_factory=dict)
    looped: list[str] = field(default_factory=list)
    events: list[tuple[str, Any]] = field(default_factory=list)
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

    def calibrate(self, run: Path, data: Path, config: CalibrateConfig, on_event: Any) -> dict[str, Any]:
        self.calibrated.append(config)
        for name in CALIBRATION:
            (run / name).write_text(str(config))
        return {"threshold": 1.0}

    def learn(self, run: Path, make_env: Any, config: PolicyConfig, on_event: Any, *, name: str) -> Any:
        assert make_env().observation_space["image"].shape == (16, 16, 3)
        if self.fail is not None:
            raise self.fail
        self.learned[name] = config
        on_event(PolicyEvent("step", 3, 300))
        done = {"algo": "sac", "features": config.sees, "steps": 300, "seconds": 0.0, "kept": {}}
        done["evaluation"] = {"mean": -4.0 - len(name)}
        where = run / (f"policy-{name}" if name else "policy")
        write_json(where / "policy.json", {**done, "more": 1})
        (where / "policy.safetensors").write_text(str(config))
        return {**done, "more": 1}

    def loop(self, run: Path, scale: str) -> dict[str, Any]:
        self.looped.append(scale)
        (run / "control" / "film.webp").write_text("film")
        write_json(run / "control" / "control.json", {"scale": scale})
        return {"targets": [{"": "missed 0.1 to 0.2"}, {"": ""}]}

    def write(self, run: Path, data: Path) -> Path:
        self.drawn += 1
        page = run / "report" / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("<html>")
        return page


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    train = types.SimpleNamespace(
        TrainConfig=TrainConfig,
        train=calls.train,
        HOW_NOT_WHAT=("threads",),
        is_finished=lambda run: (run / "model.safetensors").is_file(),
    )
    report = types.SimpleNamespace(write=calls.write)
    uncertainty = types.SimpleNamespace(
        CalibrateConfig=CalibrateConfig, calibrate_run=calls.calibrate, FORMATS={"monitor": 1}
    )
    for name, module in (("train", train), ("report", report), ("uncertainty", uncertainty)):
        monkeypatch.setitem(sys.modules, f"robovae.{name}", module)
        monkeypatch.setattr(robovae, name, module, raising=False)
    learning = types.SimpleNamespace(
        train_policy=calls.learn, HOW_NOT_WHAT=("threads",), is_taken=lambda *place, name: False
    )
    monkeypatch.setitem(sys.modules, "robovae.policy.training", learning)
    return calls


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def do(path: Path, calls: Calls, env_factory: Any = None) -> dict[str, Any]:
    calls.stages.clear()
    listeners = Listeners(
        on_stage=lambda event: calls.stages.append((event.stage, event.state)),
        on_event=lambda *heard: calls.events.append(heard),
    )
    env_factory = env_factory or (lambda stage: partial(make_toy, max_steps=4))
    return run_recipe(load_recipe(path, path.parent), env_factory, listeners, calls.judge, calls.loop)


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


def test_a_calibrated_recipe_is_calibrated_and_judged_before_the_report(recipe_file, calls):
    recipe_file.write_text(
        RECIPE.replace("test: 1", "test: 1, calibrate: 2, rare: 1")
        + "calibrate: {steps: 7}\nevaluate: quick\n"
    )
    result = do(recipe_file, calls)
    assert list(result["stages"]) == ["collect", "train", "calibrate", "evaluate", "report"]
    assert calls.calibrated == [CalibrateConfig(steps=7)]
    assert calls.judged == ["quick"]
    rare = EpisodeStore(Path(result["data"])).split("rare")
    assert (np.abs(rare[0].action) == 1.0).all()  # bang-bang, whoever acts in the others
    do(recipe_file, calls)
    assert len(calls.calibrated) == len(calls.judged) == 1


def test_a_calibration_made_by_hand_since_is_done_anew(recipe_file, calls):
    recipe_file.write_text(RECIPE.replace("test: 1", "test: 1, calibrate: 2") + "calibrate: {steps: 7}\n")
    do(recipe_file, calls)
    do(recipe_file, calls)
    assert len(calls.calibrated) == 1
    (recipe_file.parent / "runs" / "toy" / CALIBRATION[0]).write_text("another")
    do(recipe_file, calls)
    assert len(calls.calibrated) == 2


def test_each_stage_tells_where_it_comes_from_and_the_run_where_its_weights_do(tmp_path, monkeypatch):
    for stage, commit in (("train", "one"), ("policy", "two")):
        monkeypatch.setattr(provenance, "git_state", lambda root, commit=commit: {"commit": commit})
        provenance.record(tmp_path, stage, {"seconds": 1.0})
    found = read_json(tmp_path / provenance.FILE)
    assert found["git"]["commit"] == "one"
    assert [found["stages"][name]["from"]["git"]["commit"] for name in ("train", "policy")] == ["one", "two"]


def test_a_calibration_of_an_older_format_is_done_anew(recipe_file, calls, monkeypatch):
    recipe_file.write_text(RECIPE.replace("test: 1", "test: 1, calibrate: 2") + "calibrate: {steps: 7}\n")
    do(recipe_file, calls)
    monkeypatch.setattr(sys.modules["robovae.uncertainty"], "FORMATS", {"monitor": 2})
    do(recipe_file, calls)
    assert len(calls.calibrated) == 2
    monkeypatch.setattr(filter_model, "FORM", "0")
    do(recipe_file, calls)
    assert len(calls.calibrated) == 3
    do(recipe_file, calls)
    assert len(calls.calibrated) == 3  # negative control


@pytest.fixture(scope="module")
def collected(tmp_path_factory) -> Path:
    """A folder in which the dataset of the recipe below is finished."""
    folder = tmp_path_factory.mktemp("collected")
    (folder / "recipe.yaml").write_text(RECIPE.replace("test: 1", "test: 1, calibrate: 1") + ACTING)
    recipe = load_recipe(folder / "recipe.yaml", folder)
    make_env = partial(make_toy, max_steps=4)
    run_stage(collect_stage(recipe.collect, make_env, lambda *_: None), lambda _: None)
    return folder


@pytest.fixture
def acting_file(collected, tmp_path) -> Path:
    """A recipe with three policies and the closed loop, whose episodes are there."""
    return shutil.copytree(collected, tmp_path / "acting") / "recipe.yaml"


STAGES = ["collect", "train", "calibrate", "policy", "policy-mu", "policy-state", "control", "report"]


def test_policies_learn_on_the_calibrated_run_and_are_judged_before_the_report(acting_file, calls):
    result = do(acting_file, calls)
    assert list(result["stages"]) == STAGES
    assert calls.learned == {
        "": PolicyConfig(steps=300),
        "mu": PolicyConfig(steps=300, features="mu", stack=3),
        "state": PolicyConfig(steps=300, observation="state", seed=5),
    }
    assert calls.looped == ["quick"]
    assert [stage for stage, _ in calls.events if stage.startswith("policy")] == STAGES[3:6]
    assert result["stages"]["policy-mu"]["config"]["batch"] == 256  # resolved: the algorithm's defaults too
    assert "more" not in result["stages"]["policy"]["result"]
    assert acting_words(result["stages"]) == {
        "mean return": "policy -4, policy-mu -6, policy-state -9",
        "closed loop": "1 of 2 targets missed",
    }
    do(acting_file, calls)
    assert calls.stages == [(name, "skip") for name in STAGES]


def test_policies_start_where_the_task_starts(acting_file, calls):
    acting_file.write_text(acting_file.read_text().replace("size: 16", "size: 16, spread: 0.5"))
    spreads: list[float] = []

    def env_factory(stage: Any) -> Any:
        spreads.append(stage.spread)
        return partial(make_toy, max_steps=4)

    do(acting_file, calls, env_factory)
    assert spreads == [0.5, 0.0, 0.0, 0.0]


def test_another_policy_config_trains_that_policy_anew_and_judges_again(acting_file, calls):
    do(acting_file, calls)
    acting_file.write_text(acting_file.read_text().replace("stack: 3", "stack: 2, threads: 3"))
    do(acting_file, calls)
    begun = [stage for stage in calls.stages if stage[1] not in ("skip", "done")]
    assert begun == [
        ("policy-mu", "aside"),
        ("policy-mu", "start"),
        ("control", "start"),
        ("report", "start"),
    ]
    run = acting_file.parent / "runs" / "toy"
    assert (run / "policy-mu.old-1" / "policy.safetensors").is_file()
    do(acting_file, calls)
    assert {state for _, state in calls.stages} == {"skip"}  # what was set aside is no input
    acting_file.write_text(acting_file.read_text().replace("threads: 3", "threads: 1"))
    do(acting_file, calls)
    assert {state for _, state in calls.stages} == {"skip"}


def test_a_new_calibration_trains_those_anew_that_see_through_it(acting_file, calls):
    do(acting_file, calls)
    acting_file.write_text(acting_file.read_text().replace("calibrate: {}", "calibrate: {steps: 7}"))
    do(acting_file, calls)
    begun = [stage for stage, state in calls.stages if state == "start"]
    assert begun == ["calibrate", "policy", "policy-mu", "control", "report"]


def test_a_round_is_more_train_episodes_and_the_recipe_again(acting_file, calls):
    do(acting_file, calls)
    own = CollectConfig(episodes=1, seed=100_000, policy="zero", workers=1)
    collect(partial(make_toy, max_steps=4), acting_file.parent / "data" / "toy", own)
    do(acting_file, calls)
    assert [stage for stage, state in calls.stages if state == "start"] == STAGES[1:]
    first = acting_file.parent / "runs" / "toy.old-1"
    assert (first / "policy-mu" / "policy.safetensors").is_file()


def test_the_sections_in_the_docs_are_a_recipe(recipe_file):
    text = (Path(__file__).parents[1] / "docs" / "policies.md").read_text(encoding="utf-8")
    (section,) = [part.partition("```")[0] for part in text.split("```yaml\n")[1:]]
    recipe_file.write_text(RECIPE.replace("test: 1", "test: 1, calibrate: 1") + "calibrate: {}\n" + section)
    recipe = load_recipe(recipe_file)
    configs = policy_configs(recipe)
    assert [configs[name].sees for name in ("", "mu", "state")] == ["filtered", "mu", "state"]
    assert {one.steps for one in configs.values()} == {50_000}
    assert recipe.control == "quick"


def test_an_interrupted_policy_goes_on(acting_file, calls):
    do(acting_file, calls)
    acting_file.write_text(acting_file.read_text().replace("seed: 5", "seed: 6"))
    calls.fail = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        do(acting_file, calls)
    calls.fail = None
    do(acting_file, calls)
    assert [state for stage, state in calls.stages if stage == "policy-state"] == ["resume", "done"]


def test_lost_films_and_full_judgements_are_made_again(acting_file, calls):
    do(acting_file, calls)
    (acting_file.parent / "runs" / "toy" / "control" / "film.webp").unlink()
    do(acting_file, calls)
    acting_file.write_text(acting_file.read_text().replace("control: quick", "control: full"))
    do(acting_file, calls)
    assert calls.looped == ["quick", "quick", "full"]
    assert calls.stages[-2:] == [("report", "start"), ("report", "done")]


def test_missing_libraries_are_named_before_anything_runs(acting_file, calls, monkeypatch):
    monkeypatch.delitem(sys.modules, "robovae.policy.training")
    monkeypatch.delitem(sys.modules, "robovae.policy.learner", raising=False)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises((PolicyError, ImportError), match="stable"):
        do(acting_file, calls)
    assert not calls.stages


def test_a_recipe_without_policies_needs_no_library_for_them(recipe_file, calls, monkeypatch):
    monkeypatch.setitem(sys.modules, "robovae.policy.training", None)
    assert list(do(recipe_file, calls)["stages"]) == ["collect", "train", "report"]


def test_progress_of_policies_is_shown_like_that_of_training(monkeypatch):
    shown: list[tuple[str, int, int, str]] = []
    watcher = Watcher()
    monkeypatch.setattr(watcher, "_show", lambda *told: shown.append(told))
    watcher("policy-mu", PolicyEvent("start", 0, 300))
    watcher("policy-mu", PolicyEvent("evaluation", 100, 300, 5.0, 20.0, -4.25))
    assert shown == [
        ("policy-mu", 0, 300, "starting"),
        ("policy-mu", 100, 300, "20 steps/s  return -4.25"),
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("evaluate: quick\n", "beside a section 'calibrate'"),
        ("calibrate: {}\nevaluate: long\n", "expected quick or full"),
        ("calibrate: {stepz: 7}\n", "unknown key 'stepz'"),
        ("policy: {}\n", "policy: expected a section 'calibrate' beside it, received none"),
        ("calibrate: {}\ncontrol: quick\n", "control: expected quick or full beside a section 'policy'"),
        ("calibrate: {}\npolicy: {}\ncontrol: 3\n", "expected quick or full .* received 3"),
        ("calibrate: {}\npolicy: {setps: 7}\n", "policy: unknown key 'setps'; did you mean 'steps'"),
        ("calibrate: {}\npolicy: {steps: 0}\n", "policy: steps: expected at least 1, received 0"),
        ("calibrate: {}\npolicy: {others: {mu: {stack: 0}}}\n", "policy-mu: stack: expected at least 1"),
        ("calibrate: {}\npolicy: {others: [mu]}\n", "policy.others: expected names with keys and values"),
        ("calibrate: {}\npolicy: {others: {mu: 3}}\n", "policy.others: expected names with keys"),
        ('calibrate: {}\npolicy: {others: {"": {}}}\n', "policy.others: expected names with keys"),
    ],
)
def test_a_recipe_that_cannot_be_done_is_refused_before_anything_runs(recipe_file, calls, more, message):
    recipe_file.write_text(RECIPE.replace("test: 1", "test: 1, calibrate: 1") + more)
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
        ("train: 3", "train: many", "collect.episodes.train: expected an integer, received 'many'"),
        ("size: 16", "size: 16y", "collect: size: expected a number of pixels or HxW"),
        ("workers: 1", "quality: best", "collect.quality: expected one of fast, full, received 'best'"),
        ("workers: 1", "spread: 2.0", "collect: spread: expected a share from 0 to 1, received 2"),
        ("out: runs/toy, ", "", "expected a run directory under the key 'out', received None"),
        ("collect: {", "collect: [", "not YAML"),
        ("train: {out", "ae: {setps: 1}\ntrain: {out", "ae: unknown key 'setps'; did you mean 'steps'"),
        ("{train: 3, test: 1}", "400", "collect.episodes: expected keys and values, received 400"),
        ("out: data/toy", "out: 5", "collect: out: expected a directory, received 5"),
        ("train: {out", "ae: {model: 5}\ntrain: {out", "model: expected keys and values, received 5"),
        (
            "out: runs/toy",
            "out: data/toy/run",
            "expected a dataset and a run apart from each other",
        ),
        (", test: 1", "", "collect.episodes: expected the split 'test', received train"),
        ("train: {out", "calibrate: {}\ntrain: {out", "expected the split 'calibrate', received train, test"),
        (
            "size: 16",
            "size: 84",
            "expected sides that are multiples of 8 from 16 on, received 84",
        ),
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


@pytest.mark.parametrize("text", ["", "x", "64x", "x64", "64x64x3", "-64", "6.4", "0", "64x0"])
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
    (folder / "toy.json").unlink()  # made by another command
    assert states(stage(folder)) == ["start", "done"]
    (folder / "toy.json").unlink()
    assert states(stage(folder, is_other=lambda: True)) == ["aside", "start", "done"]
    assert states(stage(folder, is_other=lambda: True)) == ["skip"]


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


def test_text_is_written_as_it_is_or_not_at_all(tmp_path, monkeypatch):
    path = write_text(tmp_path / "deep" / "a.csv", "å\r\n")
    assert path.read_bytes() == "å\r\n".encode()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "b")
    assert path.read_bytes() == "å\r\n".encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["a.csv"]


def test_json_refuses_nan_and_reading_refuses_nothing(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    (tmp_path / "b.json").write_text("{half")
    assert read_json(tmp_path / "b.json") is None
    assert read_json(tmp_path / "none.json") is None


def test_digests_tell_values_apart_and_orders_not():
    assert digest({"a": 1, "b": [1, 2]}) == digest(json.loads('{"b": [1, 2], "a": 1}'))
    assert digest({"a": 1}) != digest({"a": 2})
