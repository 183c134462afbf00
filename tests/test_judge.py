"""The judge, on toys whose answer is known; each check has a case in which it must fail."""

import csv
import importlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robovae.belief import Belief, Perceiver
from robovae.episodes import EpisodeStore, write_episode
from robovae.evaluate import ProbeConfig
from robovae.judge import (
    Cell,
    Detector,
    Footage,
    Functions,
    Ground,
    JointReader,
    JudgeConfig,
    JudgeError,
    Panel,
    PytorchOod,
    Remembering,
    Subject,
    Twins,
    Watched,
    alarm_table,
    baselines,
    judge,
    plan,
    to_csv,
)
from robovae.judge.belief_detectors import Information, KnnMu, MahalanobisMu, RawSigma, Reconstruction
from robovae.judge.bound_detectors import LikelihoodRegret, NegativeElbo
from robovae.judge.cells import psnr
from robovae.judge.detector import Once, evenly, median_seconds, score_footage
from robovae.judge.ensemble_detectors import EnsembleDecoded, EnsembleReconstruction, EnsembleWaic
from robovae.judge.exact import binomial_interval, poisson_interval
from robovae.judge.feature_detectors import FeatureResidual, pooled_features
from robovae.judge.metrics import (
    auroc,
    covered,
    delay_statistics,
    fpr_at_tpr,
    nll_terms,
    ranks,
    rms,
    spearman,
    spearman_ceiling,
)
from robovae.judge.outside import NO_CLASSES, outside
from robovae.judge.pixel_detectors import Brightness, Chance, LaplacianVariance, MeanFrame, PcaReconstruction
from robovae.judge.reader import harm_class, joint_values
from robovae.judge.resample import Sample, auroc_by_episode, shuffled
from robovae.judge.strangeness import Nominal
from robovae.judge.summary import truth_of
from robovae.judge.truth import PAIRS, Reference, spread_out, widening
from robovae.run.directory import RunFacts, build_model
from robovae.vae import ModelConfig
from tests.test_evaluate import rollout
from tests.toy_env import ToyEnv

numbers = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


# ---- metrics


@given(numbers, numbers)
def test_auroc_counts_pairs(a: list[int], b: list[int]) -> None:
    pairs = np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b])
    assert auroc(a, b) == pytest.approx(pairs)
    assert auroc(b, a) == pytest.approx(1 - pairs)


@given(numbers)
def test_auroc_of_identical_arrays_is_one_half_to_the_bit(a: list[int]) -> None:
    assert auroc(a, a) == 0.5


def test_auroc_refuses_what_would_be_silently_ranked() -> None:
    with pytest.raises(JudgeError, match="received NaN"):
        auroc([1.0, np.nan], [0.0])
    with pytest.raises(JudgeError, match="negative: expected at least one number, received none"):
        auroc([1.0], [])


def test_fpr_at_tpr_counts_negatives_above_the_lowest_positive_that_must_be_kept() -> None:
    positive = np.arange(20.0)  # 95 % of 20 are the upper 19: threshold 1
    assert fpr_at_tpr(positive, [0.5, 1.0, 7.0, -1.0]) == 0.5
    assert fpr_at_tpr(positive, positive - 100) == 0.0
    assert fpr_at_tpr(positive, positive + 100) == 1.0
    assert fpr_at_tpr(positive, [0.5, 1.0, 7.0, -1.0], tpr=1.0) == 0.75


def test_spearman_in_closed_form() -> None:
    assert ranks([10, 20, 20, 30]).tolist() == [1, 2.5, 2.5, 4]
    assert spearman([1, 2, 3], [1, 8, 27]) == pytest.approx(1.0)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    squares = 4 + 0 + 1 + 1 + 16  # without ties: 1 - 6 sum d² / (n (n² - 1))
    assert spearman([1, 2, 3, 4, 5], [3, 2, 4, 5, 1]) == pytest.approx(1 - 6 * squares / 120)
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    with pytest.raises(JudgeError, match="one length, received 2 and 3"):
        spearman([1, 2], [1, 2, 3])


def test_the_ceiling_of_spearman_is_0_for_an_even_sigma_and_1_for_a_widely_spread_one() -> None:
    rng = np.random.default_rng(0)
    even = 1 + 1e-6 * rng.standard_normal(5000)
    assert spearman_ceiling(even, rng) == pytest.approx(0.0, abs=0.01)
    assert spearman_ceiling(np.exp(20 * rng.standard_normal(5000)), rng) > 0.99
    assert spearman_ceiling(np.ones(50), rng) is None  # as spearman says of what does not vary
    assert spearman_ceiling([0.3], rng) is None
    with pytest.raises(JudgeError, match="sigma: expected at least one number, received NaN"):
        spearman_ceiling([1.0, np.nan], rng)


def test_the_ceiling_of_two_sigmas_in_closed_form() -> None:
    ratio = 3.0
    sigma = np.repeat([1.0, ratio], 20_000)
    above = 2 / math.pi * math.atan(ratio)  # P(ratio |eps| > |eps'|)
    # half of each: ranks of sigma are ±n/4 about the middle, those of errors differ by n (2 above - 1) / 2
    expected = (2 * above - 1) * math.sqrt(3) / 2
    assert spearman_ceiling(sigma, np.random.default_rng(0)) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("width", [0.2, 0.5, 1.0, 2.0])
def test_a_true_sigma_reaches_its_ceiling_and_a_false_one_does_not(width: float) -> None:
    rng = np.random.default_rng(1)
    sigma = np.exp(width * rng.standard_normal(20_000))
    error = np.abs(sigma * rng.standard_normal(len(sigma)))
    ceiling = spearman_ceiling(sigma, rng)
    assert spearman(sigma, error) == pytest.approx(ceiling, abs=0.02)
    assert spearman(rng.permutation(sigma), error) == pytest.approx(0.0, abs=0.03)
    assert spearman_ceiling(rng.permutation(sigma), rng) == pytest.approx(ceiling, abs=0.01)


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.5, 3.0])
def test_the_ceiling_of_frames_is_that_of_independent_errors_of_their_latents(spread: float) -> None:
    rng = np.random.default_rng(2)
    sigma = np.exp(0.3 * rng.standard_normal((20_000, 1)) + spread * rng.standard_normal((20_000, 12)))
    error = rms(sigma * rng.standard_normal(sigma.shape))
    ceiling = spearman_ceiling(sigma, rng, draws=8)
    assert spearman(rms(sigma), error) == pytest.approx(ceiling, abs=0.02)
    assert ceiling > spearman_ceiling(rms(sigma), rng, draws=8) + 0.05  # one error a frame knows less


