"""What the filter is worth: every figure on a system whose answer is known, and the benchmark on a toy."""

import importlib.util
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import robovae_envs.faults
from robovae.cli.trial import Trial
from robovae.control.bursts import Bursts
from robovae.dynamics import FilterDynamics
from robovae.episodes import EpisodeStore, write_episode
from robovae.errors import RobovaeError
from robovae.evaluate import EvaluateError, ProbeConfig
from robovae.evaluate.probe import STILL, Target
from robovae.filter.beliefs import Beliefs, Ruler, follow
from robovae.filter.failing import Failing
from robovae.filter.fitting import silenced
from robovae.filter.judging import (
    ARMS,
    arms,
    coasted,
    compared,
    joint_velocities,
    pooled,
    predicted,
    ratio,
    summed,
    velocities,
)
from robovae.gaussian import Gaussian
from robovae.judge.footage import Footage
from robovae.uncertainty import CalibrateConfig, NotCalibratedError, calibrate_run
from tests.test_evaluate import JOINTS, rollout
from tests.test_filter_fitting import Scores
from tests.test_judge import FAULTS, cell, twins
from tests.test_uncertainty_benchmark import ToyLate, write_run

SCRIPT = Path(__file__).parents[1] / "launch" / "benchmarks" / "filter.py"
DECAY, NOISE = 0.8, 0.05
"""Of z' = DECAY z + process noise with variance 1 in the long run, and sigma of a frame's belief."""
PROCESS = (1.0 - DECAY**2) ** 0.5
QUICK = ProbeConfig(steps=300, batch=128, hidden=32)


class Known(FilterDynamics):
    """z' = DECAY z, as sure of it as it is told; its memory is the last two means."""

    def __init__(self, decay: float = DECAY, width: float = PROCESS) -> None:
        super().__init__(2, 1, 4)
        self.decay, self.width = decay, width

    def step(self, last, action, memory):
        z = last.mu
        width = torch.full_like(z, np.log(self.width))
        return Gaussian(self.decay * z, width), torch.cat([z, memory[:, :2]], 1)


def beliefs(mu: torch.Tensor, here: torch.Tensor | None = None, sigma: float = NOISE) -> Beliefs:
    lone = Gaussian(mu, torch.full_like(mu, float(np.log(sigma))))
    here = torch.ones(mu.shape[:2], dtype=torch.bool) if here is None else here
    return Beliefs(lone, lone, torch.zeros(*mu.shape[:2], 1), here)


def wandering(episodes: int = 200, length: int = 30, seed: int = 0) -> Beliefs:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(length, episodes, 2, generator=generator)
    z = [noise[0]]
    for step in noise[1:]:
        z.append(DECAY * z[-1] + PROCESS * step)
    return beliefs(torch.stack(z, 1))


UNIT = Ruler(torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]]))
"""Measures as it is: the deviation of these is 1."""


