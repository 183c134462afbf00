"""`robovae bench control` and the benchmark of the closed loop: policies of a run, cast and judged."""

import csv
import importlib.util
import json
import pickle
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import robovae_envs.faults
from robovae.belief import Perceiver
from robovae.cli import control
from robovae.cli.control import Control, control_run, env_maker, loop_config
from robovae.cli.control_tables import loop_tables
from robovae.closed_loop import BLIND, Cast, ClosedLoopError, LoopConfig, Played, play
from robovae.control import BeliefFeatures
from robovae.dynamics import FilterDynamics
from robovae.episodes import write_episode
from robovae.errors import RobovaeError
from robovae.filter import BeliefFilter, save_dynamics
from robovae.judge import JudgeError
from robovae.policy.belief_policy import BeliefPolicy
from robovae.policy.network import Actor
from robovae.policy.saving import fingerprints, policy_dir, save_policy
from robovae.run.directory import RunFacts, build_model, save_model
from robovae.vae import ModelConfig
from tests.test_closed_loop import FAULTS, SPACE, ToyFaulty
from tests.test_train import toy_episode
from tests.toy_beliefs import calibrate_with

SCRIPT = Path(__file__).parents[1] / "launch" / "benchmarks" / "control.py"
FACTS = RunFacts((16, 16, 3), 2, "Toy-v0", {"height": 16, "width": 16})
TINY = replace(LoopConfig.tiny(), faults=("dark",), episodes=2, steps=8, shares=(0.25,))
SIGHTED = ["nominal", "filter", "guard", "both", "oracle", "constant sigma"]


def make_toy_env(env_id: str, spec: Any, fault: str | None, severity: int, windows: Any) -> Any:
    assert (env_id, spec) == ("Toy-v0", FACTS.render_spec)
    return ToyFaulty(fault, severity, windows)


