"""The guard: who acts when, what the policy sees, and that nothing but a valid action reaches the robot."""

import json
import math
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robovae.belief import Belief, Perceiver
from robovae.collect.policies import rest_action
from robovae.control import BeliefFeatures, ControlError, Guard
from robovae.control.fallbacks import Actions
from robovae.dynamics import FilterDynamics
from robovae.episodes import write_episode
from robovae.filter import BeliefFilter, save_dynamics
from robovae.frames import FrameError
from robovae.gaussian import Gaussian
from robovae.monitor import Verdict
from robovae.run.directory import RunFacts, build_model, save_model
from robovae.run.files import SCORING, run_digest
from robovae.tracker import Tracker
from robovae.uncertainty import SCORES, FrameMonitor, NotCalibratedError
from robovae.uncertainty.model import Insight
from robovae.uncertainty.watch import TorchWatch
from robovae.vae import ModelConfig
from tests.test_train import toy_episode
from tests.toy_beliefs import calibrate_with, make_filter

LATENTS = ModelConfig.tiny().latent_dim
BOX = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
FACTS = RunFacts((16, 16, 3), 2, "Toy-v0", None)
LETTERS = {"p": "policy", "c": "coast", "f": "fallback"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated run of an untrained model, with a filter."""
    data, path = tmp_path_factory.mktemp("toy"), tmp_path_factory.mktemp("run")
    for seed in (*range(16), *range(10_000, 10_012)):
        write_episode(data, toy_episode(seed))
    torch.manual_seed(5)
    save_model(path, build_model(ModelConfig.tiny(), FACTS))
    calibrate_with(make_filter(LATENTS, 2).dynamics, path, data)
    return path


def frames_of(count: int, seed: int = 20_000) -> np.ndarray:
    return toy_episode(seed, count + 1).image[:count]


class Spy:
    """A policy that remembers what it saw, and gives another action for whatever it sees."""

    def __init__(self, width: int = 2) -> None:
        self.seen: list[np.ndarray] = []
        self.width = width

    def __call__(self, features: np.ndarray) -> np.ndarray:
        self.seen.append(features.copy())
        return np.tanh(features[: self.width] + features.sum())


def guard_of(run: Path, policy=None, fallback="zero", *, filtered: bool = True, **settings) -> Guard:
    settings.setdefault("features", "filtered" if filtered else "mu")
    settings.setdefault("action_space", BOX)
    settings.setdefault("heed", 0.0)  # so that the flags alone decide
    perceiver, monitor, belief_filter = parts_of(run)
    policy = Spy() if policy is None else policy
    return Guard(policy, perceiver, monitor, belief_filter if filtered else None, fallback, **settings)


@cache
def parts_of(run: Path) -> tuple[Perceiver, FrameMonitor, BeliefFilter]:
    """Read once: a guard begins with a reset."""
    return Perceiver.load(run), FrameMonitor.load(run), BeliefFilter.load(run)


def drive(guard: Guard, flags: str, seed: int = 20_000) -> list[np.ndarray]:
    """Act once for each letter: t trusted, u untrusted."""
    frames = frames_of(len(flags), seed)
    return [guard.act(frame, flag == "t")[0] for frame, flag in zip(frames, flags, strict=True)]


def modes(guard: Guard) -> str:
    return "".join(step.mode[0] for step in guard.steps)


class Scripted(FrameMonitor):
    """The monitor of a run, whose gate follows a script."""

    script = ""
    stands_still: bool | None = None

    def update(self, frame, action=None) -> Verdict:
        flag, self.script = self.script[0], self.script[1:]
        verdict = replace(super().update(frame, action), trusted=flag == "t")
        self.is_still = self.is_still if self.stands_still is None else self.stands_still
        return verdict


# who acts

SEQUENCES = [
    ("ttttt", "ppppp", 3, True),
    ("tuut", "pccp", 3, True),
    ("tuuut", "pcccp", 3, True),
    ("tuuuut", "pcccfp", 3, True),
    ("tuuuuuutut", "pcccfffpcp", 3, True),
    ("uut", "ffp", 3, True),  # nothing has been seen that could be carried on
    ("uuuuut", "fffffp", 3, True),
    ("tut", "pfp", 0, True),
    ("tuut", "pffp", 3, False),  # no filter to coast on
]


@pytest.mark.parametrize(("flags", "expected", "horizon", "filtered"), SEQUENCES)
def test_who_acts(run, flags, expected, horizon, filtered) -> None:
    guard = guard_of(run, horizon=horizon, filtered=filtered)
    drive(guard, flags)
    assert modes(guard) == expected
    assert guard.mode == LETTERS[expected[-1]]
    assert [step.trusted for step in guard.steps] == [flag == "t" for flag in flags]


ALIKE = [row for row in SEQUENCES if row[0].startswith("t")]
FROM_THE_START = [
    ("uut", "pcp", 3, True),  # a robot that rests sees the mistrusted frame again and again
    ("uuuuut", "pcccfp", 3, True),
    ("uut", "ffp", 0, True),
    ("uut", "ffp", 3, False),  # no filter that could weigh it
]


@pytest.mark.parametrize(("flags", "expected", "horizon", "filtered"), [*ALIKE, *FROM_THE_START])
def test_the_gate_decides_as_the_caller_would_but_on_the_first_frame(
    run, flags, expected, horizon, filtered
) -> None:
    belief_filter = BeliefFilter.load(run) if filtered else None
    kind = "filtered" if filtered else "mu"
    monitor = Scripted.load(run)
    guard = Guard(
        Spy(),
        Perceiver.load(run),
        monitor,
        belief_filter,
        horizon=horizon,
        heed=0.0,
        features=kind,
        action_space=BOX,
    )
    monitor.script = flags
    for frame in frames_of(len(flags)):
        guard.act(frame)
    assert modes(guard) == expected


@pytest.mark.parametrize(
    ("heed", "still", "filtered", "expected"),
    [
        (1.0, False, True, "ppppp"),
        (1.0, True, True, "pcccp"),
        (0.0, False, True, "pcccp"),
        (1.0, False, False, "pfffp"),
    ],
)
def test_a_strange_frame_that_says_something_is_weighed(run, heed, still, filtered, expected) -> None:
    belief_filter = BeliefFilter.load(run) if filtered else None
    kind = "filtered" if filtered else "mu"
    monitor = Scripted.load(run)
    monitor.script, monitor.stands_still = "tuuut", still
    settings = {"heed": heed, "features": kind, "action_space": BOX}
    guard = Guard(Spy(), Perceiver.load(run), monitor, belief_filter, **settings)
    for frame in frames_of(5):
        guard.act(frame)
    assert modes(guard) == expected
    assert [step.trusted for step in guard.steps] == [True, False, False, False, True]


def test_past_the_horizon_only_a_trusted_frame_hands_control_back(run) -> None:
    monitor = Scripted.load(run)
    monitor.script = "tuuuuuut"
    settings = {"heed": 1.0, "features": "filtered", "action_space": BOX, "horizon": 2}
    guard = Guard(Spy(), Perceiver.load(run), monitor, BeliefFilter.load(run), **settings)
    for index, frame in enumerate(frames_of(8)):
        monitor.stands_still = index < 4  # from then on every frame says something, and is still mistrusted
        guard.act(frame)
    assert modes(guard) == "pccffffp"


def test_the_gate_of_a_run_shuts_noise_out_and_opens_again(run) -> None:
    guard = guard_of(run, horizon=3)
    frames = frames_of(24).copy()
    frames[8:11] = np.random.default_rng(0).integers(0, 256, frames[8:11].shape)
    verdicts = [guard.act(frame)[1] for frame in frames]
    shut = [not verdict.trusted for verdict in verdicts]
    assert all(shut[8:11])
    assert modes(guard)[8:11] == "ccc"
    assert modes(guard)[-1] == "p"
    assert [step.trusted for step in guard.steps] == [verdict.trusted for verdict in verdicts]


def test_a_disabled_guard_is_the_policy_alone(run) -> None:
    for kind, stack in (("mu", 3), ("mu_sigma", 1), ("filtered", 1), ("filtered", 2)):
        spy = Spy()
        guard = guard_of(run, spy, features=kind, stack=stack, enabled=False, filtered=kind == "filtered")
        acted = drive(guard, "tuuuuuuuuuuuut")
        perceiver, plain = Perceiver.load(run), Spy()
        features = BeliefFeatures(LATENTS, kind, stack, BeliefFilter.load(run))
        for index, frame in enumerate(frames_of(len(acted))):
            belief = perceiver(frame[None])
            seen = features.update(belief, acted[index - 1][None]) if index else features.begin(belief)
            np.testing.assert_array_equal(acted[index], plain(seen[0]))
        assert set(modes(guard)) == {"p"}
        assert guard.summary()["interventions"] == 0
        assert guard.summary()["untrusted"] == 12  # it has seen them all the same


def test_a_disabled_guard_acts_as_belief_policy_does(run) -> None:
    policy = belief_policy(run)
    guard = Guard(
        policy, Perceiver.load(run), FrameMonitor.load(run), policy.belief_filter, enabled=False, horizon=2
    )
    for frame in frames_of(12):
        np.testing.assert_array_equal(guard.act(frame)[0], policy(frame))


# what the policy sees


def coasted(run: Path, flags: str, actions: list[np.ndarray], horizon: int) -> list[np.ndarray]:
    """What a filter, coasting by hand, shows."""
    belief_filter, perceiver = BeliefFilter.load(run), Perceiver.load(run)
    features, shown, gap = BeliefFeatures(LATENTS, "filtered", 1, belief_filter), [], horizon + 1
    for index, (frame, flag) in enumerate(zip(frames_of(len(flags)), flags, strict=True)):
        trusted = flag == "t"
        belief = perceiver(frame[None]) if trusted else belief_filter.silence()
        anew = trusted and gap > horizon
        seen = features.begin(belief) if anew else features.update(belief, actions[index - 1][None])
        gap = 0 if trusted else gap + 1
        shown.append(seen[0])
    return shown


@pytest.mark.parametrize("flags", ["tttt", "ttutuutt", "ttuuuutt"])
def test_the_policy_sees_what_the_filter_carries(run, flags) -> None:
    spy = Spy()
    guard = guard_of(run, spy, horizon=3)
    acted = drive(guard, flags)
    expected = [x for x, mode in zip(coasted(run, flags, acted, 3), modes(guard), strict=True) if mode != "f"]
    np.testing.assert_allclose(spy.seen, expected, atol=1e-6)


def test_after_the_horizon_the_belief_begins_anew_and_not_before(run) -> None:
    guard_of(run, spy_fresh := Spy(), horizon=2).act(frames_of(8)[7], True)
    for flags, anew in (("ttttuuut", True), ("tttttuut", False)):
        guard = guard_of(run, spy := Spy(), horizon=2)
        drive(guard, flags)
        assert np.allclose(spy.seen[-1], spy_fresh.seen[0], atol=1e-6) == anew


def test_beside_other_features_a_filter_runs_along(run) -> None:
    """Trusted frames are seen as they are, the others as the filter predicts them."""
    spy, belief_filter = Spy(), BeliefFilter.load(run)
    guard = Guard(
        spy, Perceiver.load(run), FrameMonitor.load(run), belief_filter, features="mu", action_space=BOX
    )
    acted = drive(guard, "tttuut")
    perceiver, frames = Perceiver.load(run), frames_of(6)
    for index, flag in enumerate("tttuut"):
        lone = perceiver(frames[index][None]) if flag == "t" else belief_filter.silence()
        filtered = belief_filter.update(lone, acted[index - 1] if index else None)
        np.testing.assert_allclose(
            spy.seen[index], (lone if flag == "t" else filtered).mu[0], atol=1e-5, rtol=1e-4
        )
    assert not np.allclose(spy.seen[3], spy.seen[2])


def test_a_stack_does_not_reach_across_a_gap_that_nobody_filtered(run) -> None:
    guard = guard_of(run, spy := Spy(), filtered=False, stack=2)
    drive(guard, "ttut")
    first, second = spy.seen[-1].reshape(2, LATENTS)
    np.testing.assert_array_equal(first, second)


def test_each_frame_is_encoded_once(run) -> None:
    class Counting(Perceiver):
        calls = 0

        def __call__(self, frames):
            self.calls += 1
            return super().__call__(frames)

    for calibrated, asked in ((None, 0), (False, 6)):
        perceiver = Counting.load(run, calibrated=calibrated)
        guard = Guard(Spy(), perceiver, FrameMonitor.load(run), features="mu_sigma", action_space=BOX)
        perceiver.calls = 0
        drive(guard, "tttttt")
        assert perceiver.calls == asked
        own = Perceiver.load(run, calibrated=calibrated)(frames_of(6))
        np.testing.assert_allclose([step.mu for step in guard.steps], own.mu, atol=1e-5)
        assert [step.sigma for step in guard.steps] == pytest.approx(own.sigma.mean(1).tolist(), rel=1e-4)


def test_any_callable_may_perceive(run) -> None:
    """Sigma replaced by a constant, as the benchmark has it."""
    perceiver = Perceiver.load(run)
    guard = Guard(
        Spy(),
        lambda frames: Belief(perceiver(frames).mu, np.full((1, LATENTS), 0.3, np.float32)),
        FrameMonitor.load(run),
        features="mu_sigma",
        action_space=BOX,
    )
    drive(guard, "tt")
    assert guard.steps[-1].sigma == pytest.approx(0.3)


# fallbacks


class Fixed:
    """Another policy."""

    def __init__(self, value: float) -> None:
        self.value = value

    def act(self, x: np.ndarray) -> np.ndarray:
        return np.full((len(x), 2), self.value, np.float32)


class Learnt:
    """As Stable-Baselines3 has it."""

    def predict(self, observation, deterministic=False):
        assert deterministic
        return np.full(2, 0.25, np.float32), None


@pytest.mark.parametrize(
    ("fallback", "expected"),
    [
        ("zero", np.zeros(2)),
        (lambda features: np.array([0.5, -0.5]), [0.5, -0.5]),
        (Fixed(0.75), [0.75, 0.75]),
        (Learnt(), [0.25, 0.25]),
        (lambda features: [7, -7], [1.0, -1.0]),  # clipped to the bounds
    ],
    ids=["zero", "callable", "act", "predict", "too much"],
)
def test_fallbacks(run, fallback, expected) -> None:
    guard = guard_of(run, fallback=fallback, horizon=1)
    acted = drive(guard, "tuu")
    np.testing.assert_allclose(acted[2], expected)
    assert acted[2].dtype == np.float32
    assert not guard.steps[-1].problem


def test_hold_goes_on_with_the_last_action_and_rests_without_one(run) -> None:
    guard = guard_of(run, fallback="hold", horizon=1)
    acted = drive(guard, "utuuu")
    np.testing.assert_array_equal(acted[0], rest_action(BOX))
    np.testing.assert_array_equal(acted[3], acted[2])
    np.testing.assert_array_equal(acted[4], acted[2])


def test_a_fallback_policy_sees_the_belief_coast_on(run) -> None:
    fallback = Spy()
    guard = guard_of(run, fallback=fallback, horizon=1)
    acted = drive(guard, "ttuuu")
    expected = coasted(run, "ttuuu", acted, 9)
    np.testing.assert_allclose(fallback.seen, expected[3:], atol=1e-6)


def broken(features: np.ndarray) -> np.ndarray:
    raise RuntimeError("no arm")


@pytest.mark.parametrize(
    ("fallback", "said"),
    [
        (broken, "RuntimeError: no arm"),
        (lambda features: np.array([np.inf, 0.0]), "finite"),
        (lambda features: np.zeros(3), r"\(3,\)"),
        (lambda features: None, r"expected the shape \(2,\)"),
        (lambda features: "left", "received str"),
    ],
    ids=["raises", "inf", "shape", "None", "str"],
)
def test_a_fallback_that_fails_makes_the_robot_rest(run, fallback, said) -> None:
    guard = guard_of(run, fallback=fallback, horizon=0)
    np.testing.assert_array_equal(drive(guard, "tu")[1], np.zeros(2))
    assert re.search(said, guard.steps[1].problem)
    assert guard.steps[1].alarm
    assert guard.summary()["problems"] == 1


# actions of the policy


@pytest.mark.parametrize(
    "bad",
    [
        np.array([np.nan, 0.0]),
        np.array([0.0, -np.inf]),
        np.zeros(3),
        np.zeros((1, 2)),
        None,
        "left",
        [[1], 2],
    ],
    ids=["nan", "inf", "long", "batched", "None", "str", "ragged"],
)
def test_a_bad_action_is_held_counted_and_noted(run, bad) -> None:
    good = np.array([0.5, -0.25], np.float32)
    answers = [good, bad, bad, good]
    guard = guard_of(run, lambda features: answers[len(guard.steps)])
    acted = drive(guard, "tttt")
    np.testing.assert_array_equal(acted, [good] * 4)
    assert [bool(step.problem) for step in guard.steps] == [False, True, True, False]
    assert [step.alarm for step in guard.steps][1]
    assert guard.steps[1].problem.startswith("policy: expected ")
    assert guard.summary()["interventions"] == guard.summary()["problems"] == 2


def test_a_policy_that_stays_broken_gives_way_to_the_fallback(run) -> None:
    nothing = np.full(2, np.nan)
    guard = guard_of(run, lambda features: np.ones(2) if not guard.steps else nothing, Fixed(0.5), horizon=2)
    acted = drive(guard, "ttttt")
    np.testing.assert_array_equal(np.array(acted)[:, 0], [1, 1, 1, 0.5, 0.5])
    assert modes(guard) == "pppff"
    alone = guard_of(run, lambda features: nothing, Fixed(0.5), horizon=2, enabled=False)
    np.testing.assert_array_equal(drive(alone, "ttttt"), np.zeros((5, 2)))
    assert modes(alone) == "ppppp"


def test_what_the_policy_raises_it_raises(run) -> None:
    with pytest.raises(RuntimeError, match="no arm"):
        drive(guard_of(run, broken), "t")


JUNK = st.one_of(
    st.none(),
    st.text(max_size=2),
    st.integers(),
    st.floats(),
    st.lists(st.floats(), max_size=3),
    st.tuples(st.floats(), st.floats()).map(np.array),
    st.tuples(st.floats(width=32), st.floats(width=32)).map(lambda two: np.array(two, np.float32)),
    st.just(np.array([1e308, -1e308])),
)
SPACES = [
    BOX,
    gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
    gym.spaces.Box(np.array([0.5, -2.0]), np.array([1.0, np.inf]), dtype=np.float64),
]


@pytest.mark.parametrize("space", SPACES, ids=["bounded", "unbounded", "no zero"])
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_nothing_but_actions_of_the_space_reaches_the_robot(run, space, data) -> None:
    flags = data.draw(st.lists(st.booleans(), min_size=3, max_size=6))
    kind = data.draw(st.sampled_from(["mu", "filtered"]))
    guard = guard_of(
        run,
        lambda features: data.draw(JUNK),
        lambda features: data.draw(JUNK),
        horizon=data.draw(st.integers(0, 2)),
        action_space=space,
        features=kind,
        filtered=True,
        enabled=data.draw(st.booleans()),
    )
    for frame, flag in zip(frames_of(len(flags)), flags, strict=True):
        action, _ = guard.act(frame, flag)
        assert space.contains(action)
        assert np.isfinite(action).all()


@given(JUNK)
def test_choices_are_checked_too(action) -> None:
    actions = Actions(gym.spaces.Discrete(3, start=1))
    found, problem = actions.check(action)
    assert (found is None) == bool(problem)
    assert found is None or (type(found) is int and 1 <= found <= 3)
    assert actions.check(np.int64(2)) == (2, "")
    assert actions.check(np.array([3])) == (3, "")
    assert actions.row(2).shape == (1, actions.size)
    assert actions.rest == 1


def test_a_caller_cannot_change_what_is_held(run) -> None:
    guard = guard_of(run, fallback="hold", horizon=0)
    action, _ = guard.act(frames_of(1)[0], True)
    kept = action.copy()
    action[:] = 9.0
    np.testing.assert_array_equal(guard.act(frames_of(2)[1], False)[0], kept)


# records, episodes


def test_every_step_is_recorded(run) -> None:
    guard = guard_of(run, horizon=1)
    acted = drive(guard, "ttuut")
    assert [step.step for step in guard.steps] == [0, 1, 2, 3, 4]
    assert [step.coasted for step in guard.steps] == [0, 0, 1, 2, 0]
    np.testing.assert_array_equal([step.action for step in guard.steps], acted)
    assert all(step.mu.shape == (LATENTS,) and 0 < step.sigma <= 1 for step in guard.steps)
    assert guard.summary() == {
        "steps": 5,
        "policy": 3,
        "coast": 1,
        "fallback": 1,
        "untrusted": 2,
        "problems": 0,
        "interventions": 2,
        "longest": 2,
        "alarm": any(step.verdict.alarm for step in guard.steps),
    }
    plain = json.loads(json.dumps([step.to_dict() for step in guard.steps]))
    assert plain[2]["mode"] == "coast"
    assert plain[2]["verdict"]["why"]["text"]
    assert "disabled" in repr(guard_of(run, enabled=False))
    assert "step 5" in repr(guard)


@pytest.mark.parametrize("flags", ["", "tu", "tuuuu", "u"])
def test_an_episode_may_end_at_any_time(run, flags) -> None:
    guard = guard_of(run, horizon=2)
    if flags:
        drive(guard, flags)
    guard.reset()
    assert (guard.steps, guard.mode, guard.summary()["steps"]) == ([], "policy", 0)
    again, fresh = drive(guard, "ttuutt", 20_001), drive(guard_of(run, horizon=2), "ttuutt", 20_001)
    np.testing.assert_array_equal(again, fresh)


@pytest.mark.parametrize(
    "frame",
    [np.zeros((16, 16, 3)), np.zeros((24, 24, 3), np.uint8), np.zeros((1, 16, 16, 3), np.uint8), None],
    ids=["float", "size", "batch", "None"],
)
def test_a_wrong_frame_is_refused_and_nothing_happens(run, frame) -> None:
    whole = drive(guard_of(run), "ttut")
    guard = guard_of(run)
    drive(guard, "ttu")
    with pytest.raises(FrameError, match="expected"):
        guard.act(frame)
    assert len(guard.steps) == 3
    np.testing.assert_array_equal(guard.act(frames_of(4)[3], True)[0], whole[3])


# parts that do not belong together


def wrong_parts(run: Path) -> dict[str, tuple[str, dict]]:
    torch.manual_seed(6)
    stranger = Perceiver(build_model(ModelConfig.tiny(), FACTS))
    three = gym.spaces.Box(-1, 1, (3,), np.float32)
    seen = type("Seen", (Learnt,), {"observation_space": gym.spaces.Box(-1, 1, (5,))})()
    other = type("Other", (Fixed,), {"action_space": three})(0.0)
    foreign = make_filter(LATENTS, 2).dynamics
    torch.nn.init.normal_(foreign.head.weight)
    learnt = type("Learnt on", (Fixed,), {"perceiver": stranger})(0.0)
    sees_mu = type("SeesMu", (Fixed,), {"features": "mu", "stack": 1})(0.0)
    return {
        "no action space": ("pass env.action_space", {"action_space": None}),
        "other actions": ("expected 2 numbers, which the run learnt", {"action_space": three}),
        "kind of actions": ("a Box of floats", {"action_space": gym.spaces.MultiBinary(2)}),
        "policy's actions": ("policy: expected actions", {"policy": other}),
        "fallback's actions": ("fallback: expected actions", {"fallback": other}),
        "policy's features": ("learnt with, received filtered", {"policy": sees_mu}),
        "fallback's features": ("fallback: expected one that sees filtered", {"fallback": sees_mu}),
        "SB3's features": ("expected one that sees 30 numbers", {"policy": seen}),
        "unknown features": ("expected one of mu", {"features": "pixels"}),
        "no policy": ("callable of features, received int", {"policy": 3}),
        "unknown fallback": ("did you mean 'hold'", {"fallback": "hald"}),
        "no fallback": ("fallback: expected .act", {"fallback": 3}),
        "horizon": ("horizon: expected 0", {"horizon": -1}),
        "no filter": ("expected a belief_filter", {"belief_filter": None}),
        "filter's latents": ("latents, received 3", {"belief_filter": make_filter(3, 2), "features": "mu"}),
        "filter's actions": ("which the filter learnt", {"belief_filter": make_filter(LATENTS, 3)}),
        "another run": ("load both from one run", {"perceiver": stranger}),
        "policy's run": ("policy: expected one that learnt on the monitor's run", {"policy": learnt}),
        "fallback's run": ("fallback: expected one that learnt on the monitor's run", {"fallback": learnt}),
        "filter's run": (
            "belief_filter: expected that of the monitor",
            {"belief_filter": BeliefFilter(foreign)},
        ),
    }


@pytest.mark.parametrize("case", list(wrong_parts(Path())))
def test_parts_that_do_not_belong_together_are_refused(run, case) -> None:
    said, settings = wrong_parts(run)[case]
    parts = {
        "policy": Spy(),
        "perceiver": Perceiver.load(run),
        "monitor": FrameMonitor.load(run),
        "belief_filter": BeliefFilter.load(run),
        "features": "filtered",
        "action_space": BOX,
    }
    Guard(**parts)
    with pytest.raises(ControlError, match=re.escape(said)) as refused:
        Guard(**{**parts, **settings})
    assert "\n" not in str(refused.value)


# from a run


def belief_policy(run: Path, features: str = "filtered"):
    from robovae.policy.belief_policy import BeliefPolicy
    from robovae.policy.network import Actor

    width = 2 * LATENTS + 6 + 4 * 2 if features == "filtered" else LATENTS
    rng = np.random.default_rng(0)
    layer = (rng.normal(size=(2, width)).astype(np.float32), np.zeros(2, np.float32))
    actor = Actor((layer,), "tanh", "squashed", BOX)
    return BeliefPolicy(actor, Perceiver.load(run), features, 1, BeliefFilter.load(run))


@pytest.fixture
def trained(run, tmp_path) -> Path:
    """The run with two policies."""
    from robovae.policy.saving import fingerprints, policy_dir, save_policy

    for file in run.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for name, features in (("", "filtered"), ("plain", "mu")):
        record = {"observation": "image", "features": features, "stack": 1, **fingerprints(run, features)}
        save_policy(policy_dir(tmp_path, name), belief_policy(run, features).actor, record)
    return tmp_path


def test_a_guard_of_a_run(trained) -> None:
    guard = Guard.load(trained, horizon=2)
    acted = drive(guard, "ttuuuut")
    assert modes(guard) == "ppccffp"
    np.testing.assert_array_equal(acted[4], acted[3])  # "hold"
    alone, policy = Guard.load(trained, enabled=False), belief_policy(trained)
    for frame in frames_of(8):
        np.testing.assert_array_equal(alone.act(frame)[0], policy(frame))


def test_a_policy_on_plain_beliefs_coasts_too(trained) -> None:
    guard = Guard.load(trained, name="plain")
    drive(guard, "tut")
    assert modes(guard) == "pcp"
    (trained / "filter.safetensors").unlink()
    with pytest.raises(NotCalibratedError, match=r"expected a filter .* run `robovae calibrate"):
        Guard.load(trained, name="plain")


def test_it_takes_a_policy_of_stable_baselines(run) -> None:
    pytest.importorskip("stable_baselines3")
    from stable_baselines3 import PPO

    from robovae.control import BeliefObservation
    from tests.toy_env import make_toy

    belief_filter = BeliefFilter.load(run)
    env = BeliefObservation(make_toy(), Perceiver.load(run), "filtered", belief_filter=belief_filter)
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=8, device="cpu", seed=0)
    guard = guard_of(run, model, action_space=None)
    observation, _ = env.env.reset(seed=0)
    for _ in range(5):
        action, _ = guard.act(observation["image"], True)
        observation, *_ = env.env.step(action)
    np.testing.assert_array_equal(guard.actions.space.low, env.action_space.low)
    with pytest.raises(ControlError, match="expected one that sees 8 numbers"):
        guard_of(run, model, action_space=None, features="mu")


# beliefs that jump


class Straight(FilterDynamics):
    """z' = z + noise of a width that it is sure of."""

    def __init__(self, latent_dim: int, width: float) -> None:
        super().__init__(latent_dim, 2, 4)
        self.width = width

    def step(self, last, action, memory):
        return Gaussian(last.mu, torch.full_like(last.mu, math.log(self.width))), memory


def monitor_of_a_jump(run: Path) -> FrameMonitor:
    """Sees usual frames whose belief jumps once, at the fourth; its filter is sure that it cannot."""
    monitor = FrameMonitor.load(run)
    centre = dict(zip(monitor.calibration.evidence.scores, monitor.calibration.evidence.centre, strict=True))
    seen = monitor.scorer.insight(frames_of(1))
    places = iter([-2.0] * 3 + [2.0] * 40)

    def insight(frames: np.ndarray) -> Insight:
        total = Gaussian(torch.full((1, LATENTS), next(places)), torch.full((1, LATENTS), -3.0))
        return Insight(seen.look, total, torch.tensor([[centre[name] for name in SCORES]]))

    monitor._watch = TorchWatch(insight, Straight(LATENTS, 1e-3))
    return monitor


def test_a_filter_that_has_lost_the_robot_shuts_no_usual_frame_out(run) -> None:
    """A joint that meets its stop is an innovation, and no fault of the camera."""
    perceiver = Perceiver.load(run, calibrated=False)
    guard = Guard(Spy(), perceiver, monitor_of_a_jump(run), None, horizon=5, action_space=BOX)
    assert all(guard.act(frame)[1].trusted for frame in frames_of(30))


def test_what_is_no_robot_frame_stays_out(run) -> None:
    """Negative control: the same gate, shut for as long as there is reason."""
    monitor = FrameMonitor.load(run)
    noise = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    assert not any(monitor.update(frame, np.zeros(2)).trusted for frame in noise)
    monitor.reset()
    assert monitor.insight is None


STEP = np.array([[1.0, 1.0], [-0.02, 0.93]])
"""A damped spring: position and velocity."""


class Spring(FilterDynamics):
    """Its exact steady-state Kalman filter, the velocity in the memory; in a gap it knows less each step.

    Args:
        force: variance of the noise on the velocity.
        noise: variance of what is seen of the position.
    """

    def __init__(self, force: float, noise: float) -> None:
        super().__init__(1, 2, 2)
        cov = np.eye(2)
        for _ in range(500):
            gain = cov[:, :1] / (cov[0, 0] + noise)
            after = cov - gain @ cov[:1]
            cov = STEP @ after @ STEP.T + np.diag([0, force])
        self.ratio, self.growth = float(gain[1, 0] / gain[0, 0]), cov[0, 0] - after[0, 0]

    def step(self, last, action, memory):
        z = last.mu
        fresh = (memory == 0).all(1, keepdim=True)
        velocity = memory[:, 1:] + torch.where(fresh, 0.0, self.ratio * (z - memory[:, :1]))
        then = z + velocity
        faster = STEP[1, 0] * z + STEP[1, 1] * velocity
        width = 0.5 * (self.growth + torch.exp(2 * last.log_sigma)).clamp_max(1.0).log()
        return Gaussian(then, width), torch.cat([then, faster], 1)


def errors_after(gap: int, anew: bool, count: int = 1000, noise: float = 0.03) -> float:
    """Root mean square error of the position over the ten frames after a gap."""
    rng = np.random.default_rng(0)
    spread = np.eye(2)
    for _ in range(300):
        spread = STEP @ spread @ STEP.T + np.diag([0, 1.0])
    force = 1 / spread[0, 0]  # so that positions are N(0, 1), as latents are
    tracker = Tracker(Spring(force, noise))
    state = rng.multivariate_normal([0, 0], spread * force, count)
    silent = Gaussian(torch.zeros(count, 1), torch.full((count, 1), -1e-6))
    errors = []
    for t in range(20 + gap + 10):
        seen = torch.from_numpy(state[:, :1] + math.sqrt(noise) * rng.normal(size=(count, 1))).float()
        if anew and t == 20 + gap:
            tracker.reset()
        lone = Gaussian(seen / (1 + noise), torch.full((count, 1), 0.5 * math.log(noise / (1 + noise))))
        found = tracker.update(silent if 20 <= t < 20 + gap else lone).posterior.mu[:, 0].numpy()
        if t >= 20 + gap:
            errors.append(np.square(found - state[:, 0]).mean())
        state = state @ STEP.T + rng.normal(size=(count, 2)) * [0, math.sqrt(force)]
    return float(np.sqrt(np.mean(errors)))


@pytest.mark.parametrize("noise", [0.003, 0.03])
def test_after_short_gaps_it_pays_to_go_on_and_after_long_ones_to_begin_anew(noise) -> None:
    """On a linear Gaussian system, whose filter is the right one but for what a jump does to the velocity."""
    for gap in (1, 2):
        assert errors_after(gap, anew=False, noise=noise) < errors_after(gap, anew=True, noise=noise)
    for gap in (15, 20):
        assert errors_after(gap, anew=False, noise=noise) > errors_after(gap, anew=True, noise=noise)


# the page

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "guard.md").read_text(encoding="utf-8")