class TestPrediction:
    """One step, and many."""

    def test_of_a_known_system_it_is_as_good_and_as_sure_as_it_says(self):
        found = predicted(Known(), wandering(), UNIT)
        assert found["rmse"]["value"] == pytest.approx(PROCESS, rel=0.03)
        assert found["ratio"]["value"] == pytest.approx(((1 + DECAY) / 2) ** 0.5, rel=0.02)
        assert found["nis"]["value"] == pytest.approx(1.0, abs=0.05)
        assert found["coverage"]["50"]["value"] == pytest.approx(0.5, abs=0.02)
        assert found["coverage"]["90"]["value"] == pytest.approx(0.9, abs=0.02)
        for facts in (found["rmse"], found["ratio"], found["nis"]):
            assert facts["low"] < facts["value"] < facts["high"]

    def test_one_that_is_too_sure_is_found_out(self):  # negative control
        found = predicted(Known(width=PROCESS / 3), wandering(), UNIT)
        assert found["nis"]["value"] > 7.0
        assert found["coverage"]["90"]["value"] < 0.6

    def test_one_that_holds_the_last_is_no_better_than_holding(self):
        found = predicted(Known(decay=1.0), wandering(), UNIT)
        assert found["ratio"]["value"] == pytest.approx(1.0, abs=0.02)

    def test_the_error_grows_with_the_gap_as_it_must(self):
        rows = coasted(Known(), wandering(), UNIT)
        assert [row["gap"] for row in rows] == [1, 2, 5, 10, 20]
        for row in rows:
            expected = (1.0 - DECAY ** (2 * row["gap"])) ** 0.5
            assert row["rmse"]["value"] == pytest.approx(expected, rel=0.05)
            hold = (2.0 * (1.0 - DECAY ** row["gap"])) ** 0.5
            assert row["hold_rmse"]["value"] == pytest.approx(hold, rel=0.05)
            assert row["sigma"]["value"] == pytest.approx(PROCESS, rel=1e-3)
            assert row["frame_rmse"]["value"] == pytest.approx(NOISE, rel=1e-3)
        assert rows[0]["coverage_90"]["value"] == pytest.approx(0.9, abs=0.02)
        assert rows[-1]["coverage_90"]["value"] < 0.75  # it says the same width after any gap

    def test_a_gap_of_one_is_the_next_frame(self):
        clean = wandering(length=9)
        rows = coasted(Known(), clean, UNIT)
        assert [row["gap"] for row in rows] == [1, 2, 5]
        assert rows[0]["rmse"] == pytest.approx(predicted(Known(), clean, UNIT)["rmse"])

    def test_after_a_gap_of_one_a_fading_filter_is_as_sure_as_of_the_next_frame(self):
        clean, dynamics = wandering(), FilterDynamics(2, 1, 4)
        with torch.no_grad():
            dynamics.head.bias[2:] = 1.0 + np.log(PROCESS / 2.0)
            dynamics.fading.fill_(4.0)
            dynamics.persistence.fill_(12.0)  # nothing is usual, so that all is heard as little
        found = coasted(dynamics, clean, UNIT)[0]["coverage_90"]
        assert found == pytest.approx(predicted(dynamics, clean, UNIT)["coverage"]["90"])
        dynamics.fading.fill_(1.0)
        assert coasted(dynamics, clean, UNIT)[0]["coverage_90"]["value"] < found["value"]  # negative control

    def test_what_lies_past_the_end_of_an_episode_does_not_count(self):
        whole = wandering(episodes=40, length=12)
        here = torch.ones(40, 12, dtype=torch.bool)
        here[::2, 7:] = False
        left = replace(whole, here=here)
        mu = whole.raw.mu.clone()
        mu[~here] = 1e3
        spoilt = beliefs(mu, here)
        assert predicted(Known(), left, UNIT) == predicted(Known(), spoilt, UNIT)
        assert coasted(Known(), left, UNIT) == coasted(Known(), spoilt, UNIT)

    def test_episodes_that_are_too_short(self):
        with pytest.raises(EvaluateError, match="at least 4 frames, received at most 3"):
            predicted(Known(), wandering(length=3), UNIT)