def write_policy(
    run: Path, name: str, observation: str, features: str, size: int, seed: int, **more: Any
) -> None:
    """One layer; on the state it pushes to the centre, elsewhere it does anything."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 0.3, (2, size)).astype(np.float32)
    if observation == "state":
        weight = np.concatenate([-4 * np.eye(2), -8 * np.eye(2)], axis=1).astype(np.float32)
    actor = Actor(((weight, np.zeros(2, np.float32)),), "relu", "squashed", SPACE)
    on = "state" if observation == "state" else features
    how = {"observation": observation, "features": features, "stack": 1, **more}
    save_policy(policy_dir(run, name), actor, {**how, **fingerprints(run, on)})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated run of an untrained model, with a filter and three policies."""
    data, path = tmp_path_factory.mktemp("toy"), tmp_path_factory.mktemp("runs") / "toy"
    for seed in (*range(16), *range(10_000, 10_012)):
        write_episode(data, toy_episode(seed))
    torch.manual_seed(0)
    save_model(path, build_model(ModelConfig.tiny(), replace(FACTS, render_spec=None)))
    latents = ModelConfig.tiny().latent_dim
    calibrate_with(FilterDynamics(latents, 2, 6), path, data)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "render_spec": FACTS.render_spec}))
    width = BeliefFeatures(latents, "filtered", 1, BeliefFilter.load(path)).size
    write_policy(path, "", "belief", "filtered", width, 0)
    write_policy(path, "mu", "belief", "mu", latents, 1)
    write_policy(path, "state", "state", "mu", 4, 3)
    return path


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy in the place of cameras and their faults, and little of everything."""
    monkeypatch.setattr(robovae_envs.faults, "FAULTS", FAULTS)
    monkeypatch.setattr(control, "make_env", make_toy_env)
    monkeypatch.setattr(control, "QUICK_FAULTS", ("dark",))
    monkeypatch.setattr(control, "FILMED", ("dark", 5, 0.5))
    monkeypatch.setattr(LoopConfig, "quick", classmethod(lambda cls: TINY))


# ---- the cast


def test_policies_are_cast_by_what_they_see(run: Path) -> None:
    cast = Cast.find(run)
    assert (cast.nominal, cast.filtered, cast.state) == ("mu", "", "state")
    assert cast.leading == "mu"
    assert pickle.loads(pickle.dumps(cast)) == cast
    assert [name for name in cast.facts() if name not in BLIND] == [
        name for name in SIGHTED if name != "constant sigma"
    ]
    assert list(cast()) == list(cast.facts())


def test_a_preferred_policy_comes_first(run: Path, tmp_path: Path) -> None:
    there = copied(run, tmp_path)
    write_policy(there, "a", "belief", "mu", ModelConfig.tiny().latent_dim, 9)
    assert Cast.find(there).nominal == "a"
    assert Cast.find(there, prefer=("mu",)).nominal == "mu"
    shutil.move(there / "policy-a", there / "policy-augmented")
    assert Cast.find(there).nominal == "augmented"  # a name like any other
    shutil.move(there / "policy-augmented", there / "policy-a")
    with pytest.raises(ClosedLoopError, match="expected a policy 'b', received '', 'a', 'mu', 'state'"):
        Cast.find(there, prefer=("b",))


def test_a_policy_of_corrupted_frames_has_a_part_beside_one_of_clean_ones(run: Path, tmp_path: Path) -> None:
    there, spoilt = copied(run, tmp_path), {"config": {"corrupt_share": 0.25}}
    write_policy(there, "a", "belief", "mu", ModelConfig.tiny().latent_dim, 9, **spoilt)
    cast = Cast.find(there)
    assert (cast.nominal, cast.augmented) == ("mu", "a")
    assert list(cast.facts())[:3] == list(cast())[:3] == ["nominal", "augmented", "filter"]
    assert [row["part"] for row in cast.policies()] == ["nominal", "augmented", "filtered", "state"]
    shutil.rmtree(there / "policy-mu")
    alone = Cast.find(there)
    assert (alone.nominal, alone.augmented) == ("a", None)


def test_policies_that_were_set_aside_play_no_part(run: Path, tmp_path: Path) -> None:
    there = copied(run, tmp_path)
    before = Cast.find(there)
    for name in ("policy", "policy-mu"):
        shutil.copytree(there / name, there / f"{name}.old-1")
    assert Cast.find(there) == before


def test_a_run_without_a_policy_on_beliefs_is_refused(run: Path, tmp_path: Path) -> None:
    there = copied(run, tmp_path)
    for name in ("policy", "policy-mu"):
        (there / name / "policy.json").unlink()
    with pytest.raises(ClosedLoopError, match=r"policy on beliefs, received .*state; run `robovae policy"):
        Cast.find(there)


def test_one_policy_alone_leads(run: Path, tmp_path: Path) -> None:
    there = copied(run, tmp_path)
    for name in ("policy-mu", "policy-state"):
        (there / name / "policy.json").unlink()
    cast = Cast.find(there)
    assert cast.leading == ""
    assert list(cast.facts()) == ["filter", "both", "oracle", "zero", "random", "fallback"]


def test_facts_change_with_what_an_arm_follows_from_and_no_more(run: Path, tmp_path: Path) -> None:
    there = copied(run, tmp_path)
    before = replace(Cast.find(there), sigma=(1.0,)).facts()
    latents = ModelConfig.tiny().latent_dim

    def changed(**other: Any) -> set[str]:
        now = replace(Cast.find(there), **{"sigma": (1.0,), **other}).facts()
        return {name for name in before if now[name] != before[name]}

    assert changed() == set()
    assert changed(fallback="zero") == {"guard", "both", "oracle"}
    assert changed(horizon=3) == {"both", "oracle"}
    assert changed(sigma=(2.0,)) == {"constant sigma"}
    write_policy(there, "mu", "belief", "mu", latents, 7)
    assert changed() == {"nominal", "guard"}
    write_policy(there, "mu", "belief", "mu", latents, 1)
    assert changed() == set()
    (there / "monitor.json").write_text("{}")
    assert changed() == {"guard", "both", "oracle"}
    save_dynamics(there, FilterDynamics(latents, 2, 7))
    assert changed() == {"filter", "guard", "both", "oracle", "constant sigma"}
    (there / "uncertainty.safetensors").write_bytes(b"")
    assert changed() == set(SIGHTED)


def test_arms_of_a_run_play(run: Path) -> None:
    env = ToyFaulty("dark", 5, ((3, 4),))
    cast = Cast.find(run).measured(ToyFaulty(None, 0, ()), 6)
    assert cast.sigma is not None
    assert len(cast.sigma) == ModelConfig.tiny().latent_dim
    assert min(cast.sigma) > 0
    arms = cast()
    assert set(arms) == {*SIGHTED, *BLIND}
    played: dict[str, Played] = {name: play(env, arm, 40_000, 12) for name, arm in arms.items()}
    assert played == {name: play(env, arm, 40_000, 12) for name, arm in arms.items()}  # reset forgets
    assert (played["oracle"].coast, played["oracle"].fallback) == (4, 0)
    assert played["guard"].coast == 0  # nothing to coast on: it falls back at once
    assert played["fallback"].fallback == 12
    assert played["nominal"].coast == played["filter"].fallback == 0
    assert len({one.total for one in played.values()}) >= 7
    short = replace(cast, horizon=1)()["oracle"]
    assert (play(env, short, 40_000, 12).coast, play(env, short, 40_000, 12).fallback) == (1, 3)


def test_with_a_constant_sigma_the_means_stay_and_every_frame_counts_alike(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = ModelConfig.tiny().latent_dim
    frame = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    cast, shown = replace(Cast.find(run), sigma=(0.5,) * latents), []
    arm = cast()["constant sigma"]
    monkeypatch.setattr(BeliefPolicy, "__call__", lambda self, seen: shown.append(seen))
    arm.act({"image": frame}, flag=False)
    (belief,) = shown
    raw, calibrated = (Perceiver.load(run, calibrated=each)(frame[None]) for each in (False, True))
    assert np.abs(calibrated.mu - raw.mu).max() > 1e-6
    np.testing.assert_array_equal(belief.mu, calibrated.mu)
    np.testing.assert_array_equal(belief.sigma, np.full_like(raw.mu, 0.5))
    assert cast.facts()["constant sigma"]["mu"] == "calibrated"  # no episode of the raw one is served


# ---- the command


@pytest.mark.usefixtures("toys")
def test_the_command_judges_and_goes_on(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = copied(run, tmp_path)
    assert Control(there, json=True).run() == 0
    found = json.loads(capsys.readouterr().out)
    assert "episodes" not in found
    assert [row["arm"] for row in found["clean"]] == [*SIGHTED, "zero", "random", "fallback", "state"]
    assert found["reference"]["arm"] == "state"
    assert found["controls"][0]["changed"] == 0
    assert [row["part"] for row in found["policies"]] == ["nominal", "filtered", "state"]
    assert {row["share"] for row in found["pooled"]} == {0.25}
    folder = there / "control"
    whole = json.loads((folder / "control.json").read_text())
    lines = list(csv.DictReader((folder / "control.csv").read_text().splitlines()))
    assert len(lines) == len(whole["episodes"]) == 2 * (10 + 6 + 4)
    assert (folder / "film.webp").read_bytes()[:4] == b"RIFF"
    before = (folder / "episodes.jsonl").read_bytes()
    assert Control(there).run() == 0
    shown = capsys.readouterr().out
    assert (folder / "episodes.jsonl").read_bytes() == before
    for word in ("quick: the intervals are wide", "targets; 2 episodes", "constant sigma", "short"):
        assert word in shown
    played: list[int] = []
    real = control.Crew.play
    monkeypatch.setattr(
        control.Crew,
        "play",
        lambda self, jobs, *rest: (played.append(len(jobs)), real(self, jobs, *rest))[1],
    )
    assert Control(there, again=True).run() == 0
    assert control_run(there, "quick")["written"]
    assert played[0] > 0
    assert played[1] == 0


@pytest.mark.usefixtures("toys")
def test_faults_that_stay_set_in_within_the_episodes_of_the_environment(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*how: Any) -> Any:
        env = make_toy_env(*how)
        env.unwrapped.spec = gym.envs.registration.EnvSpec("Toy-v0", max_episode_steps=6)
        return env

    monkeypatch.setattr(control, "make_env", short)
    there = copied(run, tmp_path)
    control.looped(Cast.find(there), replace(TINY, steps=200))
    whole = json.loads((there / "control" / "control.json").read_text())
    onsets = [row["onset"] for row in whole["episodes"] if row["share"] == 1.0]
    assert whole["config"]["steps"] == 6
    assert onsets
    assert max(onsets) <= 3


@pytest.mark.usefixtures("toys")
def test_what_can_be_mended_is_one_line(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RobovaeError, match="workers: expected at least 1, received 0"):
        Control(run, workers=0)
    with pytest.raises(JudgeError, match="no fault 'darc'; did you mean 'dark'"):
        Control(run, faults=("darc",)).run()
    with pytest.raises(ClosedLoopError, match="episodes: expected at least 2, received 1"):
        Control(run, episodes=1).run()
    with pytest.raises(ClosedLoopError, match="expected a policy on beliefs, received none"):
        Control(tmp_path).run()
    there = copied(run, tmp_path)
    config = json.loads((there / "config.json").read_text())
    (there / "config.json").write_text(json.dumps({**config, "render_spec": None}))
    with pytest.raises(RobovaeError, match="expected a run that knows its camera, received none; train"):
        Control(there).run()


def test_quick_and_full_are_of_test_faults_and_what_is_given_replaces() -> None:
    quick, full = loop_config(False), loop_config(True)
    assert quick.faults is not None
    assert all(robovae_envs.faults.FAULTS[name].split == "TEST" for name in quick.faults)
    assert full.faults is None
    assert full.shares == (0.10, 0.25, 0.50)
    assert full.severities == (3, 4, 5)
    given = loop_config(True, ("jpeg",), 7, 99)
    assert (given.faults, given.episodes, given.steps) == (("jpeg",), 7, 99)


def test_tables_without_rows_are_left_out() -> None:
    kinds = ("targets", "clean", "pooled", "bursts", "lasting")
    reference = {"arm": "state", "return": 1.0, "zero_return": 0.0}
    config = {"episodes": 2, "steps": 3}
    assert loop_tables({**dict.fromkeys(kinds, ()), "reference": reference, "config": config}) == []


# ---- the benchmark


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, toys: None) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("control_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "control_benchmark", module)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_writes_what_it_prints(
    bench: ModuleType, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, out = copied(run, tmp_path), tmp_path / "found.json"
    bench.main(bench.Loop(runs=(there,), out=out))
    shown = capsys.readouterr().out
    for title in ("targets", "clean episodes", "bursts, TEST faults", "score (IQM) by fault", "all runs"):
        assert f"\n{title}" in shown
    found = json.loads(out.read_text())
    assert {"machine", "versions", "git", "quick"} <= found.keys()
    assert found["quick"] is True
    assert found["runs"][0]["env_id"] == "Toy-v0"
    assert "episodes" not in found["runs"][0]
    assert [row["arm"] for row in bench.summary(found["runs"][0])][:2] == ["nominal", "filter"]
    row = {"pool": "TEST", "share": 0.25, "arm": "both", "kept": {"value": 1.0}}
    for kept, told in ((None, ""), ({"value": 0.5}, "0.500")):  # never the share of its own clean score
        assert bench.summary({"run": "", "pooled": [{**row, "kept_plain": kept}]})[0]["25%"] == told
    with pytest.raises(RobovaeError, match="expected a run and a worker at least, received 0 and 1"):
        bench.Loop(runs=())


# ---- a real camera


@pytest.mark.gl
def test_environments_of_a_run_fail_in_their_windows(tmp_path: Path) -> None:
    facts = RunFacts((64, 64, 3), 2, "Reacher-v5", robovae_envs_spec())
    save_model(tmp_path, build_model(ModelConfig.tiny(), facts))
    make = env_maker(tmp_path)
    assert isinstance(pickle.loads(pickle.dumps(make)), partial)
    clean, faulted = make(None, 0, ()), make("exposure", 5, ((1, 2), (4, 1)))
    pairs = [(clean.reset(seed=40_000), faulted.reset(seed=40_000))]
    pairs += [(clean.step(np.zeros(2))[::4], faulted.step(np.zeros(2))[::4]) for _ in range(5)]
    changed = [not np.array_equal(one[0]["image"], other[0]["image"]) for one, other in pairs]
    assert changed == [other[-1]["fault"] for _, other in pairs] == [False, True, True, False, True, False]
    assert all(np.array_equal(one[0]["state"], other[0]["state"]) for one, other in pairs)
    clean.close()
    faulted.close()


def robovae_envs_spec() -> dict[str, Any]:
    from robovae_envs.camera import RenderSpec, make

    env = make("Reacher-v5", RenderSpec.fast("Reacher-v5"))
    spec = env.render_spec.to_dict()
    env.close()
    return spec


def copied(run: Path, folder: Path) -> Path:
    """A run of its own, whose files may change."""
    there = folder / run.name
    for path in (path for path in run.rglob("*") if path.is_file()):
        (there / path.relative_to(run)).parent.mkdir(parents=True, exist_ok=True)
        (there / path.relative_to(run)).write_bytes(path.read_bytes())
    return there