@pytest.mark.gl
def test_the_code_of_the_page_runs(tmp_path, monkeypatch) -> None:
    from robovae.monitor import MonitorConfig, calibrate
    from robovae.policy.network import Actor
    from robovae.policy.saving import fingerprints, policy_dir, save_policy
    from robovae.uncertainty import SCORES, TEMPORAL, Uncertainty
    from robovae.uncertainty.model import save_uncertainty
    from robovae_envs.camera import RenderSpec, make

    camera = make("Reacher-v5", RenderSpec.fast("Reacher-v5"))
    camera.reset(seed=0)
    model = build_model(
        ModelConfig.tiny(), RunFacts((64, 64, 3), 2, "Reacher-v5", camera.render_spec.to_dict())
    )
    where = tmp_path / "runs" / "reacher"
    save_model(where, model)
    save_uncertainty(where, Uncertainty(model.vae))
    dynamics = FilterDynamics(LATENTS, model.facts.action_dim, 6)
    save_dynamics(where, dynamics)
    rng = np.random.default_rng(0)
    scores = [{name: rng.normal(size=20) for name in (*SCORES, *TEMPORAL)} for _ in range(40)]
    rates = MonitorConfig(alpha=0.1, alpha_gate=0.1, tail=0.1)
    calibrate(scores[:20], scores[20:], rates, run_digest(where, SCORING)).save(where / "monitor.json")
    width = BeliefFeatures(LATENTS, "filtered", 1, BeliefFilter(dynamics)).size
    layer = (rng.normal(size=(2, width)).astype(np.float32), np.zeros(2, np.float32))
    actor = Actor((layer,), "tanh", "squashed", camera.action_space)
    record = {"observation": "image", "features": "filtered", "stack": 1, **fingerprints(where, "filtered")}
    save_policy(policy_dir(where), actor, record)
    camera.close()
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(snippets) == 3
    space: dict = {}
    for snippet in snippets:
        exec(compile(snippet, "guard.md", "exec"), space)
    assert space["guard"].summary()["steps"] == 1
    assert space["env"].action_space.contains(space["action"])
    space["env"].close()
    space["env"].close()