def test_only_latents_that_move_are_measured():
    mu = torch.tensor([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    error = torch.tensor([[1.0, 100.0]])
    assert float(Ruler(mu).squares(error)) == pytest.approx(0.25)
    with pytest.raises(EvaluateError, match="collapsed"):
        Ruler(torch.zeros(10, 2))


class TestArms:
    """Frames that fail."""

    @pytest.fixture
    def clean(self) -> Beliefs:
        return wandering(episodes=20, length=12)

    @pytest.fixture
    def lost(self) -> torch.Tensor:
        lost = torch.zeros(20, 12, dtype=torch.bool)
        lost[:, 4:7] = True
        return lost

    def failed(self, clean: Beliefs, sigma: float = NOISE) -> Beliefs:
        """Every frame three units off; if its sigma is 1, it owns up to that."""
        wrong = beliefs(clean.raw.mu + 3.0)
        total = beliefs(clean.raw.mu + 3.0 if sigma < 1.0 else 0.0 * clean.raw.mu, sigma=sigma).total
        return replace(wrong, total=silenced(total, torch.zeros_like(clean.here)))

    def test_each_arm_knows_what_it_is_told(self, clean, lost):
        faulted = self.failed(clean, sigma=1.0)
        means = arms(Known(), clean, faulted, lost, torch.full((2,), NOISE))
        assert list(means) == list(ARMS)
        assert torch.equal(means["raw"][lost], faulted.raw.mu[lost])
        assert torch.equal(means["raw"][~lost], clean.raw.mu[~lost])
        torch.testing.assert_close(means["filtered"], means["oracle"], atol=1e-4, rtol=1e-4)
        error = {name: float(UNIT.squares(mu - clean.raw.mu)[lost].mean()) for name, mu in means.items()}
        assert error["raw"] == pytest.approx(9.0, rel=1e-4)
        assert error["constant"] > 2.0 * error["filtered"]  # it takes the prior's mean for the frame's word

    def test_the_oracle_does_not_look_at_what_fails(self, clean, lost):
        found = [
            arms(Known(), clean, self.failed(clean, sigma), lost, torch.full((2,), NOISE))["oracle"]
            for sigma in (0.05, 0.9)
        ]
        assert torch.equal(*found)

    def test_with_a_sigma_that_lies_the_filter_is_no_better_than_the_constant(self, clean, lost):
        means = arms(Known(), clean, self.failed(clean), lost, torch.full((2,), NOISE))
        torch.testing.assert_close(means["filtered"], means["constant"], atol=1e-4, rtol=1e-4)

    def test_where_nothing_fails_all_are_alike(self, clean):
        means = arms(Known(), clean, clean, torch.zeros(20, 12, dtype=torch.bool), torch.full((2,), NOISE))
        torch.testing.assert_close(means["filtered"], means["oracle"])
        torch.testing.assert_close(means["filtered"], means["constant"], atol=1e-5, rtol=1e-5)


def test_comparisons_in_closed_form():
    here = torch.tensor([[True, True], [True, False]])
    errors = dict(zip(ARMS, (3.0, 2.0, 1.0, 0.5, 2.0), strict=True))
    means = {name: torch.full((2, 2, 2), error) for name, error in errors.items()}
    one = {name: summed(UNIT.squares(mu), here) for name, mu in means.items()}
    np.testing.assert_allclose(one["raw"], [[18.0, 2.0], [9.0, 1.0]], rtol=1e-6)
    found = compared(pooled([one, one]))
    assert {name: found[name]["value"] for name in ARMS} == pytest.approx(errors, rel=1e-5)
    assert found["filtered/raw"]["value"] == pytest.approx(1 / 3, rel=1e-5)
    assert found["filtered/oracle"]["value"] == pytest.approx(2.0, rel=1e-5)
    assert found["constant/filtered"]["value"] == pytest.approx(2.0, rel=1e-5)
    none = np.array([[0.0, 3.0], [0.0, 1.0]])
    assert ratio(one["raw"], none) is None


class TestVelocities:
    """Read off mean and memory."""

    def gliding(self, episodes: int, seed: int) -> tuple[Beliefs, list[Target]]:
        rng = np.random.default_rng(seed)
        place, speed = rng.normal(size=(2, episodes, 1, 2))
        mu = place + 0.2 * np.arange(8)[:, None] * speed
        values = np.broadcast_to(speed, mu.shape).copy()
        values[:, :2] = 1e3  # nobody can know it yet
        targets = [
            Target("x", "slide", values[..., :1].reshape(-1, 1)),
            Target("y", "slide", None, STILL),
        ]
        return beliefs(torch.from_numpy(mu).float(), sigma=0.001), targets

    def test_the_memory_knows_them_and_a_lone_frame_does_not(self):
        x, y = velocities(Known(1.0), self.gliding(150, 0), self.gliding(40, 1), QUICK)
        assert x["r2"] > 0.95
        assert x["mu_r2"] < 0.8
        assert x["low"] <= x["r2"] <= x["high"]
        assert y == {"name": "y", "kind": "slide", "skipped": STILL, "mu_r2": None}

    def test_they_come_from_the_episodes(self, tmp_path):
        joints = [{**joint, "qvel_index": index} for index, joint in enumerate(JOINTS)]
        for seed in range(3):
            episode = rollout(seed, joints=joints)
            speed = np.diff(episode.extra["qpos"], axis=0, prepend=0.0) * [1.0, 0.0]
            write_episode(tmp_path, replace(episode, extra={**episode.extra, "qvel": speed}))
        row, column = joint_velocities(EpisodeStore(tmp_path))
        assert (row.name, row.skipped) == ("row", None)
        assert row.values.shape == (63, 1)
        assert (column.values, column.skipped) == (None, STILL)

    def test_episodes_that_do_not_tell_them(self, tmp_path):
        write_episode(tmp_path, rollout(0))
        assert joint_velocities(EpisodeStore(tmp_path)) == []


def test_footage_is_encoded_episode_by_episode():
    both = twins(episodes=2, steps=6).clean
    cut = Footage(both.frames[:11], np.array([7, 4]), both.action[:11])
    found = Beliefs.of(Scores(), cut)
    assert found.here.sum(1).tolist() == found.lengths.tolist() == [7, 4]
    alone = Beliefs.of(Scores(), Footage(cut.frames[7:], np.array([4]), cut.action[7:]))
    assert torch.equal(found.raw.mu[1, :4], alone.raw.mu[0])
    assert torch.equal(found.action[1, :4], alone.action[0])
    assert torch.equal(found.raw.mu[1, 4:], found.raw.mu[1, 3:4].expand(3, 2))


def test_following_is_the_same_side_by_side_and_alone():
    clean = wandering(episodes=3, length=6)
    both = follow(Known(), clean.total, clean.action)
    alone = follow(Known(), Gaussian(*(part[1:2] for part in clean.total)), clean.action[1:2])
    assert torch.equal(both.posterior.mu[1:2], alone.posterior.mu)
    assert both.memory.shape == (3, 6, 4)
    assert torch.equal(both.memory[:, 3, :2], both.posterior.mu[:, 2])


class TestFailing:
    """Twins under faults in bursts."""

    @pytest.fixture(scope="class")
    @classmethod
    def failing(cls) -> Failing:
        train = Footage.of(ToyStore(), steps=20)
        nominal = Beliefs.of(Scores(), train)
        both = twins(episodes=6, steps=12)
        return Failing(
            Push(), Scores(), both, Bursts(0.4, 4), nominal, train, JOINTS, ProbeConfig(steps=300, hidden=32)
        )

    def test_a_fault_that_leaves_nothing_to_see_is_coasted_over(self, failing):
        sums = failing.sums(twins(episodes=6, steps=12).faulted(cell("dim", 5)))
        assert set(sums) == {"latents, failing", "latents, others", "joints, failing", "joints, others"}
        lost = compared(sums["latents, failing"])
        assert lost["filtered"]["value"] == pytest.approx(lost["oracle"]["value"], rel=1e-3)
        assert lost["filtered/raw"]["value"] < 0.5
        assert lost["constant/filtered"]["low"] > 1.0
        assert compared(sums["latents, others"])["filtered/raw"] is None  # a frame is its own reference
        counts = sums["latents, failing"]["raw"][:, 1] + sums["latents, others"]["raw"][:, 1]
        assert (counts == 13).all()

    def test_without_a_fault_every_frame_is_one_of_the_others(self, failing):
        sums = failing.nominal()
        assert set(sums) == {"latents, others", "joints, others"}
        assert (sums["latents, others"]["raw"] == [0.0, 13.0]).all()


class Push(Known):
    """Holds the last."""

    def __init__(self) -> None:
        super().__init__(1.0, 0.3)
        self.action_scale = torch.ones(2)


class ToyStore(list):
    """Some training episodes, as `Footage.of` takes them."""

    path = "toy"

    def __init__(self) -> None:
        super().__init__(rollout(seed) for seed in range(12))


# ---- the benchmark, on a tiny run without GL


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "data"
    for first, count in ((0, 12), (10_000, 8), (20_000, 4)):
        for seed in range(first, first + count):
            write_episode(path, rollout(seed))
    return path


@pytest.fixture(scope="module")
def calibrated(data: Path) -> Path:
    run = write_run(data.parent / "run", 0)
    calibrate_run(run, data, CalibrateConfig.tiny())
    return run


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    faults = {name: FAULTS[name] for name in ("dim", "salt", "late")}
    monkeypatch.setattr(robovae_envs.faults, "FAULTS", faults)
    monkeypatch.setattr(Trial, "cells", lambda self, steps: partial(ToyLate, onset=0))
    spec = importlib.util.spec_from_file_location("filter_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "filter_benchmark", module)
    spec.loader.exec_module(module)
    quick = module.Effort(300, 4, 3, 10, (5,), ProbeConfig(steps=50, hidden=16))
    monkeypatch.setattr(module, "QUICK", quick)
    return module


def test_the_benchmark_measures_once_and_again_when_the_filter_changes(
    bench: ModuleType, calibrated: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.json"
    options = bench.Filter(runs=(calibrated,), data=(data,), out=out)
    bench.main(options)
    shown = capsys.readouterr().out
    for title in ("targets", "the next frame", "error at the end of a gap", "latents, failing"):
        assert f"\n{title}" in shown
    found: dict[str, Any] = json.loads(out.read_text())
    assert {"machine", "versions", "git", "quick"} <= found.keys()
    one = found["runs"][0]
    assert [row["fault"] for row in one["bursts"]] == ["all faults", "dim", "no fault"]  # TEST only
    assert one["velocities"] == []
    bench.main(options)
    assert "filter: skip" in capsys.readouterr().err
    assert json.loads(out.read_text())["runs"] == found["runs"]
    config = CalibrateConfig.tiny()
    calibrate_run(calibrated, data, replace(config, filter=replace(config.filter, seed=1)))
    bench.main(options)
    assert "filter: skip" not in capsys.readouterr().err


def test_what_can_be_mended_is_one_line(
    bench: ModuleType, calibrated: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(RobovaeError, match="dataset of each of 2 runs, or one of all, received 3"):
        bench.Filter(runs=(Path(),) * 2, data=(Path(),) * 3)
    for name in ("config.json", "model.safetensors", "uncertainty.safetensors", "monitor.json"):
        (tmp_path / name).write_bytes((calibrated / name).read_bytes())
    with pytest.raises(NotCalibratedError, match="expected a filter"):
        bench.main(bench.Filter(runs=(tmp_path,), data=(data,)))
