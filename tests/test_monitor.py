"""The monitor's promises: simulated error rates within binomial intervals, and checks that can fail."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robovae.config import ConfigError
from robovae.monitor import (
    Calibration,
    CalibrationError,
    Monitor,
    MonitorConfig,
    MonitorError,
    Why,
    calibrate,
    episodes_needed,
    fingerprint_of,
    p_values,
    threshold,
)
from robovae.monitor.conformal import FrameTail
from robovae.monitor.evidence import CAP, LEAST_EXCESS, Evidence, fading_mean
from robovae.monitor.levels import EXPONENTS, Drift, Gate, stake
from robovae.monitor.verdict import place_of, strangest_dims, strangest_region

Z = 4.5
"""Half-width of the intervals in standard deviations: a true promise fails once in 150 000 seeds."""

numbers = st.floats(-1e6, 1e6)
some_numbers = st.lists(st.integers(0, 8), min_size=1, max_size=40)  # with ties


def excess(hits: np.ndarray, rate: float) -> float:
    """How many binomial standard deviations the share of hits lies above a rate."""
    return float((hits.mean() - rate) / np.sqrt(rate * (1 - rate) / hits.size))


# conformal


def rank_threshold(maxima: np.ndarray, rank: int) -> float:
    """The rank-th smallest value, counted from 1: `threshold` with a rank of one's own."""
    return float(np.sort(maxima)[rank - 1])


def false_alarms(limit_of, n: int, seed: int = 0, digits: int | None = None) -> np.ndarray:
    """Whether the last of n + 1 episodes exceeds the limit drawn from the others, many times over."""
    rng = np.random.default_rng(seed)
    maxima = rng.normal(size=(15000, n + 1)) ** 2
    maxima = maxima if digits is None else maxima.round(digits)
    return np.array([row[-1] > limit_of(row[:-1]) for row in maxima])


@pytest.mark.parametrize(("n", "alpha", "exact"), [(19, 0.1, 0.1), (99, 0.01, 0.01), (30, 0.1, 3 / 31)])
def test_a_nominal_episode_alarms_exactly_as_often_as_promised(n, alpha, exact):
    hits = false_alarms(partial(threshold, alpha=alpha), n)
    assert abs(excess(hits, exact)) < Z
    assert exact <= alpha


def test_the_order_statistic_below_breaks_the_promise():  # negative control
    n, alpha = 19, 0.1
    hits = false_alarms(partial(rank_threshold, rank=18), n)
    assert abs(excess(hits, alpha)) < Z, "rank 18 of 19 is the right one"
    assert excess(false_alarms(partial(rank_threshold, rank=17), n), alpha) > Z


def test_ties_only_make_false_alarms_rarer():
    hits = false_alarms(partial(threshold, alpha=0.1), 19, digits=0)
    assert excess(hits, 0.1) < -Z


@pytest.mark.parametrize(("alpha", "needed"), [(0.34, 2), (0.05, 19), (0.01, 99), (0.03, 33), (0.005, 199)])
def test_the_fewest_episodes_suffice_and_one_less_does_not(alpha, needed):
    assert episodes_needed(alpha) == needed
    assert threshold(np.arange(needed), alpha) == needed - 1
    with pytest.raises(CalibrationError, match=rf"at least {needed} .* received {needed - 1}; collect more"):
        threshold(np.arange(needed - 1), alpha)


def test_alpha_counts_as_it_is_written():
    assert 0.29 * 100 < 29, "floats fall short"
    assert threshold(np.arange(99), 0.29) == 99 - 29


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan")])
def test_an_alpha_that_is_no_rate_is_refused(alpha):
    with pytest.raises(MonitorError, match="expected a rate between 0 and 1"):
        episodes_needed(alpha)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(bad):
    values = np.ones(99)
    values[3] = bad
    with pytest.raises(CalibrationError, match=r"NaN or infinity in 1 of 99"):
        threshold(values, 0.01)
    with pytest.raises(CalibrationError, match="NaN or infinity"):
        p_values([1.0, 2.0], [bad])


@given(some_numbers, some_numbers)
def test_p_values_count_what_is_at_least_as_strange(calibration, scores):
    p = p_values(calibration, scores)
    expected = [(1 + sum(c >= s for c in calibration)) / (len(calibration) + 1) for s in scores]
    np.testing.assert_allclose(p, expected, rtol=1e-12)
    assert ((p > 0) & (p <= 1)).all()
    assert (np.diff(p[np.argsort(scores)]) <= 0).all()


