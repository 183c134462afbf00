"""launch/benchmarks/policy.py on the toy: rivals, arms, learning curves, seconds, resuming, and targets."""

import importlib.util
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robovae.belief import Perceiver
from robovae.closed_loop import Cast
from robovae.control.observation import BeliefObservation
from robovae.dynamics import FilterDynamics
from robovae.episodes import Episode, write_episode
from robovae.errors import RobovaeError
from robovae.filter import save_dynamics
from robovae.frames import FrameError
from robovae.policy import PolicyConfig, PolicyError
from robovae.policy.clock import pixel_speed
from robovae.policy.contest import Contest
from robovae.policy.curves import Trained, curve_facts, faster, less, over_seeds, share_of_way
from robovae.policy.rivals import Pca, coded, untrained
from robovae.policy.targets import Task, targets
from robovae.records import write_json
from robovae.run.directory import RunFacts, build_model, load_model, save_model
from robovae.vae import ModelConfig
from tests.test_train import toy_episode
from tests.toy_env import make_toy

SCRIPT = Path(__file__).parents[1] / "launch" / "benchmarks" / "policy.py"
SPEC = {"height": 16, "width": 16}
FACTS = RunFacts((16, 16, 3), 2, "Toy-v0", SPEC)
BASE = PolicyConfig(
    steps=48,
    envs=2,
    eval_episodes=3,
    test_episodes=3,
    eval_every=16,
    learning_starts=8,
    batch=8,
    gradient_steps=1,
    hidden=(8,),
)
make_env = partial(make_toy, max_steps=6)
large_env = partial(make_toy, max_steps=6, height=64, width=64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    there = tmp_path_factory.mktemp("toy")
    for seed in (*range(8), 10_000):
        write_episode(there, episode(seed))
    return there


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of random weights, with a filter and an autoencoder."""
    torch.manual_seed(0)
    model = build_model(ModelConfig.tiny(), FACTS)
    save_model(tmp_path / "toy", model)
    save_dynamics(tmp_path / "toy", FilterDynamics.of(model.dynamics))
    plain = replace(ModelConfig.tiny(), deterministic=True)
    save_model(tmp_path / "toy" / "ae", build_model(plain, FACTS))
    return tmp_path / "toy"


def episode(seed: int) -> Episode:
    """Of the camera that the run knows."""
    return replace((one := toy_episode(seed)), meta={**one.meta, "render_spec": SPEC})


def frames_of(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    bright = rng.integers(0, 200, (count, 1, 1, 3)) + rng.integers(0, 55, (count, 16, 16, 3))
    return bright.astype(np.uint8)


def policy(means: list[float], returns: list[float], every: int = 10, seed: int = 0) -> Trained:
    """A policy whose k-th evaluation has this mean, after 10 (k + 1) steps and as many seconds."""
    rows = [
        {"step": every * (k + 1), "seconds": 10.0 * (k + 1), "mean": mean, "returns": [mean, mean]}
        for k, mean in enumerate(means)
    ]
    evaluation = {"returns": returns, "mean": float(np.mean(returns)), "seeds": [0, 1]}
    config = {"eval_every": every}
    return Trained(rows, {"seed": seed, "seconds": 1.0, "evaluation": evaluation, "config": config})


# ---- rivals


def test_components_are_the_leading_directions_at_variance_one() -> None:
    frames = frames_of(300)
    codes = Pca.fit(frames, FACTS, 5)
    belief = codes(frames)
    assert belief.mu.shape == (300, codes.latent_dim) == (300, 5)
    assert np.abs(belief.mu.mean(0)).max() < 1e-3
    np.testing.assert_allclose(belief.mu.T @ belief.mu / 300, np.eye(5), atol=0.02)
    rows = frames.reshape(300, -1) / 255.0
    rows -= rows.mean(0)
    own = np.linalg.svd(rows, full_matrices=False)[0][:, :3] * math.sqrt(300)
    assert np.abs((own * belief.mu[:, :3]).mean(0)).min() > 0.999  # up to the sign


def test_components_survive_a_file_and_know_their_frames(tmp_path: Path) -> None:
    codes = Pca.fit(frames_of(50), FACTS, 4, seed=3)
    codes.save(tmp_path / "pca.safetensors")
    again = Pca.load(tmp_path / "pca.safetensors", FACTS)
    assert np.array_equal(codes(frames_of(9)).mu, again(frames_of(9)).mu)
    assert np.array_equal(codes.basis, Pca.fit(frames_of(50), FACTS, 4, seed=3).basis)
    with pytest.raises(FrameError, match="expected"):
        again(np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(PolicyError, match="PCA: expected at least 4 frames, received 3"):
        Pca.fit(frames_of(3), FACTS, 4)


def test_frames_that_never_change_have_finite_codes() -> None:
    codes = Pca.fit(np.full((20, 16, 16, 3), 7, np.uint8), FACTS, 4)
    assert np.isfinite(codes(frames_of(2)).mu).all()


def test_codes_are_stacked_oldest_first() -> None:
    env = coded(make_env, codes := Pca.fit(frames_of(50), FACTS, 4), 3)
    assert isinstance(env, BeliefObservation)
    first = env.reset(seed=0)[0]
    assert first.shape == (12,)
    assert np.array_equal(first[:4], first[8:])
    second = env.step(np.ones(2, np.float32))[0]
    assert np.array_equal(second[:8], first[4:])
    frame = env.unwrapped.render()  # type: ignore[attr-defined]  # the toy's
    np.testing.assert_allclose(second[8:], codes(frame[None]).mu[0], rtol=1e-5)


def test_an_untrained_encoder_has_the_same_shape_and_unit_scale() -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig.tiny(), FACTS)
    frames = frames_of(200)
    fresh, other = (untrained(model, frames, seed) for seed in (1, 2))
    mu = Perceiver(fresh)(frames).mu
    assert np.abs(mu.mean(0)).max() < 1e-3
    np.testing.assert_allclose(mu.std(0), 1.0, atol=1e-3)
    assert fresh.vae.config == model.vae.config
    assert np.array_equal(mu, Perceiver(untrained(model, frames, 1))(frames).mu)
    assert not np.allclose(mu, Perceiver(other)(frames).mu, atol=0.1)
    before = torch.get_rng_state()
    untrained(model, frames, 1)
    assert torch.equal(before, torch.get_rng_state())


def test_the_clock_on_pixels_starts_with_the_updates() -> None:
    config = replace(BASE, learning_starts=100, batch=2)
    found = pixel_speed(large_env, config, 12, stack=2)
    assert found["stretch"] == 12
    assert found["steps"] == 12 - 4  # without two random steps, and without the round of the first update
    assert found["steps_per_second"] == pytest.approx(8 / found["seconds"])
    with pytest.raises(PolicyError, match="stretch on pixels: expected steps after the first 1, received 6"):
        pixel_speed(large_env, replace(config, envs=8), 6)


# ---- curves and intervals


def test_a_goal_is_reached_at_the_first_evaluation_that_is_as_high() -> None:
    one = policy([1.0, 5.0, 4.0, 9.0], [0.0, 0.0])
    assert one.reached(4.5) == (20, 20.0, True)
    assert one.reached(5.0).step == 20
    assert one.reached(9.1) == (40, 40.0, False)
    assert not one.reached(None).there


def test_returns_at_a_step_come_from_the_evaluation_near_it() -> None:
    one = policy([1.0, 2.0, 3.0], [0.0, 0.0])
    assert one.at(20) == [2.0, 2.0]
    assert one.at(23) == [2.0, 2.0]
    assert one.at(34) == [3.0, 3.0]
    assert one.at(60) is None  # the negative control: a curve says nothing of what comes after it
    facts = curve_facts([one, policy([3.0, 4.0, 5.0], [2.0, 2.0], seed=1)], (10, 30, 60))
    assert {mark: at["value"] for mark, at in facts["at"].items()} == {"10": 2.0, "30": 4.0}
    assert (facts["held_out"]["value"], facts["held_out"]["seeds"]) == (1.0, [0.0, 2.0])


def test_an_unfinished_policy_has_no_curve(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="expected a finished policy"):
        Trained.read(tmp_path)


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(1, 8), st.integers(0, 99))
def test_intervals_hold_the_mean_and_follow_its_units(seeds: int, episodes: int, seed: int) -> None:
    returns = np.random.default_rng(seed).normal(size=(seeds, episodes))
    found = over_seeds(returns)
    low, high = found.interval()
    assert low <= found.value + 0.5 * (high - low) + 1e-9
    assert found.value == pytest.approx(returns.mean())
    assert over_seeds(3 * returns + 7).interval() == pytest.approx([3 * low + 7, 3 * high + 7])
    assert np.abs(less(found, found).draws).max() == 0.0


def test_both_seeds_and_episodes_widen_an_interval() -> None:
    by_seed = np.repeat([[0.0], [4.0], [8.0]], 5, axis=1)
    for returns in (by_seed, by_seed.T):
        low, high = over_seeds(returns).interval()
        assert low < 3 < 5 < high
    assert over_seeds(np.full((3, 5), 2.0)).interval() == [2.0, 2.0]


def test_the_spread_of_the_mean_is_as_theory_says() -> None:
    rng = np.random.default_rng(0)
    returns = rng.normal(size=(40, 1)) + 2 * rng.normal(size=(1, 50))
    expected = returns.mean(1).var() / 40 + returns.mean(0).var() / 50  # Owen 2007, equation 4, no residual
    assert over_seeds(returns).draws.var() == pytest.approx(expected, rel=0.15)


def test_the_share_of_a_way_needs_a_way() -> None:
    floor, middle, roof = (over_seeds(np.full((2, 3), value)) for value in (-10.0, -4.0, -2.0))
    found = share_of_way(middle, floor, roof)
    assert found is not None
    assert found.value == 0.75
    assert found.interval() == pytest.approx([0.75, 0.75])
    assert share_of_way(middle, roof, floor) is None


def test_seconds_count_all_that_was_spent_before() -> None:
    some = [policy([1.0, 5.0], [0, 0]), policy([6.0, 6.0], [0, 0])]
    found = faster(some, 5.0, before=85.0, speed=0.5, free=4)
    assert (found["reached"], found["steps"], found["seconds"]) == (2, 15.0, 100.0)
    assert found["their_seconds"] == pytest.approx((16 / 0.5 + 6 / 0.5) / 2)
    assert found["times"]["value"] == pytest.approx(22 / 100)
    assert found["times"]["low"] <= found["times"]["value"] <= found["times"]["high"]
    assert faster(some, 9.0, 0.0, 1.0, 99)["reached"] == 0
    assert faster(some, 9.0, 0.0, 1.0, 99)["times"]["value"] == 0.0


# ---- arms


def test_a_pupil_learns_for_half_of_the_steps(contest: Contest) -> None:
    taught, filtered = contest.config("taught", 2), contest.config("filtered", 2)
    assert (taught.teacher, taught.steps) == ("state-s2", (filtered.steps + 1) // 2)


@pytest.fixture
def contest(run: Path, data: Path) -> Contest:
    return Contest(run, make_env, make_env, BASE, lambda event: None, data)


def test_policies_lie_where_nobody_takes_them_for_another(contest: Contest) -> None:
    for arm in ("filtered", "ae"):
        contest.trained(arm, 1)
    contest.trained("pca", 0)
    contest.trained("random", 0)
    there = {str(path.parent.relative_to(contest.run)) for path in contest.run.rglob("policy.json")}
    assert there == {
        "policy-filtered-s1",
        "ae/policy-ae-s1",
        "rivals/pca/policy-pca-s0",
        "rivals/random-s0/policy-random-s0",
    }
    cast = Cast.find(contest.run)
    assert (cast.filtered, cast.nominal, cast.state) == ("filtered-s1", None, None)


def test_what_is_finished_is_skipped_and_rivals_of_other_data_set_aside(
    contest: Contest, tmp_path: Path
) -> None:
    first = contest.trained("pca", 0)
    codes = Pca.load(contest.run / "rivals" / "pca" / "pca.safetensors", FACTS)
    assert codes.latent_dim == ModelConfig.tiny().latent_dim
    kinds: list[str] = []
    again = contest.trained("pca", 0, lambda event: kinds.append(event.kind))
    assert kinds == ["skip"]
    assert again.record == first.record
    assert again.at(16) == first.at(16)
    for seed in range(3):
        write_episode(tmp_path / "other", episode(seed))
    replace(contest, data=tmp_path / "other").trained("pca", 0)
    assert (contest.run / "rivals" / "pca.old-1" / "policy-pca-s0" / "policy.json").is_file()
    with pytest.raises(PolicyError, match="expected the dataset of the run, received none"):
        replace(contest, data=None).trained("random", 0)


def test_seconds_before_training_are_those_of_the_records(contest: Contest, tmp_path: Path) -> None:
    run, data = contest.run, tmp_path / "copy"
    for seed in range(3):
        write_episode(data, episode(seed))
    assert contest.before("state") == ({}, [])
    seconds, notes = contest.before("mu")
    assert list(seconds) == ["collect"]  # timed, since no record tells
    assert 0 < seconds["collect"] < 60
    assert notes == ["seconds of collect: from the speed of one process", "seconds of train: not known"]
    assert contest.before("mu") == (seconds, notes)  # timed once
    write_json(run / "training.json", {"key": "", "result": {"seconds": 20.0}})
    write_json(data / "collect.json", {"seconds": 10.0})
    (run / "uncertainty.safetensors").write_bytes(b"")
    fresh = replace(contest, data=data)
    assert fresh.before("mu") == ({"collect": 10.0, "train": 20.0}, ["seconds of calibrate: not known"])
    stages = {
        "collect": {"seconds": 1.0},
        "train": {"result": {"seconds": 2.0}},
        "calibrate": {"seconds": 3.0},
    }
    write_json(run / "provenance.json", {"stages": stages})
    fresh = replace(fresh)  # reads anew
    assert fresh.before("filtered") == ({"collect": 1.0, "train": 2.0, "calibrate": 3.0}, [])
    assert fresh.before("ae")[0] == {"collect": 1.0}
    assert fresh.before("taught")[1] == ["seconds of teach: not known"]
    for seed, seconds in ((0, 4.0), (1, 6.0)):
        (run / f"policy-state-s{seed}").mkdir()
        write_json(run / f"policy-state-s{seed}" / "policy.json", {"seconds": seconds})
    (run / "policy-state-s2").mkdir()  # unfinished
    assert fresh.before("taught")[0]["teach"] == 5.0
    assert fresh.before("pca")[1] == ["seconds of fit: not known"]
    fresh._pca()
    assert fresh.before("pca")[0].keys() == {"collect", "fit"}


def test_zero_action_plays_the_held_out_episodes(contest: Contest) -> None:
    returns = contest.zero()
    env = make_env()
    env.reset(seed=20_001)
    assert returns[1] == pytest.approx(sum(env.step(np.zeros(2))[1] for _ in range(6)))
    assert len(returns) == BASE.test_episodes


# ---- the command


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("policy_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "policy_benchmark", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BASE", BASE)
    monkeypatch.setattr(module, "MARKS", (16, 32, 999))
    monkeypatch.setattr(module, "TASKS", {"Toy-v0": Task(48, behind=50.0, share=0.85)})
    monkeypatch.setattr(module, "env_factory", lambda run, env_id, bare: make_env)
    return module


@pytest.mark.slow
def test_the_benchmark_trains_all_arms_and_writes_what_it_prints(
    bench: ModuleType,
    run: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    speed = {"stretch": 9, "steps": 6, "seconds": 2.0, "steps_per_second": 3.0}
    monkeypatch.setattr("robovae.policy.contest.pixel_speed", lambda *rest: speed)
    options = bench.Policies(runs=(run,), data=(data,), seeds=(0, 1), out=tmp_path / "out.json")
    bench.main(options)
    shown = capsys.readouterr()
    for words in (
        "targets; seeds 0, 1",
        "share of the way to the true state, filtered, 48 steps",
        "times faster than CnnPolicy, extrapolated",
        "true state's return less that of filtered",
        "zero action",
        "from 6 steps at 3 steps/s",
        "seconds of train: not known",
    ):
        assert words in shown.out
    found = json.loads((tmp_path / "out.json").read_text())
    assert {"machine", "versions", "git", "intervals"} <= found.keys()
    (one,) = found["runs"]
    assert [row["arm"] for row in one["arms"]] == list(bench.SEES)
    assert all(list(row["at"]) == ["16", "32"][: row["steps"] // 16] for row in one["arms"])
    assert all(
        len(each["curve"]) == -(-row["steps"] // 16) for row in one["arms"] for each in row["policies"]
    )
    by_arm = {row["arm"]: row for row in one["arms"]}
    assert by_arm["state"]["behind"]["value"] == 0.0
    assert by_arm["filtered"]["share"] is None or by_arm["state"]["share"]["value"] == 1.0
    floor, roof = one["zero"]["value"], by_arm["state"]["held_out"]["value"]
    assert one["goal"] == (pytest.approx(0.15 * floor + 0.85 * roof) if roof > floor else None)
    bench.main(replace(options, json=True))
    again = capsys.readouterr()
    assert again.err.count("policy: skip") == 18  # 8 arms of two seeds, and the teachers once more
    assert json.loads(again.out)["runs"][0]["arms"] == one["arms"]


def test_arms_on_filtered_beliefs_or_the_first_are_held_against_the_targets() -> None:
    def row(arm: str, value: float) -> dict[str, Any]:
        facts = {"value": value, "low": value - 1, "high": value + 1}
        return {
            "arm": arm,
            "steps": 50,
            "held_out": facts,
            "behind": facts,
            "share": facts,
            "clock": {"times": facts, "reached": 1},
        }

    one = {
        "task": {"least": -6.0, "behind": 1.0, "share": 0.85},
        "steps": 50,
        "seeds": [0, 1],
        "arms": [row("mu", -7.0), row("mu_sigma", -5.0)],
    }
    facts = [target.facts() for target in targets(one)]
    assert [(each["wanted"], each["reached"], each[""].split(" ")[0]) for each in facts] == [
        (">= -6", -5.0, "-6"),
        ("<= 1", -5.0, "-6"),
        (">= 0.85", -5.0, "missed"),
        (">= 20", -5.0, "missed"),
    ]
    assert facts[-1][""] == "missed -6 to -4; 1 of 2 seeds reached the return"
    assert targets({**one, "arms": [row("state", 1.0)]}) == []
    both = targets({**one, "arms": [row("taught", -5.0), row("mu", 1.0), row("filtered", -7.0)]})
    assert [each.facts()["target"].split(",")[0] for each in both[::4]] == [
        "return of filtered",
        "return of taught",
    ]
    alone = {"arm": "mu", "steps": 50, "held_out": None, "behind": None, "share": None}
    assert {each.facts()[""] for each in targets({**one, "arms": [alone]})} == {"not measured"}


def test_an_arm_without_a_model_is_left_out_aloud(
    bench: ModuleType, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "ae" / "config.json").unlink()
    options = bench.Policies(runs=(run,), arms=("mu", "ae", "pixels"))
    assert bench.Comparison.of(run, None, options).arms == ("mu",)
    assert "left out the arm ae" in capsys.readouterr().err
    (run / "filter.safetensors").unlink()
    with pytest.raises(RobovaeError, match="expected a filter"):
        bench.Comparison.of(run, None, replace(options, arms=("filtered",)))


def test_what_can_be_mended_is_one_line(bench: ModuleType) -> None:
    there = (Path("a"), Path("b"))
    with pytest.raises(RobovaeError, match="--data: expected the dataset of each of 2 runs, or one of all"):
        bench.Policies(runs=there)
    with pytest.raises(RobovaeError, match=r"--seeds: expected one or more, each once, received \[1, 1\]"):
        bench.Policies(runs=there, data=there, seeds=(1, 1))
    with pytest.raises(RobovaeError, match="pixel_steps: expected at least 1"):
        bench.Policies(runs=there, data=there, pixel_steps=0)
    assert bench.Policies(runs=there, arms=("mu",)).sources() == [None, None]
    assert list(bench.Policies(runs=there, data=(Path("d"),)).sources()) == [Path("d")] * 2
    assert list(bench.Policies(runs=there, data=there).sources()) == list(there)


def test_a_model_of_the_run_reads_its_frames(run: Path) -> None:  # what the fixtures stand on
    assert load_model(run).facts == FACTS