def test_coverage_and_nll_of_a_true_and_of_an_overconfident_sigma() -> None:
    rng = np.random.default_rng(0)
    mu, sigma = np.zeros((40_000, 2)), np.full((40_000, 2), 0.5)
    reference = 0.5 * rng.standard_normal(mu.shape)
    true, sure = (covered(reference - mu, width).mean(axis=(0, 1)) for width in (sigma, sigma / 4))
    for place, level in enumerate((0.5, 0.68, 0.9, 0.95)):
        assert true[place] == pytest.approx(level, abs=0.01)
        assert sure[place] < level / 2
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.25)
    assert nll_terms(reference, sigma).mean() == pytest.approx(entropy, abs=0.01)
    assert nll_terms(reference, sigma / 4).mean() > entropy + 1
    assert nll_terms(mu, sigma).mean() == pytest.approx(math.log(0.5 * math.sqrt(2 * math.pi)))


def test_binomial_intervals_in_closed_form() -> None:
    low, high = binomial_interval(0, 20)
    assert (low, high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert binomial_interval(20, 20) == [pytest.approx(0.025 ** (1 / 20)), 1.0]
    assert binomial_interval(5, 10) == [pytest.approx(0.18709, abs=1e-5), pytest.approx(0.81291, abs=1e-5)]
    assert binomial_interval(300, 1000)[0] == pytest.approx(0.2717, abs=1e-4)
    with pytest.raises(JudgeError, match="received 3 of 2"):
        binomial_interval(3, 2)


def test_poisson_intervals_in_closed_form() -> None:
    assert poisson_interval(0) == [0.0, pytest.approx(-math.log(0.025))]
    assert poisson_interval(10) == [pytest.approx(4.7954, abs=1e-4), pytest.approx(18.3904, abs=1e-4)]
    assert poisson_interval(10, 2.0)[1] == pytest.approx(18.3904 / 2, abs=1e-4)
    assert poisson_interval(1000)[0] == pytest.approx(939.0, abs=1)
    with pytest.raises(JudgeError, match="exposure above 0, received 1 in 0"):
        poisson_interval(1, 0.0)


@given(st.integers(1, 40), st.floats(0.02, 0.98))
@settings(max_examples=20)
def test_binomial_intervals_cover_whatever_the_probability(trials: int, p: float) -> None:
    inside = [low <= p <= high for low, high in (binomial_interval(k, trials) for k in range(trials + 1))]
    mass = [math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(trials + 1)]
    assert np.dot(inside, mass) >= 0.95 - 1e-9


def test_delays_count_the_undetected_as_the_horizon() -> None:
    assert delay_statistics([1, 3, np.inf], [10, 10, 10]) == {"median": 3.0, "restricted_mean": 14 / 3}
    assert delay_statistics([1, np.inf], [10, 20])["median"] is None


# ---- bootstrap


def sample(rng: np.random.Generator, episodes: int, shift: float = 0.0) -> Sample:
    lengths = rng.integers(1, 6, episodes)
    return Sample.of(rng.normal(shift, 1, int(lengths.sum())).round(1), lengths)


def test_resampled_auroc_is_the_auroc_of_the_repeated_episodes() -> None:
    rng = np.random.default_rng(0)
    a, b = sample(rng, 5, 1.0), sample(rng, 4)
    found = auroc_by_episode(a, b, draws=6, seed=3)
    assert found.value == auroc(a.values, b.values)
    sides = [
        np.random.default_rng([3, side]).multinomial(one.episodes, np.full(one.episodes, 1 / one.episodes), 6)
        for side, one in enumerate((a, b))
    ]
    for draw in range(6):
        again = [
            np.repeat(one.values, weights[draw][one.episode])
            for one, weights in zip((a, b), sides, strict=True)
        ]
        assert found.draws[draw] == pytest.approx(auroc(*again))


def test_the_interval_is_by_episode_and_so_wider_than_by_frame() -> None:
    rng = np.random.default_rng(1)
    lengths = np.full(12, 50)
    alike = [np.repeat(rng.normal(shift, 1, 12), 50) for shift in (0.5, 0.0)]
    by_episode = auroc_by_episode(*(Sample.of(one, lengths) for one in alike), draws=300, seed=0)
    by_frame = auroc_by_episode(*(Sample.of(one, np.ones(600, int)) for one in alike), draws=300, seed=0)
    assert np.diff(by_episode.interval()) > 3 * np.diff(by_frame.interval())


def test_episodes_without_a_frame_that_counts_are_left_out_and_keep_their_number() -> None:
    keep = np.array([True, False, False, True])
    one = Sample.of(np.arange(4.0), np.array([1, 2, 1]), keep)
    assert one.sizes().tolist() == [1, 0, 1]
    np.testing.assert_array_equal(one.means(), [0.0, np.nan, 3.0])
    np.testing.assert_array_equal(one.maxima(), [0.0, np.nan, 3.0])
    found = auroc_by_episode(one, Sample.of(np.array([1.0, 2.0]), np.array([1, 1])), draws=50, seed=0)
    assert found.value == 0.5
    assert np.isfinite(found.draws).all()


def test_shuffled_labels_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    strange, usual = sample(rng, 40, 3.0), sample(rng, 40)
    assert auroc_by_episode(strange, usual, draws=200, seed=0).interval()[0] > 0.9
    low, high = auroc_by_episode(*shuffled(strange, usual, rng), draws=200, seed=0).interval()
    assert low < 0.5 < high


# ---- alarms


def test_alarms_before_the_onset_are_false_and_detect_nothing() -> None:
    episodes = [
        Watched(100, onset=40, alarm=45),
        Watched(100, onset=40, alarm=None),
        Watched(100, onset=40, alarm=9),
        Watched(100, onset=None, alarm=None),
        Watched(100, onset=None, alarm=99),
    ]
    table = alarm_table(episodes, step_seconds=0.1)
    assert table["tpr"]["value"] == pytest.approx(1 / 3)
    assert table["tnr"] == 0.5
    assert table["balanced_accuracy"] == pytest.approx((1 / 3 + 0.5) / 2)
    assert table["delay"] == {"median": None, "restricted_mean": (5 + 60) / 2}
    hours = (40 + 40 + 10 + 100 + 100) * 0.1 / 3600
    assert table["false_alarms_an_hour"]["value"] == pytest.approx(2 / hours)
    assert table["false_alarms_an_hour"]["high"] == pytest.approx(7.2247 / hours, rel=1e-4)
    json.dumps(table, allow_nan=False)


def test_alarm_tables_without_one_of_the_sides() -> None:
    table = alarm_table([Watched(5, onset=0, alarm=0)], 1.0)
    assert table["tpr"]["value"] == 1.0
    assert table["tnr"] is table["false_alarms_an_hour"] is table["balanced_accuracy"] is None
    with pytest.raises(JudgeError, match="alarm: expected a step from 0 to 4, received 5"):
        Watched(5, onset=None, alarm=5)


# ---- cells


class ToyFault(NamedTuple):
    kind: str
    split: str


FAULTS = {
    "dim": ToyFault("rendered", "TEST"),
    "salt": ToyFault("sensor", "DEV"),
    "late": ToyFault("timing", "TEST"),
    "idle": ToyFault("sensor", "TEST"),
    "shove": ToyFault("rendered", "TEST"),
    "leak": ToyFault("sensor", "TEST"),
}
GOOD = ("dim", "salt", "late")


class ToyFaulty(gym.Wrapper[Any, Any, Any, Any]):
    """What `robovae_envs.faults.Faulty` is to a Camera."""

    def __init__(self, env: gym.Env[Any, Any], fault: str | None, severity: int) -> None:
        super().__init__(env)
        self.fault, self.severity = fault, severity

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observation, info = super().reset(seed=seed, options=options)
        self.rng, self.past = np.random.default_rng(seed), []
        return self._see(observation), info

    def step(self, action: Any) -> Any:
        push = 0.1 * self.severity if self.fault == "shove" else 0.0
        observation, *rest = super().step(np.asarray(action) + push)
        return self._see(observation), *rest

    def _see(self, observation: Any) -> Any:
        image = observation["image"]
        self.past.append(image)
        if self.fault == "dim":
            image = (image * (1 - 0.15 * self.severity)).astype(np.uint8)
        elif self.fault == "salt" and self.severity:
            image = np.where(self.rng.random(image.shape) < 0.02 * self.severity, 255, image).astype(np.uint8)
        elif self.fault == "late":
            image = self.past[max(0, len(self.past) - 1 - self.severity)]
        elif self.fault == "leak":
            image = image // 2
        return {**observation, "image": image}


def make_env(fault: str | None, severity: int) -> gym.Env[Any, Any]:
    return ToyFaulty(ToyEnv(), fault, severity)


def twins(episodes: int = 3, steps: int = 10) -> Twins:
    return Twins(make_env, range(40_000, 40_000 + episodes), steps=steps)


def cell(name: str, severity: int) -> Cell:
    return plan(FAULTS, [name], [severity])[0]


def test_a_twin_shares_seed_and_actions_and_differs_by_the_fault_alone() -> None:
    both = twins()
    assert both.clean.lengths.tolist() == [11] * 3
    assert both.clean.action.shape == (33, 2)
    assert not both.clean.action[10].any()  # an episode's last frame leads nowhere
    faulted = both.faulted(cell("dim", 2))
    np.testing.assert_array_equal(faulted.footage.frames, (both.clean.frames * 0.7).astype(np.uint8))
    np.testing.assert_array_equal(faulted.footage.qpos, both.clean.qpos)
    assert faulted.changed.all()
    assert faulted.psnr == pytest.approx(psnr(faulted.footage.frames, both.clean.frames).mean())


def test_frames_that_a_fault_leaves_alone_do_not_count() -> None:
    late = twins().faulted(cell("late", 2))
    assert not late.changed[[0, 11, 22]].any()  # nothing is late at the reset
    assert late.changed.any()
    assert late.psnr is not None
    assert math.isfinite(late.psnr)


def test_severity_0_is_the_identity() -> None:
    same = twins().faulted(cell("dim", 0))
    assert not same.changed.any()
    assert same.psnr is None
    with pytest.raises(JudgeError, match=r"leak 0: expected the clean twin's pixels.*must be the identity"):
        twins().faulted(cell("leak", 0))


def test_a_fault_that_does_nothing_fails() -> None:
    with pytest.raises(JudgeError, match=r"idle 3: expected other pixels.*does nothing in this environment"):
        twins().faulted(cell("idle", 3))


def test_a_rendered_fault_that_touches_the_physics_fails() -> None:
    with pytest.raises(JudgeError, match=r"shove 3: expected the physics of the clean twin.*seed 40000"):
        twins().faulted(cell("shove", 3))


def test_a_timing_fault_may_do_so() -> None:
    push = Cell("shove", 3, "timing", "TEST")
    assert twins().faulted(push).changed.any()


def test_cells_are_made_one_after_the_other() -> None:
    made = []

    def counted(fault: str | None, severity: int) -> gym.Env[Any, Any]:
        made.append((fault, severity))
        return make_env(fault, severity)

    each = Twins(counted, [40_000], steps=3).each(plan(FAULTS, ["dim"], [1, 2]))
    assert made == [(None, 0)]
    assert next(each).cell.severity == 1
    assert made == [(None, 0), ("dim", 1)]


def test_an_unknown_fault_is_named_with_the_nearest() -> None:
    with pytest.raises(JudgeError, match="no fault 'din'; did you mean 'dim'"):
        plan(FAULTS, ["din"], [1])


@given(st.integers(1, 254))
def test_psnr_in_closed_form(error: int) -> None:
    a = np.zeros((1, 4, 4, 3), np.uint8)
    assert psnr(a + np.uint8(error), a)[0] == pytest.approx(20 * math.log10(255 / error))


def test_footage_of_a_store_is_cut_at_the_same_step(tmp_path: Path) -> None:
    for seed in (20_000, 20_001):
        write_episode(tmp_path, rollout(seed))
    store = EpisodeStore(tmp_path)
    footage = Footage.of(store, episodes=1, steps=5)
    np.testing.assert_array_equal(footage.frames, store[0].image[:6])
    np.testing.assert_array_equal(footage.action[:5], store[0].action[:5])
    assert len(Footage.of(store)) == store.num_frames
    assert Footage.of(store).first(1).digest() == Footage.of(store, episodes=1).digest()
    assert footage.digest() != Footage.of(store, episodes=1).digest()
    with pytest.raises(JudgeError, match="expected 3 episodes, received 2"):
        Footage.of(store, episodes=3)
    with pytest.raises(JudgeError, match="expected 7 frames"):
        Footage(footage.frames, np.array([7]), footage.action)


# ---- detectors


def saturated(frames: np.ndarray) -> np.ndarray:
    return (frames == 255).mean(axis=(1, 2, 3))


class ToySees:
    """Sees where the square is and what is saturated, which nothing is on nominal frames."""

    def __init__(self, sigma: float = 0.1) -> None:
        self.sigma, self.calls = sigma, 0

    def __call__(self, frames: np.ndarray) -> Belief:
        self.calls += 1
        weight = frames.astype(np.float64).sum(axis=3)
        weight = weight - weight.min(axis=(1, 2), keepdims=True) + 1e-9
        grid = np.stack(np.indices(weight.shape[1:])) / weight.shape[1] - 0.5
        where = (weight[:, None] * grid).sum(axis=(2, 3)) / weight.sum(axis=(1, 2))[:, None]
        mu = np.concatenate([4 * where, 10 * saturated(frames)[:, None]], axis=1)
        return Belief(mu, np.full_like(mu, self.sigma))

    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        return np.where(frames > 20, np.uint8(200), np.uint8(20))


def noisy(frames: np.ndarray, amount: float = 0.2) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.where(rng.random(frames.shape) < amount, 255, frames).astype(np.uint8)


@pytest.fixture(scope="module")
def nominal() -> np.ndarray:
    return twins(6, 20).clean.frames


FITTED = [
    Brightness(),
    LaplacianVariance(),
    MeanFrame(),
    PcaReconstruction(components=8),
    MahalanobisMu(ToySees()),
    KnnMu(ToySees()),
    Reconstruction(ToySees()),
    FeatureResidual(lambda frames: ToySees()(frames).mu),
]


@pytest.mark.parametrize("detector", FITTED, ids=lambda one: one.name)
def test_strange_frames_score_higher_and_every_frame_for_itself(
    detector: Detector, nominal: np.ndarray
) -> None:
    detector.fit(nominal[:63])
    strange = noisy(nominal[63:])
    assert auroc(detector.score(strange), detector.score(nominal[63:])) > 0.9
    whole = detector.score(strange)
    assert whole.shape == (63,)
    assert whole.dtype == np.float64
    apart = np.concatenate([detector.score(strange[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(whole[:3], apart, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("detector", [Brightness(), LaplacianVariance()], ids=lambda one: one.name)
def test_two_sided_scores_rise_on_either_side(detector: Detector, nominal: np.ndarray) -> None:
    detector.fit(nominal)
    flat, busy = np.full_like(nominal[:1], 5), noisy(nominal[:1], 0.5)
    assert min(detector.score(flat)[0], detector.score(busy)[0]) > detector.score(nominal).max()


def test_detectors_in_closed_form() -> None:
    class Codes(ToySees):
        def __call__(self, frames: np.ndarray) -> Belief:
            mu = frames.reshape(len(frames), -1)[:, :2] / 10.0
            return Belief(mu, np.full_like(mu, 0.5))

    rng = np.random.default_rng(0)
    frames = rng.integers(0, 100, (500, 2, 2, 3), dtype=np.uint8)
    sees = Codes()
    mu = sees(frames).mu.astype(float)
    assert RawSigma(sees).score(frames)[0] == pytest.approx(math.log(0.5))
    nats = 0.5 * (np.square(mu[0]) + 0.25 - 1 - math.log(0.25)).sum()
    assert Information(sees).score(frames)[0] == pytest.approx(nats, rel=1e-5)
    maha, knn = MahalanobisMu(sees), KnnMu(sees, k=3)
    for detector in (maha, knn):
        detector.fit(frames)
    apart = mu[0] - mu.mean(axis=0)
    assert maha.score(frames)[0] == pytest.approx(apart @ np.linalg.inv(np.cov(mu.T)) @ apart, rel=1e-3)
    assert knn.score(frames)[0] == pytest.approx(
        np.sort(np.linalg.norm(mu - mu[0], axis=1))[2], rel=1e-3, abs=1e-4
    )
    with pytest.raises(JudgeError, match="at least 3 training frames, received 2"):
        knn.fit(frames[:2])


def test_pca_leaves_what_the_svd_leaves() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
    detector = PcaReconstruction(components=40)
    detector.fit(frames)
    assert detector.score(frames).max() < 1e-10  # 40 frames span at most 39 directions
    low = PcaReconstruction(components=3)
    grey = frames[:, :, :1, :1].repeat(4, 2).repeat(3, 3)  # four directions
    low.fit(grey)
    rows = frames[:, :, 0, 0].repeat(12, axis=1) / 255.0
    tail = np.linalg.svd(rows - rows.mean(0), compute_uv=False)[3:]
    expected = np.square(tail).sum() / rows.size
    assert low.score(grey).mean() == pytest.approx(expected, rel=1e-3)


def test_chance_means_nothing_yet_depends_on_the_frame_alone(nominal: np.ndarray) -> None:
    score = Chance().score
    np.testing.assert_array_equal(score(nominal), score(nominal.copy()))
    many = np.random.default_rng(0).integers(0, 256, (400, 4, 4, 3), dtype=np.uint8)
    assert auroc(score(many[:200]), score(many[200:])) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("kind", [EnsembleReconstruction, EnsembleDecoded])
def test_members_that_agree_do_not_disagree(kind: Any, nominal: np.ndarray) -> None:
    def same(frames: np.ndarray) -> np.ndarray:
        return frames

    assert not kind([same, same, same]).score(nominal[:3]).any()
    brighter = kind([same, lambda frames: np.minimum(frames, 235) + np.uint8(20)])
    many = np.repeat(nominal[:1] // 2, 300, axis=0)  # more than a batch
    assert brighter.score(many) == pytest.approx(np.full(300, (10 / 255) ** 2))
    with pytest.raises(JudgeError, match="at least 2 models, received 1"):
        kind([same])


def test_waic_in_closed_form(nominal: np.ndarray) -> None:
    nats = [np.array([10.0, 7.0]), np.array([12.0, 7.0]), np.array([17.0, 7.0])]
    members = [lambda frames, one=one: one for one in nats]
    assert EnsembleWaic(members).score(nominal[:2]) == pytest.approx([13 + (9 + 1 + 16) / 3, 7.0])
    with pytest.raises(JudgeError, match="at least 2 models, received 0"):
        EnsembleWaic([])


def test_an_ensemble_is_the_same_for_each_of_its_members(nominal: np.ndarray) -> None:
    members = [tiny_perceiver(seed) for seed in range(3)]
    found = []
    for place in range(3):
        own, *others = members[place:] + members[:place]
        scores = baselines(own, nominal, ensemble=others).scores(nominal[:4])
        found.append({name: values for name, values in scores.items() if name.startswith("ensemble")})
    assert set(found[0]) == {"ensemble_reconstruction", "ensemble_decoded", "ensemble_waic"}
    for name, values in found[0].items():
        assert (values > 0).all()
        for other in found[1:]:
            np.testing.assert_allclose(values, other[name], rtol=1e-4)


def test_the_residual_is_what_the_principal_half_leaves() -> None:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    codes = (rng.standard_normal((500, 4)) * [5.0, 4.0, 0.1, 0.2]) @ turn
    frames = np.zeros((500, 2, 2, 3), np.uint8)
    detector = FeatureResidual(lambda some: codes[: len(some)])
    detector.fit(frames)
    apart = (codes - codes.mean(axis=0)) @ turn.T
    assert detector.score(frames) == pytest.approx(np.hypot(apart[:, 2], apart[:, 3]), rel=0.1, abs=0.02)


def test_pooled_features_are_means_of_the_last_maps_frame_by_frame(nominal: np.ndarray) -> None:
    perceiver = tiny_perceiver()
    features = pooled_features(perceiver)
    apart = nominal[::25]  # of several episodes
    whole = features(apart)
    assert whole.shape == (len(apart), ModelConfig.tiny().deep_channels)
    assert (whole >= 0).all()  # after a ReLU
    np.testing.assert_allclose(whole[3:4], features(apart[3:4]), rtol=1e-4, atol=1e-6)
    assert whole.std(axis=0).any()


@given(st.integers(1, 50), st.integers(1, 60))
def test_evenly_spread_numbers_reach_both_ends(count: int, at_most: int) -> None:
    chosen = evenly(count, at_most)
    assert len(chosen) == len(set(chosen.tolist())) == min(count, at_most)
    assert chosen[0] == 0
    assert at_most == 1 or chosen[-1] == count - 1


def test_what_is_asked_again_of_another_array_is_computed_again(nominal: np.ndarray) -> None:
    calls: list[int] = []
    once = Once(lambda frames: calls.append(len(frames)))
    for frames in (nominal[:2], nominal[:3], nominal):
        once(frames)
        once(frames)
    assert calls == [2, 3, len(nominal)]


def test_several_detectors_share_one_pass(nominal: np.ndarray) -> None:
    sees = ToySees()
    shared = Remembering(sees)
    panel = Panel([RawSigma(shared), Information(shared)])
    panel.fit(nominal)
    found = panel.scores(nominal)
    assert set(found) == {"raw_sigma", "information"}
    assert sees.calls == 1
    shared(nominal.copy())
    assert sees.calls == 2
    with pytest.raises(JudgeError, match="different names, received chance, chance"):
        Panel([Chance(), Chance()])


def test_the_cost_of_a_detector_is_of_one_frame_on_one_thread(nominal: np.ndarray) -> None:
    class Slow(Chance):
        def score(self, frames: np.ndarray) -> np.ndarray:
            assert torch.get_num_threads() == 1
            assert len(frames) == 1
            torch.ones(200_000).sort()
            return super().score(frames)

    quick = median_seconds(Chance().score, nominal[:1])
    assert 0 < quick < median_seconds(Slow().score, nominal[:1], repeats=3)


def tiny_perceiver(seed: int = 0) -> Perceiver:
    torch.manual_seed(seed)
    return Perceiver(build_model(ModelConfig.tiny(), RunFacts((16, 16, 3), 2, "Toy-v0", None)))


def test_bounds_do_not_depend_on_the_batch_nor_touch_the_model(nominal: np.ndarray) -> None:
    perceiver = tiny_perceiver()
    before = {name: value.clone() for name, value in perceiver.model.vae.state_dict().items()}
    for detector in (NegativeElbo(perceiver), LikelihoodRegret(perceiver, steps=3)):
        whole = detector.score(nominal[:5])
        apart = np.concatenate([detector.score(nominal[i : i + 1]) for i in range(5)])
        np.testing.assert_allclose(whole, apart, rtol=1e-3, atol=0.05)
        np.testing.assert_array_equal(whole, detector.score(nominal[:5]))
    for name, value in perceiver.model.vae.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(weight.grad is None for weight in perceiver.model.vae.parameters())


def test_regret_grows_with_the_steps_from_nothing(nominal: np.ndarray) -> None:
    perceiver = tiny_perceiver()
    few, many = (LikelihoodRegret(perceiver, steps=n).score(nominal[:4]) for n in (1, 10))
    assert (few >= 0).all()
    assert (many > few).all()
    with pytest.raises(JudgeError, match="at least 1 step, received 0"):
        LikelihoodRegret(perceiver, steps=0)


def test_the_elbo_detector_is_the_bound(nominal: np.ndarray) -> None:
    from robovae.elbo import lone_frame_terms
    from robovae.frames import to_tensor

    perceiver, frame = tiny_perceiver(), nominal[:1]
    draws = [-NegativeElbo(perceiver, seed=seed).score(frame)[0] for seed in range(40)]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        terms = lone_frame_terms(perceiver.model.vae, to_tensor(frame.repeat(400, 0)), generator).elbo
    assert np.mean(draws) == pytest.approx(float(terms.mean()), abs=4 * float(terms.std()) / math.sqrt(40))


NAMED = {
    *("raw_sigma", "information", "reconstruction", "elbo", "mahalanobis_mu", "knn_mu", "pca", "brightness"),
    *("laplacian", "mean_frame", "likelihood_regret", "feature_residual", "chance"),
    *("ensemble_reconstruction", "ensemble_decoded", "ensemble_waic"),
    *("pytorch_ood_mahalanobis", "pytorch_ood_knn", "pytorch_ood_vim"),
}
"""Every baseline that is promised: in the table, or left out with a reason."""


def test_all_baselines_of_a_model_in_one_panel(nominal: np.ndarray) -> None:
    panel = baselines(tiny_perceiver(), nominal, regret_steps=1, ensemble=[tiny_perceiver(1)])
    found = panel.scores(nominal[:4])
    assert all(values.shape == (4,) and np.isfinite(values).all() for values in found.values())
    assert {*found, *panel.skipped} == NAMED
    assert set(panel.skipped) >= set(NO_CLASSES)
    assert not set(found) & set(panel.skipped)


def test_baselines_that_are_left_out_are_named_with_why(
    monkeypatch: pytest.MonkeyPatch, nominal: np.ndarray
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_ood", None)
    panel = baselines(tiny_perceiver(), nominal)
    assert {*panel.detectors, *panel.skipped} == NAMED
    assert "an optimisation a frame" in panel.skipped["likelihood_regret"]
    assert "--ensemble RUN" in panel.skipped["ensemble_waic"]
    assert 'pip install "robovae[bench]"' in panel.skipped["pytorch_ood_knn"]


def test_every_score_has_its_cost_a_frame() -> None:
    one, footage = subject(), twins(1, 3).clean
    costs = one.costs(footage)
    assert set(costs) == set(one.scores(footage))
    assert min(costs.values()) > 0


STUB = """
import torch

class Mahalanobis:
    def __init__(self, encoder):
        assert encoder is None

    def fit_features(self, features, labels):
        if len(features) < 5:
            raise ValueError("too few")
        assert features.dtype == torch.float32 and not labels.any()
        self.mean = features.mean(0)

    def predict_features(self, features):
        return (features - self.mean).norm(dim=1)
"""
STUB_KNN = """
class KNN:
    def __init__(self, encoder):
        raise ImportError("You have to install a_package_that_is_missing")
"""


@pytest.fixture
def pytorch_ood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package like pytorch-ood, whose own `__init__` cannot run here."""
    package = tmp_path / "pytorch_ood"
    (package / "detector").mkdir(parents=True)
    (package / "__init__.py").write_text("import a_package_that_is_missing")
    (package / "detector" / "__init__.py").write_text(STUB + STUB_KNN)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "pytorch_ood"]:
        monkeypatch.delitem(sys.modules, name)
    yield
    sys.modules.pop("pytorch_ood.detector", None)


def codes(frames: np.ndarray) -> np.ndarray:
    return ToySees()(frames).mu


@pytest.mark.usefixtures("pytorch_ood")
def test_pytorch_ood_is_given_one_class_and_asked_on_features(nominal: np.ndarray) -> None:
    detector = PytorchOod(codes)
    detector.fit(nominal)
    assert detector.name == "pytorch_ood_mahalanobis"
    expected = np.linalg.norm(codes(nominal[:3]) - codes(nominal).mean(axis=0), axis=1)
    assert detector.score(nominal[:3]) == pytest.approx(expected, rel=1e-3, abs=1e-5)
    with pytest.raises(JudgeError, match="expected one of Mahalanobis, KNN, received 'ViM'"):
        PytorchOod(codes, "ViM")
    with pytest.raises(JudgeError, match=r"pytorch_ood_mahalanobis: expected training frames.*4: too few"):
        detector.fit(nominal[:4])


@pytest.mark.usefixtures("pytorch_ood")
def test_pytorch_ood_needs_its_detectors_alone_and_stays_whole_for_others() -> None:
    found, skipped = outside(codes)
    assert [detector.name for detector in found] == ["pytorch_ood_mahalanobis"]
    assert "a_package_that_is_missing" in skipped["pytorch_ood_knn"]
    assert "pytorch_ood" not in sys.modules
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_missing"):
        importlib.import_module("pytorch_ood")


def test_scores_must_be_finite_numbers_of_different_names() -> None:
    footage = twins(1, 3).clean
    for values, said in (
        (np.zeros(3), r"'x': expected 4 finite numbers, received shape \(3,\)"),
        (np.full(4, np.nan), "with 4 that are not"),
    ):
        with pytest.raises(JudgeError, match=said):
            score_footage([Functions({"x": lambda _, values=values: values})], footage)
    one = Functions({"x": Chance().score})
    with pytest.raises(JudgeError, match="one score called 'x', received two"):
        score_footage([one, one], footage)


# ---- is sigma true?


def reference(rng: np.random.Generator, episodes: int = 50, frames: int = 20) -> tuple[Reference, np.ndarray]:
    mu = rng.standard_normal((episodes * frames, 3)) * [1.0, 2.0, 0.01]  # the third is dead
    episode = np.repeat(np.arange(episodes), frames)
    return Reference.of(Belief(mu, np.full_like(mu, 0.1)), episode), mu


def test_a_true_sigma_covers_and_a_constant_one_does_not_rank() -> None:
    rng = np.random.default_rng(0)
    clean, mu = reference(rng)
    sigma = rng.uniform(0.05, 1.0, mu.shape)
    belief = Belief(mu + sigma * rng.standard_normal(mu.shape), sigma)
    changed = np.ones(len(mu), bool)
    true = clean.compare(belief, changed)
    assert true["active"] == 2
    for name, level in (("50", 0.5), ("68", 0.68), ("90", 0.9), ("95", 0.95)):
        share = true["coverage"][name]
        assert share["value"] == pytest.approx(level, abs=0.03)
        assert share["low"] < share["value"] < share["high"]
    assert true["spearman"]["low"] < true["spearman"]["value"] < true["spearman"]["high"]
    assert true["spearman"]["value"] > 0.4
    assert true["sigma_ratio"] == pytest.approx(5.25, rel=0.1)
    even = clean.compare(Belief(belief.mu, np.full_like(sigma, 0.05)), changed)
    assert even["coverage"]["90"]["high"] < 0.3
    assert even["nll"]["value"] > true["nll"]["high"]
    assert even["spearman"]["value"] is None
    assert true["rms_error"]["value"] == even["rms_error"]["value"]
    json.dumps([true, even], allow_nan=False)


def test_frames_are_kept_as_root_mean_squares_over_active_latents() -> None:
    clean, mu = reference(np.random.default_rng(0), episodes=2)
    sigma = np.full_like(mu, 0.3)
    sigma[:, 1] = 0.4
    found = clean.compare(Belief(mu + np.array([0.0, 0.1, 9.0]), sigma), np.ones(len(mu), bool))
    np.testing.assert_allclose(found["by_frame"], [[0.1 / math.sqrt(2), 0.3, 0.4]] * len(mu), rtol=1e-3)
    assert len(found["pairs"]) == 2 * len(mu)


def truth_rows(rng: np.random.Generator, width: float) -> list[dict[str, Any]]:
    """Three cells of a belief whose sigma is exactly true."""
    clean, mu = reference(rng)
    rows = []
    for _ in range(3):
        sigma = 0.3 * np.exp(width * rng.standard_normal((len(mu), 1)) + rng.standard_normal(mu.shape))
        belief = Belief(mu + sigma * rng.standard_normal(mu.shape), sigma)
        one = clean.compare(belief, np.ones(len(mu), bool))
        rows.append({"truth": {"total": one, "raw": one}})
    return rows


def test_an_exactly_true_sigma_reaches_its_ceilings_by_latent_and_by_frame() -> None:
    found = truth_of(truth_rows(np.random.default_rng(0), 1.0), seed=0)["total"]
    assert found["spearman"] == pytest.approx(found["spearman_ceiling"], abs=0.05)
    assert found["spearman_frames"] == pytest.approx(found["spearman_frames_ceiling"], abs=0.05)
    assert found["spearman_frames"] > found["spearman"]


def test_ceilings_follow_their_seed_alone_and_do_not_hide_a_false_sigma() -> None:
    rows = truth_rows(np.random.default_rng(0), 1.0)
    first, again, other = (truth_of(rows, seed=seed)["total"] for seed in (0, 0, 1))
    assert first == again
    assert 0 < abs(first["spearman_ceiling"] - other["spearman_ceiling"]) < 0.02
    for row in rows:
        one = row["truth"]["total"]
        for name in ("pairs", "by_frame"):  # each error beside the sigma of another
            table, error = np.array(one[name]), 1 if name == "pairs" else 0
            table[:, error] = np.roll(table[:, error], 50)
            one[name] = table.tolist()
    mixed = truth_of(rows, seed=0)["total"]
    assert abs(mixed["spearman"]) < 0.12
    assert abs(mixed["spearman_frames"]) < 0.12
    for name in ("spearman_ceiling", "spearman_frames_ceiling"):
        assert mixed[name] == first[name]


def test_only_changed_frames_count() -> None:
    rng = np.random.default_rng(0)
    clean, mu = reference(rng)
    changed = np.arange(len(mu)) % 20 == 3
    changed[:200] = False  # ten episodes without any
    shift = np.where(changed[:, None], 1.0, 50.0) * clean.scale.mean()
    found = clean.compare(Belief(mu + shift, np.ones_like(mu)), changed)
    assert found["rms_error"]["value"] < 3


@given(st.integers(1, 3 * PAIRS))
def test_what_is_kept_is_spread_evenly_and_each_once(size: int) -> None:
    chosen = spread_out(size, PAIRS, np.random.default_rng(0))
    assert len(chosen) == min(PAIRS, size)
    assert (np.diff(chosen) > 0).all()
    assert 0 <= chosen[0] <= chosen[-1] < size
    assert np.diff(chosen).max(initial=0) <= 2 * math.ceil(size / len(chosen))


@pytest.mark.parametrize("frames", [510, 10_200])
def test_what_is_kept_is_of_all_latents_whatever_their_rhythm(frames: int) -> None:
    latents = 24
    steps = np.linspace(0, frames * latents - 1, PAIRS).astype(int) % latents
    assert np.bincount(steps).max() > 0.9 * PAIRS  # negative control: equal steps meet one latent
    chosen = spread_out(frames * latents, PAIRS, np.random.default_rng(0)) % latents
    assert np.bincount(chosen).max() < 0.15 * PAIRS
    assert len(np.unique(chosen)) == latents


def test_a_collapsed_model_is_refused() -> None:
    flat = Belief(np.zeros((4, 2)), np.ones((4, 2)))
    with pytest.raises(JudgeError, match=r"variance above 0.01.*collapsed"):
        Reference.of(flat, np.zeros(4, int))


JOINTS = [
    {"type": "slide", "qpos_index": 0},
    {"type": "hinge", "qpos_index": 1},
]


def test_joint_values_put_hinges_on_the_circle() -> None:
    qpos = np.array([[0.3, np.pi, 1, 2, 3, 1, 0, 0, 0, 5]], float)
    joints = [*JOINTS, {"type": "free", "qpos_index": 2}]
    assert joint_values(qpos, joints).tolist() == [[0.3, -1.0, pytest.approx(0), 1, 2, 3, 1, 0, 0, 0]]


def test_the_reader_loses_nothing_on_clean_mu_and_all_on_another_episodes() -> None:
    footage = twins(6, 20).clean
    slides = [{"type": "slide", "qpos_index": 0}, {"type": "slide", "qpos_index": 1}]
    config = ProbeConfig(steps=300, batch=64, hidden=32)
    reader = JointReader(ToySees(), footage, slides, config)
    mu, every = ToySees()(footage.frames).mu.astype(float), np.ones(len(footage), bool)
    assert footage.qpos is not None
    assert reader.lost(mu, mu, footage.qpos, every) == 0.0
    assert reader.lost(mu, np.roll(mu, 60, axis=0), footage.qpos, every) > 0.5
    worse, late = mu.copy(), np.arange(len(footage)) % 20 >= 15
    worse[late] = np.roll(mu, 3, axis=0)[late]  # what is hard to read late is not the fault's doing
    assert reader.lost(worse, worse, footage.qpos, late) == 0.0
    with pytest.raises(JudgeError, match=r"tells with R² >= 0.5"):
        reader.lost(np.roll(mu, 60, axis=0), mu, footage.qpos, every)
    blind = Footage(footage.frames, footage.lengths, footage.action)
    with pytest.raises(JudgeError, match="footage with qpos, received none"):
        JointReader(ToySees(), blind, slides)
    assert [harm_class(loss) for loss in (None, 0.049, 0.05, 0.2)] == [None, "harmless", "between", "harmful"]


# ---- all together


class Alert:
    """A sequence scorer: how far each frame is from the one before."""

    def sequence_scores(self, footage: Footage) -> dict[str, np.ndarray]:
        step = np.diff(footage.frames.astype(float), axis=0, prepend=footage.frames[:1].astype(float))
        first = np.cumsum(footage.lengths) - footage.lengths
        step[first] = 0.0
        return {"motion": -np.abs(step).mean(axis=(1, 2, 3))}


class Fixed:
    """A reader that reads the harm off the error of mu."""

    def lost(self, clean: np.ndarray, faulted: np.ndarray, qpos: np.ndarray, changed: np.ndarray) -> float:
        return float(np.abs(faulted - clean)[changed].mean() > 0.02)


def ground(calibration: int = 20) -> Ground:
    def nominal(first: int, episodes: int, steps: int = 8) -> Footage:
        return Twins(make_env, range(first, first + episodes), steps=steps).clean

    return Ground(nominal(20_000, 6), nominal(30_000, 5), nominal(10_000, calibration))


def subject() -> Subject:
    panel = Panel([Brightness(), Chance(), Reconstruction(ToySees())])
    panel.fit(twins(4).clean.frames)
    return Subject(
        [panel, Functions({"saturated": saturated}), Alert()], ToySees(0.1), ToySees(0.01), Fixed()
    )


SCORES = {"brightness", "chance", "reconstruction", "saturated", "motion", "log_sigma"}
CONFIG = JudgeConfig(episodes=4, steps=8, severities=(1, 3, 5), faults=GOOD, draws=40)


@pytest.fixture(scope="module")
def judged() -> dict[str, Any]:
    return judge(subject(), ground(), make_env, FAULTS, CONFIG)


def test_the_verdict_is_json_and_whole(judged: dict[str, Any]) -> None:
    json.dumps(judged, allow_nan=False)
    assert [(row["fault"], row["severity"]) for row in judged["cells"]] == [
        (name, severity) for name in GOOD for severity in (1, 3, 5)
    ]
    assert judged["controls"]["severity_0"] == dict.fromkeys(GOOD, 0.5)
    assert set(judged["cells"][0]["scores"]) == SCORES


def test_the_headline_is_the_lower_of_test_and_rare(judged: dict[str, Any]) -> None:
    for row in judged["cells"]:
        for one in row["scores"].values():
            sides = [one["auroc_test"]["value"], one["auroc_rare"]["value"]]
            assert one["auroc"]["value"] == min(sides)
            assert one["auroc"] == one[f"auroc_{one['against']}"]


def test_a_score_that_sees_a_fault_finds_it_and_chance_does_not(judged: dict[str, Any]) -> None:
    dim = judged["cells"][2]
    assert (dim["fault"], dim["severity"]) == ("dim", 5)
    assert dim["scores"]["brightness"]["auroc"]["value"] == 1.0
    assert dim["scores"]["brightness"]["fpr95"] == 0.0
    assert dim["scores"]["brightness"]["alarms"]["5%"]["value"] == 1.0
    assert "1%" not in dim["scores"]["brightness"]["alarms"]  # 20 episodes promise no 1 %
    assert dim["scores"]["log_sigma"]["auroc"]["value"] == 0.5  # a constant sigma
    means = judged["summary"]["means"]
    assert means["TEST"]["brightness"]["cells"] == 2  # dim at severities 3 and 5: timing stands apart
    assert means["DEV"]["chance"]["low"] < 0.5 < means["DEV"]["chance"]["high"]
    assert set(means) == {"TEST", "DEV", "timing TEST"}
    assert means["timing TEST"]["brightness"]["value"] < 0.9
    assert judged["summary"]["severity"]["dim"]["brightness"] > 0.9
    mixed = judged["summary"]["shuffled"]
    assert mixed["inside"] >= 0.8 * mixed["of"]
    assert mixed["mean"] == pytest.approx(0.5, abs=0.1)


def test_nominal_episodes_alarm_as_rarely_as_promised() -> None:
    rng = np.random.default_rng(0)

    def episodes(count: int) -> Footage:
        frames = np.zeros((5 * count, 1, 1, 3), np.uint8)
        return Footage(frames, np.full(count, 5), np.zeros((5 * count, 1), np.float32))

    nominal = Nominal.of(
        Ground(episodes(2000), calibration=episodes(399)),
        lambda footage: {"draw": rng.standard_normal(len(footage))},
    )
    alarms = nominal.facts()["test"]["draw"]["alarms"]
    assert 0.02 < alarms["5%"]["value"] < 0.09
    assert 0.0 < alarms["1%"]["value"] < 0.03


def test_harm_is_counted_apart(judged: dict[str, Any]) -> None:
    classes = {f"{row['fault']} {row['severity']}": row["harm"]["class"] for row in judged["cells"]}
    assert classes["dim 1"] == "harmless"
    assert classes["salt 5"] == "harmful"
    assert judged["summary"]["harm"]["cells"]["harmless"] == ["dim 1", "dim 3", "dim 5"]
    assert judged["summary"]["harm"]["auroc"] is None  # no cell of TEST is harmful


def test_harmful_cells_are_told_from_harmless_ones(judged: dict[str, Any]) -> None:
    from robovae.judge.summary import harm_of

    found = harm_of(judged["cells"][:6], judged["nominal"], draws=40, seed=0)
    assert found["cells"]["harmful"]
    assert found["auroc"]["saturated"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert found["auroc"]["brightness"]["value"] < 1.0  # a dimmed frame is as strange, and harmless
    assert found["auroc"]["log_sigma"]["value"] == 0.5
    assert found["log_sigma"]["value"] == 0.5


def test_sigma_is_compared_for_the_total_and_for_the_raw_belief(judged: dict[str, Any]) -> None:
    truth = judged["summary"]["truth"]
    assert set(truth) == {"rendered TEST", "sensor DEV", "timing TEST"}
    salt = truth["sensor DEV"]
    assert salt["total"]["coverage"]["90"] > salt["raw"]["coverage"]["90"]
    assert salt["total"]["nll"] < salt["raw"]["nll"]
    assert salt["total"]["rms_error"] == salt["raw"]["rms_error"]


def test_nominal_frames_are_widened_as_much_as_calibration_widens_them(judged: dict[str, Any]) -> None:
    assert judged["widening"] == {"test": pytest.approx(10.0), "rare": pytest.approx(10.0)}
    known = ground()

    def wide_on_rare(frames: np.ndarray) -> Belief:
        return ToySees(0.3 if frames is known.rare.frames else 0.1)(frames)

    one = Subject([Functions({"chance": Chance().score})], wide_on_rare, ToySees(0.1))
    config = JudgeConfig(episodes=2, steps=3, severities=(5,), faults=("dim",), draws=5)
    assert judge(one, known, make_env, FAULTS, config)["widening"] == {
        "test": pytest.approx(1.0),
        "rare": pytest.approx(3.0),
    }
    bare = judge(one, Ground(known.test), make_env, FAULTS, config)["widening"]
    assert bare == {"test": pytest.approx(1.0)}


def test_latents_that_say_nothing_are_widened_for_free() -> None:
    mu, sigma = np.zeros((4, 3)), np.array([[0.1, 0.2, 1.0]] * 4)
    wide = Belief(mu, sigma * np.array([2.0, 4.0, 100.0]))
    active = np.array([True, True, False])
    assert widening(wide, Belief(mu, sigma), active) == pytest.approx(3.0)
    assert widening(Belief(mu, sigma), Belief(mu, sigma), active) == 1.0


def test_the_table_has_a_line_an_episode_and_score(judged: dict[str, Any], tmp_path: Path) -> None:
    with to_csv(judged, tmp_path / "deep" / "episodes.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6 * (6 + 5 + 9 * 4)
    first = next(line for line in lines if line["fault"] == "dim")
    row = judged["cells"][0]["scores"][first["score"]]
    assert float(first["mean"]) == row["episode_mean"][0]
    assert float(first["max"]) == row["episode_max"][0]


def test_cells_that_were_judged_are_read_back(tmp_path: Path) -> None:
    config = JudgeConfig(episodes=2, steps=4, severities=(2,), faults=("dim", "salt"), draws=10)
    told: list[tuple[str, bool]] = []

    def go(one: Subject, config: JudgeConfig = config) -> Any:
        told.clear()
        return judge(
            one,
            ground(),
            make_env,
            FAULTS,
            config,
            cache=tmp_path,
            on_cell=lambda cell, row, cached: told.append((str(cell), cached)),
        )

    first = go(subject())
    assert told == [("dim 2", False), ("salt 2", False)]
    again = go(subject())
    assert told == [("dim 2", True), ("salt 2", True)]
    assert again["cells"] == first["cells"]
    go(subject(), JudgeConfig(episodes=2, steps=4, severities=(2, 4), faults=("salt",), draws=10))
    assert told == [("salt 2", True), ("salt 4", False)]
    go(Subject(subject().scorers, ToySees(0.2), ToySees(0.01), Fixed()))
    assert told == [("dim 2", False), ("salt 2", False)]  # another belief, another verdict


def test_a_score_that_is_no_function_of_its_frames_is_refused() -> None:
    rng = np.random.default_rng(0)
    dice = Functions({"dice": lambda frames: rng.random(len(frames))})
    with pytest.raises(JudgeError, match=r"score 'dice': expected AUROC 0\.5 on identical frames"):
        judge(Subject([dice], ToySees(), ToySees()), ground(), make_env, FAULTS, CONFIG)


def test_a_fault_that_does_nothing_fails_the_whole_judgement() -> None:
    config = JudgeConfig(episodes=2, steps=3, severities=(1,), faults=("dim", "idle"), draws=5)
    with pytest.raises(JudgeError, match="idle 1: expected other pixels"):
        judge(subject(), ground(), make_env, FAULTS, config)


def test_without_reader_rare_and_calibration_there_is_less_to_say() -> None:
    config = JudgeConfig(episodes=2, steps=3, severities=(1,), faults=("dim",), draws=5)
    one = Subject([Functions({"chance": Chance().score})], ToySees(), ToySees())
    row = judge(one, Ground(ground().test), make_env, FAULTS, config)["cells"][0]
    assert row["harm"]["class"] is row["harm"]["loss"] is None
    assert row["scores"]["chance"]["against"] == "test"
    assert row["scores"]["chance"]["alarms"] == {}


def test_a_score_may_not_take_the_name_that_the_judge_adds() -> None:
    one = Subject([Functions({"log_sigma": Chance().score})], ToySees(), ToySees())
    with pytest.raises(JudgeError, match='no score called "log_sigma"'):
        Nominal.of(ground(), one.scores)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"episodes": 1}, "episodes: expected at least 2, received 1"),
        ({"steps": 0}, "steps: expected at least 1"),
        ({"severities": (0, 1)}, "severities: expected numbers from 1 to 5"),
        ({"severities": ()}, "severities: expected numbers from 1 to 5"),
    ],
)
def test_configs_are_checked(change: dict[str, Any], said: str) -> None:
    with pytest.raises(JudgeError, match=said):
        JudgeConfig(**change)
    assert JudgeConfig.tiny().episodes < JudgeConfig.quick().episodes < JudgeConfig().episodes