@given(st.lists(st.integers(0, 8), min_size=9, max_size=40), numbers)
def test_a_p_value_is_small_exactly_above_the_threshold(calibration, score):
    small = p_values(calibration, score) <= 0.1
    assert bool(small) == (score > threshold(calibration, 0.1))


# frames


@given(st.lists(some_numbers, min_size=1, max_size=5), st.integers(-1, 9))
def test_frame_p_values_weigh_episodes_alike_whatever_their_length(episodes, score):
    tail = FrameTail.fit(episodes)
    shares = [np.mean(np.asarray(one) >= score) for one in episodes]
    assert tail.p_value(score) == pytest.approx((1 + sum(shares)) / (len(episodes) + 1))


def test_frame_p_values_of_many_frames_are_only_rounded_up():
    episodes = np.random.default_rng(0).normal(size=(20, 200))
    tail = FrameTail.fit(episodes)
    assert len(tail.knots) <= 256
    for score in (-9.0, -1.0, 0.0, 1.0, 2.0, 3.0, 9.0):
        exact = (1 + 20 * (episodes >= score).mean()) / 21
        assert exact * (1 - 1e-9) <= tail.p_value(score) <= exact * 1.05


@given(st.lists(some_numbers, min_size=9, max_size=12))
def test_frame_p_values_are_small_exactly_above_the_limit(episodes):
    tail = FrameTail.fit(episodes)
    limit = tail.limit(0.1)
    assert tail.p_value(np.nextafter(limit, np.inf)) <= 0.1 < tail.p_value(limit)


def gate_rates(limit_of, repetitions: int = 3000) -> np.ndarray:
    """Share of the frames of a new episode above a limit from 9 others; frames of one are alike."""
    rng = np.random.default_rng(1)
    frames = rng.normal(size=(repetitions, 10, 1)) + 0.1 * rng.normal(size=(repetitions, 10, 20))
    return np.array([np.mean(one[-1] > limit_of(one[:-1])) for one in frames])


def test_frames_that_are_alike_keep_the_promise_of_the_gate():
    rates = gate_rates(lambda others: FrameTail.fit(others).limit(0.15))
    assert rates.mean() < 0.15 + Z * rates.std() / np.sqrt(len(rates))


def test_pooling_frames_as_if_independent_breaks_it():  # negative control
    rates = gate_rates(lambda others: threshold(others.ravel(), 0.15))
    assert rates.mean() > 0.15 + Z * rates.std() / np.sqrt(len(rates))


# evidence


def nominal(rng: np.random.Generator, steps: int = 20) -> dict[str, np.ndarray]:
    """An episode of three kinds of score: noise, constant within the episode, slowly wandering."""
    level = rng.normal() + 0.1 * rng.normal(size=steps)
    wander = fading_mean(rng.normal(size=(steps, 1)), 5.0)[:, 0]
    return {"level": level, "noise": rng.normal(size=steps), "wander": wander}


