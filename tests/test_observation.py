"""BeliefObservation: a Gymnasium environment like any other, whose observations are features."""

import subprocess
import sys
import warnings
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check

from robovae.control import BeliefFeatures, BeliefObservation, ControlError
from tests.toy_beliefs import LATENTS, MEMORY, make_filter, toy_filter, toy_perceiver
from tests.toy_env import ToyEnv, make_toy

KINDS = [("mu", 1), ("mu", 3), ("mu_sigma", 1), ("mu_sigma", 3), ("filtered", 1)]
EXPECTED_WARNINGS = (
    "different from the unwrapped",
    "value is -infinity",
    "value is infinity",
    "render modes",
)


class Pixels(gym.ObservationWrapper):
    """The toy, with a frame alone as its observation."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = env.observation_space["image"]

    def observation(self, observation: dict) -> np.ndarray:
        return observation["image"]


def wrapped(kind: str = "mu", stack: int = 1, env: gym.Env | None = None, **settings) -> BeliefObservation:
    belief_filter = toy_filter() if kind == "filtered" else None
    env = make_toy() if env is None else env
    return BeliefObservation(env, toy_perceiver(), kind, stack=stack, belief_filter=belief_filter, **settings)


def only_expected(caught: list[warnings.WarningMessage]) -> bool:
    return all(any(known in str(one.message) for known in EXPECTED_WARNINGS) for one in caught)


@pytest.mark.parametrize(("kind", "stack"), KINDS)
def test_both_checkers_accept_it(kind: str, stack: int) -> None:
    from stable_baselines3.common.env_checker import check_env as sb3_check

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gymnasium_check(wrapped(kind, stack))
    assert only_expected(caught), [str(one.message) for one in caught]
    sb3_check(wrapped(kind, stack))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_checker_would_see_a_wrong_space() -> None:  # negative control
    env = wrapped()
    env.observation_space = gym.spaces.Box(-np.inf, np.inf, (LATENTS + 1,), np.float32)
    with pytest.raises(AssertionError, match="observation"):
        gymnasium_check(env)


def test_a_registered_one_can_be_made_again_from_its_spec() -> None:
    gym.register("Toy-v0", partial(make_toy, max_steps=5))
    try:
        env = wrapped("filtered", env=gym.make("Toy-v0", disable_env_checker=True))
        again = env.spec.make()
        shown, _ = env.reset(seed=3)
        np.testing.assert_array_equal(shown, again.reset(seed=3)[0])
    finally:
        gym.registry.pop("Toy-v0")


@pytest.mark.parametrize(("kind", "stack"), KINDS)
def test_it_shows_the_features_of_its_own_frames(kind: str, stack: int) -> None:
    env, bare, perceiver = wrapped(kind, stack), make_toy(), toy_perceiver()
    by_hand = BeliefFeatures(LATENTS, kind, stack, toy_filter() if kind == "filtered" else None)
    env.action_space.seed(0)
    for seed in (5, 6):  # the second episode remembers nothing of the first
        shown, info = env.reset(seed=seed)
        frame, own = bare.reset(seed=seed)
        np.testing.assert_array_equal(shown, by_hand.begin(perceiver(frame["image"][None]))[0])
        np.testing.assert_array_equal(info["qpos"], own["qpos"])
        for _ in range(4):
            action = env.action_space.sample()
            shown, reward, *_ = env.step(action)
            frame, expected, *_ = bare.step(action)
            features = by_hand.update(perceiver(frame["image"][None]), action[None])
            np.testing.assert_array_equal(shown, features[0])
            np.testing.assert_array_equal(env.belief.mu, by_hand.belief.mu)
            assert reward == expected
            assert shown in env.observation_space


def test_a_frame_may_be_the_whole_observation_or_have_another_name() -> None:
    expected = wrapped().reset(seed=1)[0]
    np.testing.assert_array_equal(wrapped(env=Pixels(make_toy())).reset(seed=1)[0], expected)
    renamed = gym.wrappers.TransformObservation(
        make_toy(),
        lambda seen: {"eye": seen["image"]},
        gym.spaces.Dict({"eye": make_toy().observation_space["image"]}),
    )
    np.testing.assert_array_equal(wrapped(env=renamed, key="eye").reset(seed=1)[0], expected)


def test_gymnasiums_own_vectors_take_it() -> None:
    envs = gym.vector.SyncVectorEnv([partial(wrapped, "filtered")] * 2)
    shown, _ = envs.reset(seed=0)
    assert shown.shape == (2, 2 * LATENTS + MEMORY + 4 * 2)
    assert shown.dtype == np.float32
    np.testing.assert_array_equal(shown[1], wrapped("filtered").reset(seed=1)[0])
    envs.close()


def test_discrete_actions_do_where_no_filter_hears_them() -> None:
    class Buttons(ToyEnv):
        def __init__(self) -> None:
            super().__init__()
            self.action_space = gym.spaces.Discrete(2)

        def step(self, action):
            return super().step(np.full(2, float(action)))

    env = wrapped(env=Buttons())
    env.reset(seed=0)
    assert env.step(1)[0].shape == (LATENTS,)
    with pytest.raises(ControlError, match=r"a Box \(2,\), received Discrete\(2\)"):
        wrapped("filtered", env=Buttons())


@pytest.mark.parametrize("kind", ["mu", "filtered"])
def test_an_action_that_is_not_finite_does_not_reach_the_environment(kind: str) -> None:
    env = wrapped(kind)
    env.reset(seed=0)
    with pytest.raises(ControlError, match=r"received \[nan, 0.0\]; the policy has diverged"):
        env.step(np.array([np.nan, 0.0], np.float32))
    assert env.unwrapped.steps == 0
    assert np.isfinite(env.step(np.zeros(2, np.float32))[0]).all()


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: wrapped(env=make_toy(height=24)), r"frames \(16, 16, 3\) uint8, received .*render at 16x16"),
        (lambda: wrapped(key="eye"), "a frame under 'eye', received image, state; pass key="),
        (lambda: wrapped(key="state"), r"expected frames \(16, 16, 3\) uint8, received Box\(-1.0"),
        (lambda: wrapped("pixels"), "expected one of mu, mu_sigma, filtered, received 'pixels'"),
        (lambda: wrapped(stack=0), "stack: expected 1 or more, received 0"),
        (
            lambda: BeliefObservation(make_toy(), toy_perceiver(), "filtered"),
            "a belief_filter, received none",
        ),
        (
            lambda: BeliefObservation(
                make_toy(), toy_perceiver(), "filtered", belief_filter=make_filter(LATENTS, 3)
            ),
            r"action_space: expected the filter's, a Box \(3,\), received Box\(-1.0, 1.0, \(2,\)",
        ),
        (lambda: wrapped().belief, r"received none; call begin\(\) first"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(use, message: str) -> None:
    with pytest.raises(ControlError, match=message) as refused:
        use()
    assert "\n" not in str(refused.value)


def test_the_package_does_without_stable_baselines() -> None:
    code = (
        "import sys; from robovae.control import BeliefObservation, Bursts; "
        "assert 'stable_baselines3' not in sys.modules; sys.modules['stable_baselines3'] = None\n"
        "try:\n    from robovae.control import BeliefVecEnv\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ControlError")
    assert 'pip install "robovae[rl]"' in done.stdout