def nominals(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [nominal(rng) for _ in range(count)]


FITTING, HELD_OUT = nominals(200, 10), nominals(120, 11)
CALIBRATION = calibrate(FITTING, HELD_OUT, fingerprint="abc")
USUAL = {"level": 0.0, "noise": 0.0, "wander": 0.0}


def test_levels_are_0_at_the_median_and_1_at_what_few_maxima_exceed():
    evidence = Evidence.fit(FITTING, 0.05, 8.0)
    levels = [evidence.levels(np.stack([one[name] for name in evidence.scores], -1)) for one in FITTING]
    np.testing.assert_allclose(np.median(np.concatenate(levels), axis=0), 0, atol=1e-12)
    above = np.mean([one.max(axis=0) > 1 for one in levels], axis=0)
    np.testing.assert_allclose(above, 0.05, atol=1e-12)


def test_the_mean_of_a_constant_level_approaches_it_geometrically():
    means = fading_mean(np.full((30, 1), 1.5), 8.0)[:, 0]
    np.testing.assert_allclose(means, 1.5 * (1 - (7 / 8) ** np.arange(1, 31)))
    assert fading_mean(np.full((500, 1), 1e9), 8.0).max() <= CAP


@settings(max_examples=20)
@given(st.floats(0.1, 100), st.floats(-100, 100))
def test_units_of_a_score_do_not_matter(scale, shift):
    other = [{name: scale * values + shift for name, values in one.items()} for one in FITTING]
    one, two = Evidence.fit(FITTING, 0.05, 8.0), Evidence.fit(other, 0.05, 8.0)
    np.testing.assert_allclose(two.ceiling, one.ceiling, rtol=1e-6)
    np.testing.assert_allclose(two.excess, one.excess, rtol=1e-5)
    np.testing.assert_allclose(two.levels(scale * np.ones(3) + shift), one.levels(np.ones(3)), rtol=1e-6)


def test_a_strength_grows_by_1_for_every_mean_excess_over_what_few_maxima_exceed():
    """Of exponential maxima the mean excess is the mean, over any limit."""
    rng = np.random.default_rng(20)
    draws = rng.exponential([1.0, 5.0], (20_000, 2))
    evidence = Evidence.fit([{"a": [a], "b": [b]} for a, b in draws], 0.1, 1e9)
    for shares in (3.0, 4.0, 6.0):
        levels = evidence.levels(shares * np.array([1.0, 5.0]))
        strengths = evidence.strengths(levels, np.zeros(2))[:2]
        np.testing.assert_allclose(strengths, 1 + shares - np.log(10), rtol=0.05)


def test_a_score_that_never_passes_its_limit_is_not_infinitely_sure():
    flat_topped = [{"flat": np.minimum(one["noise"], 1.0)} for one in FITTING]
    evidence = Evidence.fit(flat_topped, 0.1, 8.0)
    assert evidence.excess[0] == pytest.approx(LEAST_EXCESS)


def with_a_heavy_tail(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Beside a tame score one that goes far astray in an episode out of some ten."""
    rng = np.random.default_rng(seed)
    tame, astray = rng.normal(size=(count, 20)), 2.0 * rng.pareto(1.5, size=(count, 1))
    return [{"tame": one, "wild": rng.normal(size=20) + far} for one, far in zip(tame, astray, strict=True)]


def alarms_on_tame(calibration: Calibration) -> float:
    monitor = Monitor(calibration)
    shifted = [{**one, "tame": one["tame"] + 4.0} for one in with_a_heavy_tail(50, 23)]
    return float(np.mean([monitor.watch(one)[-1].alarm for one in shifted]))


def test_the_tail_of_one_score_does_not_blunt_another():
    fitting, held_out = with_a_heavy_tail(100, 21), with_a_heavy_tail(120, 22)
    calibration = calibrate(fitting, held_out)
    assert alarms_on_tame(calibration) > 0.9
    data = calibration.to_dict()  # negative control: the same without tails
    levels = [calibration.evidence.levels(np.stack([one["tame"], one["wild"]], -1)) for one in held_out]
    data["evidence"]["excess"] = data["evidence"]["ceiling"]
    plain = Calibration.from_dict(data)
    strengths = [plain.evidence.strengths(one, plain.evidence.means(one)).max() for one in levels]
    assert alarms_on_tame(replace(plain, maxima=tuple(strengths))) < 0.3


def test_a_constant_score_is_refused_by_name():
    constant = [{**one, "flat": np.ones(20)} for one in FITTING]
    with pytest.raises(CalibrationError, match=r"score 'flat': expected values that vary .* leave it out"):
        calibrate(constant, constant[:1] * 99)


def test_too_few_episodes_are_refused():
    with pytest.raises(CalibrationError, match=r"at least 19 fitting episodes for tail 0.05, received 18"):
        calibrate(FITTING[:18], HELD_OUT, MonitorConfig(tail=0.05))
    with pytest.raises(
        CalibrationError, match=r"at least 99 calibration episodes for alpha 0.01, received 98"
    ):
        calibrate(FITTING, HELD_OUT[:98])
    assert MonitorConfig().episodes_needed() == 99


def test_calibration_milder_than_fitting_is_refused():
    mild = [{name: 0.1 * values - 1 for name, values in one.items()} for one in HELD_OUT]
    with pytest.raises(CalibrationError, match="draw both from the same policy"):
        calibrate(FITTING, mild)


# alarm


CONFIG = MonitorConfig(alpha=0.1, alpha_gate=0.1, tail=0.05)


def pipeline_hits() -> tuple[np.ndarray, np.ndarray]:
    """Of many calibrations, each with a new episode: whether it alarmed, whether a frame had p <= alpha."""
    rng = np.random.default_rng(3)
    alarmed, any_frame = [], []
    evidence_from = [nominal(rng, 8) for _ in range(20)]
    for _ in range(500):
        monitor = Monitor(calibrate(evidence_from, [nominal(rng, 8) for _ in range(19)], CONFIG))
        verdicts = monitor.watch(nominal(rng, 8))
        alarmed.append(verdicts[-1].alarm)
        any_frame.append(min(verdict.p_value for verdict in verdicts) <= CONFIG.alpha)
    return np.array(alarmed), np.array(any_frame)


def test_the_whole_monitor_alarms_as_often_as_promised_and_frame_p_values_alone_would_not():
    alarmed, any_frame = pipeline_hits()
    assert abs(excess(alarmed, CONFIG.alpha)) < Z
    assert excess(any_frame, CONFIG.alpha) > Z, "negative control: frames thresholded, not running maxima"


def test_an_episode_that_begins_in_a_fault_alarms_on_its_first_frame():
    verdict = Monitor(CALIBRATION).update({**USUAL, "noise": 50.0})
    assert verdict.alarm
    assert not verdict.trusted
    assert verdict.lost == 1
    assert verdict.why.score == "noise"
    assert verdict.p_value == pytest.approx(1 / 121)


def test_what_lasts_alarms_though_no_frame_does():
    rng = np.random.default_rng(5)
    shifted = [{**one, "noise": one["noise"] + 1.2} for one in (nominal(rng, 100) for _ in range(20))]
    verdicts = [Monitor(CALIBRATION).watch(one)[-1] for one in shifted]
    assert np.mean([verdict.alarm for verdict in verdicts]) > 0.8
    assert {(v.why.score, v.why.lasting) for v in verdicts if v.alarm} >= {("noise", True)}


def test_the_alarm_stays_to_the_end_of_the_episode_with_its_reason_and_ends_with_it():
    monitor = Monitor(CALIBRATION)
    first = monitor.update({**USUAL, "noise": 50.0})
    later = [monitor.update(USUAL) for _ in range(60)]
    assert all(verdict.alarm for verdict in later)
    assert later[-1].trusted, "trust returns though the alarm stands"
    assert later[-1].why.score == first.why.score == "noise"
    assert np.all(np.diff([verdict.level for verdict in later]) >= 0)
    monitor.reset()
    assert not monitor.update(USUAL).alarm


def test_a_frame_that_is_held_adds_up_to_what_watching_it_gives():
    evidence = CALIBRATION.evidence
    levels = np.linspace(-3, 3, 21)[:, None] * np.array([1.0, 0.5, -0.2])
    for one, held in zip(levels, evidence.held(levels, 40), strict=True):
        again = np.repeat(one[None], 40, axis=0)
        watched = evidence.strengths(again, evidence.means(again)).max()
        # Evidence below nothing fades towards it as means do; only the highest counts for alarms.
        assert held == pytest.approx(watched) if watched > 0.2 else held <= 0.2


def resting(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Episodes in which the first frame of a moving one is seen all the time."""
    return [{name: np.full(20, values[0]) for name, values in one.items()} for one in nominals(count, seed)]


def test_a_robot_at_rest_alarms_as_rarely_as_promised_and_would_not_without_its_own_limit():
    fitting, held_out, episodes = nominals(200, 30), nominals(400, 31), resting(400, 32)
    hits = {}
    for scores in ((), ("level", "noise", "wander")):
        monitor = Monitor(calibrate(fitting, held_out, CONFIG, resting=scores))
        hits[scores] = np.array([monitor.watch(one)[-1].alarm for one in episodes])
    limited, plain = hits["level", "noise", "wander"], hits[()]
    assert excess(limited, CONFIG.alpha) < Z
    assert excess(plain, CONFIG.alpha) > Z, "negative control: the limit of moving episodes alone"


def test_where_an_episode_ends_up_is_no_place_to_rest_in():
    """A pendulum that falls is strange at last, and never rests there: it does not blunt the alarm."""
    names = ("level", "noise", "wander")
    fallen = [{name: np.append(values[:-1], 50.0) for name, values in one.items()} for one in HELD_OUT]
    own, after = (calibrate(FITTING, episodes, resting=names) for episodes in (HELD_OUT, fallen))
    assert after.held == own.held
    assert after.maxima > own.maxima, "negative control: moving there counts"


def test_what_does_not_rest_is_taken_to_be_usual():
    """One score that a resting robot does not repeat, whatever it was in the frame, sets no limit."""
    wild = [{**one, "noise": 50.0 * one["noise"]} for one in HELD_OUT]
    plain = calibrate(FITTING, HELD_OUT, resting=("level", "wander"))
    assert calibrate(FITTING, wild, resting=("level", "wander")).held == plain.held
    assert calibrate(FITTING, wild, resting=("noise",)).held != plain.held


def test_the_calibration_episodes_above_the_limit_are_told():
    assert CALIBRATION.above == sum(Monitor(CALIBRATION).watch(one)[-1].alarm for one in HELD_OUT) == 0
    assert calibrate(FITTING, HELD_OUT, MonitorConfig(alpha=0.1)).above == 11  # the limit is the 12th highest


def test_frame_by_frame_gives_exactly_the_maxima_of_calibration():
    monitor = Monitor(CALIBRATION)
    for one, maximum in zip(HELD_OUT, CALIBRATION.maxima, strict=True):
        level = monitor.watch(one)[-1].level
        assert level == maximum / CALIBRATION.threshold


def test_scores_are_stateless_and_those_of_verdicts():
    monitor = Monitor(CALIBRATION)
    scores = [verdict.score for verdict in monitor.watch(HELD_OUT[0])]
    np.testing.assert_array_equal(monitor.score(HELD_OUT[0]), scores)


def test_bad_scores_are_refused_by_name():
    monitor = Monitor(CALIBRATION)
    with pytest.raises(MonitorError, match="score 'noise': expected finite numbers, received NaN"):
        monitor.update({**USUAL, "noise": float("nan")})
    with pytest.raises(MonitorError, match="expected level, noise, wander, received level, noise; calibrate"):
        monitor.update({"level": 0.0, "noise": 0.0})
    with pytest.raises(MonitorError, match="received extra, level, noise, wander"):
        monitor.update({**USUAL, "extra": 0.0})
    with pytest.raises(MonitorError, match="score 'noise': expected one number a frame"):
        monitor.score({**{name: np.zeros(3) for name in USUAL}, "noise": np.zeros(4)})


# gate


@given(st.lists(st.floats(0, 2), max_size=60))
def test_trust_is_lost_at_once_and_returns_in_bounded_time(scores):
    gate = Gate(limit=1.0, release=0.5, release_steps=3, deadline=6)
    trusted = [gate.update(score) for score in scores]
    for at, score in enumerate(scores):
        last = np.array(scores[: at + 1])
        crossings = np.flatnonzero(last > 1.0)
        since = at - crossings[-1] if crossings.size else np.inf
        assert not (score > 1.0 and trusted[at])
        if since == np.inf or since >= 6:
            assert trusted[at], "never lost, or the deadline has passed"
        elif since < 3:
            assert not trusted[at], "too soon"
        else:
            calm = (last[crossings[-1] + 1 :] <= 0.5).astype(int)
            assert trusted[at] == ("111" in "".join(map(str, calm)))


def test_without_a_deadline_hovering_scores_withhold_trust_for_ever():  # negative control
    gate = Gate(limit=1.0, release=0.5, release_steps=3, deadline=10**9)
    assert not any(gate.update(score) for score in [1.5] + [0.9] * 1000)
    assert gate.lost == 1001


def test_the_gate_stops_few_nominal_frames():
    monitor = Monitor(CALIBRATION)
    crossed = [v.score > monitor.gate.limit for one in nominals(200, 12) for v in monitor.watch(one)]
    assert np.mean(crossed) < 2 * CALIBRATION.config.alpha_gate


# drift


def ever_reaches(p: np.ndarray, limit: float, bet=stake) -> np.ndarray:
    """Whether the wealth of each sequence of p-values (R, N) ever reaches a limit."""
    wealth, reached = np.zeros((len(p), len(EXPONENTS))), np.zeros(len(p), bool)
    for turn in range(1, p.shape[1] + 1):
        wealth = bet(wealth, p[:, turn - 1], turn)
        reached |= wealth.sum(axis=1) + 1 / (turn + 1) >= limit
    return reached


UNIFORM = 1 - np.random.default_rng(6).random((6000, 300))


def test_wealth_on_uniform_p_values_reaches_1_over_alpha_with_a_chance_of_alpha_at_most():
    reached = ever_reaches(UNIFORM, 20.0)
    assert excess(reached, 0.05) < Z
    assert reached.any(), "vacuous: nothing was ever won"


def test_bets_that_pay_too_much_are_caught():  # negative control
    generous = ever_reaches(UNIFORM, 20.0, lambda wealth, p, turn: 1.1 * stake(wealth, p, turn))
    assert excess(generous, 0.05) > Z


def test_wealth_is_a_martingale():
    """Its mean over p, exactly: of e p^(e - 1) it is 1, by the substitution u = p^e."""
    wealth = np.array([0.3, 0.1, 0.2, 0.5])
    u = (np.arange(1000) + 0.5) / 1000
    for index, exponent in enumerate(EXPONENTS):
        bet = stake(wealth, u ** (1 / exponent), 4)[:, index]
        density = u ** (1 / exponent - 1) / exponent  # dp/du
        assert np.mean(bet * density) == pytest.approx(wealth[index] + 1 / (4 * 5 * 4))


def drifts(drift: Drift, maxima: np.ndarray) -> int | None:
    """Episodes until drift is reported."""
    return next((count for count, one in enumerate(maxima, 1) if drift.update(float(one))), None)


def test_nominal_episodes_seldom_drift():
    rng = np.random.default_rng(7)
    runs = [drifts(Drift(rng.normal(size=19), 0.05), rng.normal(size=80)) for _ in range(300)]
    assert excess(np.array([episodes is not None for episodes in runs]), 0.05) < Z


def test_ranks_among_the_calibration_episodes_alone_would_drift_by_themselves():  # negative control
    """What `Drift` avoids: an unlucky calibration set is unlucky for every episode to come."""
    rng = np.random.default_rng(7)
    calibration, episodes = rng.normal(size=(2000, 20)), rng.normal(size=(2000, 1500))
    alone = np.array([p_values(known, row) for known, row in zip(calibration, episodes, strict=True)])
    assert excess(ever_reaches(alone, 20.0), 0.05) > Z


@pytest.mark.parametrize("before", [0, 400])
def test_a_shift_is_reported_within_a_few_episodes_however_late(before):
    rng = np.random.default_rng(8)
    delays = []
    for _ in range(10):
        drift = Drift(rng.normal(size=100), 0.01)
        assert drifts(drift, rng.normal(size=before)) is None
        delays.append(drifts(drift, 3 + rng.normal(size=50)))
    assert max(delays) <= 12


def test_ties_make_no_drift():
    assert drifts(Drift(np.ones(19), 0.05), np.ones(500)) is None


def test_the_monitor_counts_an_episode_when_the_next_begins_and_keeps_reporting():
    monitor = Monitor(CALIBRATION)
    monitor.reset()
    assert monitor.drift.episodes == 0, "an episode without frames does not count"
    strange = {name: values + 30 for name, values in HELD_OUT[0].items()}
    for _ in range(6):
        assert monitor.watch(strange)[0].drift == monitor.drift.alarm
    assert monitor.watch(HELD_OUT[0])[0].drift
    assert monitor.drift.wealth >= 100


# verdict


def test_why_is_one_line():
    why = Why("surprise", 7.2, dims=(3, 11), region=(0, 16, 8, 32), place="upper left")
    expected = "surprise 7.2x its limit, upper left (rows 0-15, columns 8-31); latents 3, 11"
    assert str(why) == expected
    assert str(Why("innovation", 1.0, lasting=True)) == "innovation 1.0x its limit for some time"


def test_a_verdict_says_where_and_is_json():
    where, dims = np.zeros((8, 8)), np.zeros(12)
    where[:2, 1:4] = 5.0
    dims[[3, 11]] = 2.0, 1.5
    monitor = Monitor(CALIBRATION, frame=(64, 64))
    quiet = monitor.update(USUAL, where, dims)
    assert (quiet.why.region, quiet.why.dims) == (None, ())
    data = json.loads(json.dumps(monitor.update({**USUAL, "noise": 50.0}, where, dims).to_dict()))
    assert data["why"]["region"] == [0, 16, 8, 32]
    assert data["why"]["dims"] == [3, 11]
    assert data["why"]["text"].endswith("upper left (rows 0-15, columns 8-31); latents 3, 11")
    assert data["alarm"] is True


@pytest.mark.parametrize(
    ("region", "place"),
    [
        ((0, 64, 0, 64), "everywhere"),
        ((28, 36, 28, 36), "centre"),
        ((48, 64, 0, 16), "lower left"),
        ((28, 36, 60, 64), "middle right"),
        ((0, 4, 0, 64), "upper centre"),
    ],
)
def test_places_have_names(region, place):
    assert place_of(region, (64, 64)) == place


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_a_region_lies_in_the_frame_and_holds_the_strangest_cell(height, width, seed):
    where = np.random.default_rng(seed).random((height, width))
    top, bottom, left, right = strangest_region(where)
    row, column = np.unravel_index(where.argmax(), where.shape)
    assert 0 <= top <= row < bottom <= height
    assert 0 <= left <= column < right <= width


def test_maps_and_dims_that_are_none_are_refused():
    with pytest.raises(MonitorError, match="where: expected a finite map"):
        strangest_region(np.full((2, 2), np.nan))
    with pytest.raises(MonitorError, match="dims: expected a finite number a latent"):
        strangest_dims(np.zeros((2, 2)))
    assert strangest_dims([5.0, 1.0, 4.0, 3.0, 6.0]) == (4, 0, 2)
    assert strangest_dims([0.0, 0.0]) == ()


# file


def test_a_calibration_survives_its_file_and_decides_alike(tmp_path):
    path = CALIBRATION.save(tmp_path / "monitor.json")
    again = Calibration.load(path, fingerprint="abc")
    assert again == CALIBRATION
    episode = nominals(1, 20)[0]
    assert Monitor(again).watch(episode) == Monitor(CALIBRATION).watch(episode)


def test_a_monitor_of_other_weights_is_refused(tmp_path):
    path = CALIBRATION.save(tmp_path / "monitor.json")
    with pytest.raises(MonitorError, match=r"of the model, sigma and filter .* run `robovae calibrate"):
        Calibration.load(path, fingerprint="abd")
    with pytest.raises(MonitorError, match=r"expected a calibrated monitor, received none; run `robovae"):
        Calibration.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"format": 99}, "expected format 6, received 99; run `robovae calibrate`"),
        ({"format": 4}, "expected format 6, received 4; run `robovae calibrate`"),
        ({"maxima": [1.0] * 98}, "at least 99 calibration episodes"),
        ({"longst": 3}, "unknown key 'longst'; did you mean 'longest'"),
        ({"config": {"alpha": 2.0}}, "alpha: expected a rate between 0 and 1, received 2.0"),
        ({"frames": {"knots": [], "shares": [], "episodes": 99}}, "expected a share for each knot"),
    ],
)
def test_a_file_that_was_edited_wrongly_is_refused(edit, message):
    with pytest.raises((MonitorError, ConfigError), match=message):
        Calibration.from_dict({**CALIBRATION.to_dict(), **edit})


def test_a_missing_number_of_a_score_is_refused():
    data = CALIBRATION.to_dict()
    data["evidence"]["excess"] = data["evidence"]["excess"][:5]
    with pytest.raises(ConfigError, match="for each of 3 scores"):
        Calibration.from_dict(data)


@pytest.mark.parametrize(
    ("part", "number"), [("limit", float("nan")), ("limit", -1e9), ("excess", -1.0), ("ceiling", 0.0)]
)
def test_a_scale_that_no_score_can_be_measured_by_is_refused(part, number):
    """It would tell no frame from another: silence where an alarm is due."""
    data = CALIBRATION.to_dict()
    data["evidence"][part] = [number, *data["evidence"][part][1:]]
    with pytest.raises(ConfigError, match=r"expected finite scales.*run `robovae calibrate`"):
        Calibration.from_dict(data)


@pytest.mark.parametrize("knots", [(2.0, 1.0), (1.0, float("nan"))])
def test_knots_out_of_order_are_refused(knots):
    with pytest.raises(CalibrationError, match="expected rising knots"):
        FrameTail(knots, (0.5, 0.0), 99)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpha_gate": 0.0}, "alpha_gate: expected a rate"),
        ({"memory": 0.5}, "memory: expected at least 1 frame"),
        ({"release": 1.5}, "release: expected a share of the limit"),
        ({"release_steps": 11}, "release_steps: expected 1 to deadline = 5, received 11"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(MonitorError, match=message):
        MonitorConfig(**values)


def test_a_fingerprint_is_that_of_the_bytes(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"abc")
    assert fingerprint_of(weights).startswith("ba7816bf")
    with pytest.raises(MonitorError, match="expected weights, received No such file"):
        fingerprint_of(tmp_path / "none")
