"""Policies as they act: the network against Stable-Baselines3's, the files, what is refused, collecting."""

import json
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robovae.belief import Belief, Perceiver
from robovae.collect import CollectConfig, CollectError, collect
from robovae.collect.policies import make_policy
from robovae.control.features import BeliefFeatures
from robovae.dynamics import FilterDynamics
from robovae.episodes import EpisodeStore
from robovae.errors import RobovaeError
from robovae.filter import BeliefFilter, save_dynamics
from robovae.frames import FrameError
from robovae.policy import BeliefPolicy, PolicyError
from robovae.policy.network import Actor, check_space
from robovae.policy.saving import (
    actor_from,
    actor_tensors,
    fingerprints,
    policy_dir,
    save_policy,
    space_from_plain,
    space_to_plain,
)
from robovae.policy.senses import StateSense, play, state_env
from robovae.run.directory import RunFacts, RunModel, build_model, load_model, save_model
from robovae.vae import ModelConfig
from tests.toy_env import ToyEnv, make_toy

SPACE = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
SPEC = {"height": 16, "width": 16}


def fresh_model(seed: int = 0) -> RunModel:
    torch.manual_seed(seed)
    return build_model(ModelConfig.tiny(), RunFacts((16, 16, 3), 2, "Toy-v0", SPEC))


def make_run(path: Path, seed: int = 0) -> Path:
    """A run of random weights, with a filter: enough to act."""
    save_model(path, model := fresh_model(seed))
    save_dynamics(path, FilterDynamics.of(model.dynamics))
    return path


def random_actor(size: int, space: gym.Space = SPACE, head: str = "squashed", seed: int = 0) -> Actor:
    rng = np.random.default_rng(seed)
    outputs = int(space.n) if isinstance(space, gym.spaces.Discrete) else int(np.prod(space.shape))
    sizes = [(8, size), (outputs, 8)]
    layers = tuple((rng.normal(size=s).astype("f4"), rng.normal(size=s[0]).astype("f4")) for s in sizes)
    return Actor(layers, "relu", head, space)


def width(run: Path, features: str, stack: int = 1) -> int:
    latent_dim = load_model(run).vae.config.latent_dim
    return BeliefFeatures(latent_dim, features, stack, BeliefFilter.load(run)).size


def save_random(
    run: Path, features: str = "filtered", stack: int = 1, name: str = "", size: int = 0
) -> Actor:
    actor = random_actor(size or (4 if features == "state" else width(run, features, stack)))
    kind = "state" if features == "state" else "belief"
    record = {"observation": kind, "features": features, "stack": stack, **fingerprints(run, features)}
    save_policy(policy_dir(run, name), actor, record)
    return actor


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "toy")


class Numbers(gym.Env):
    """An environment for Stable-Baselines3 to be built on; it is never stepped."""

    def __init__(self, action_space: gym.Space) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (7,), np.float32)
        self.action_space = action_space


WIDE = gym.spaces.Box(np.array([-3, 0, 1], "f4"), np.array([-1, 5, 1.5], "f4"))


@pytest.mark.parametrize(
    ("algo", "space"),
    [
        ("sac", WIDE),
        ("tqc", WIDE),
        ("ppo", WIDE),
        ("ppo", gym.spaces.Discrete(5)),
        ("sac", gym.spaces.Box(-2, 2, (2, 2))),
    ],
)
def test_the_actor_acts_as_stable_baselines3_does(algo, space):
    from stable_baselines3.common.vec_env import DummyVecEnv

    from robovae.policy.config import PolicyConfig
    from robovae.policy.learner import extract_actor, make_learner

    config = PolicyConfig(algo=algo, hidden=(16, 8), buffer=10)
    learner = make_learner(config, DummyVecEnv([lambda: Numbers(space)]))
    with torch.no_grad():  # PPO begins with outputs near 0, which no clipping would touch
        for weight in learner.policy.parameters():
            weight.mul_(3.0)
    actor = extract_actor(learner)
    x = np.random.default_rng(0).normal(scale=2.0, size=(64, 7)).astype(np.float32)
    wanted, _ = learner.predict(x, deterministic=True)
    again = actor_from(actor_tensors(actor), vars(actor), space_from_plain(space_to_plain(space)))
    for mine in (actor(x), again(x)):
        assert mine.shape == wanted.shape
        assert mine.dtype == wanted.dtype
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-4)
    assert len(np.unique(wanted, axis=0)) > 3  # a constant would prove nothing
    assert np.abs(actor(x) - actor(x + 1.0)).max() > 1e-2


def test_the_actor_follows_its_learner_only_by_copy():
    from stable_baselines3.common.vec_env import DummyVecEnv

    from robovae.policy.config import PolicyConfig
    from robovae.policy.learner import extract_actor, make_learner

    learner = make_learner(PolicyConfig(hidden=(4,), buffer=10), DummyVecEnv([lambda: Numbers(SPACE)]))
    actor, x = extract_actor(learner), np.ones((1, 7), np.float32)
    before = actor(x)
    with torch.no_grad():
        learner.policy.actor.mu.bias.fill_(np.nan)
    assert np.array_equal(actor(x), before)
    with pytest.raises(PolicyError, match="expected finite weights, received NaN"):
        extract_actor(learner)


@settings(max_examples=40)
@given(
    low=st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=2),
    size=st.floats(0.125, 10, width=32),
    scale=st.floats(0, 100),
    head=st.sampled_from(["squashed", "clipped"]),
)
def test_actions_are_always_in_bounds(low, size, scale, head):
    low = np.array(low, np.float32)
    space = gym.spaces.Box(low, low + np.float32(size))
    x = np.random.default_rng(0).normal(scale=scale, size=(16, 3)).astype(np.float32)
    actions = random_actor(3, space, head)(x)
    assert all(space.contains(action) for action in actions)


@pytest.mark.parametrize(
    "space",
    [
        WIDE,
        SPACE,
        gym.spaces.Discrete(3),
        gym.spaces.Box(-1 / 3, np.array([1.0, 1e9]), dtype=np.float64),
        gym.spaces.Box(0, 1, (2, 3), np.float16),
    ],
)
def test_spaces_survive_json(space):
    assert space_from_plain(json.loads(json.dumps(space_to_plain(space), allow_nan=False))) == space


@pytest.mark.parametrize(
    ("space", "box_only", "match"),
    [
        (gym.spaces.Box(-np.inf, 1, (2,)), True, "expected finite bounds"),
        (gym.spaces.Discrete(3), True, "expected a Box, received"),
        (gym.spaces.Discrete(3, start=1), False, "or Discrete from 0"),
        (gym.spaces.MultiBinary(2), False, "expected a Box, or"),
    ],
)
def test_action_spaces_that_do_not_suit_are_refused(space, box_only, match):
    with pytest.raises(PolicyError, match=match):
        check_space(space, box_only)


def test_weights_that_do_not_fit_are_refused():
    actor = random_actor(3)
    with pytest.raises(PolicyError, match=r"features: expected \(B, 3\), received \(1, 4\)"):
        actor(np.zeros((1, 4), np.float32))
    with pytest.raises(PolicyError, match="expected layers that lead to 3 outputs"):
        Actor(actor.layers, "relu", "clipped", WIDE)
    with pytest.raises(PolicyError, match="layers of weight and bias"):
        actor_from({"0.weight": torch.zeros(2, 2)}, vars(actor), SPACE)


@pytest.mark.parametrize(("features", "stack"), [("mu", 1), ("mu", 3), ("mu_sigma", 2), ("filtered", 1)])
def test_a_policy_on_frames_is_its_actor_on_features(run, features, stack):
    actor = save_random(run, features, stack)
    policy, perceiver = BeliefPolicy.load(run), Perceiver.load(run)
    features_of = BeliefFeatures(perceiver.latent_dim, features, stack, BeliefFilter.load(run))
    env = ToyEnv()
    for seed in (0, 1):
        policy.reset()
        frame = env.reset(seed=seed)[0]["image"]
        x = features_of.begin(perceiver(frame[None]))
        for _ in range(4):
            action = policy(frame)
            assert np.array_equal(action, actor(x)[0])
            frame = env.step(action)[0]["image"]
            x = features_of.update(perceiver(frame[None]), action[None])


def test_a_belief_serves_as_well_as_its_frame(run):
    save_random(run)
    one, other, frame = BeliefPolicy.load(run), BeliefPolicy.load(run), ToyEnv().reset(seed=0)[0]["image"]
    assert np.array_equal(one(frame), other(other.perceiver(frame[None])))
    with pytest.raises(FrameError, match="expected one frame"):
        one(frame[None])
    with pytest.raises(RobovaeError, match="expected mu"):
        other(Belief(np.zeros((1, 99)), np.ones((1, 99))))


def test_reset_forgets_the_episode_before(run):
    save_random(run)
    policy, env = BeliefPolicy.load(run), ToyEnv()
    frame, other = env.reset(seed=0)[0]["image"], env.reset(seed=1)[0]["image"]
    first, second = policy(frame), policy(other)
    assert not np.array_equal(policy(frame), first)  # control: it does remember
    policy.reset()
    assert np.array_equal(policy(frame), first)
    assert np.array_equal(policy(other), second)


def test_a_policy_of_other_weights_is_refused(run):
    save_random(run)
    save_random(run, "mu", name="mu")
    BeliefPolicy.load(run)
    model = load_model(run)
    save_dynamics(run, FilterDynamics.of(fresh_model(1).dynamics))
    with pytest.raises(PolicyError, match="learnt with the filter of this run, received one of another"):
        BeliefPolicy.load(run)
    BeliefPolicy.load(run, "mu")  # does not look at the filter
    save_model(run, fresh_model(1))
    save_dynamics(run, FilterDynamics.of(model.dynamics))
    for name in ("", "mu"):
        with pytest.raises(PolicyError, match="learnt with the weights of this run") as refused:
            BeliefPolicy.load(run, name)
        assert "\n" not in str(refused.value)


def test_a_policy_of_another_calibration_is_refused(run):
    """Calibrating moves mu too; of "filtered" the filter tells, which is fitted to it."""
    found = {"mu": [], "mu_sigma": [], "filtered": [], "state": []}
    for kind, told in found.items():
        for content in (None, b"1", b"2"):
            (run / "uncertainty.safetensors").unlink(missing_ok=True)
            if content is not None:
                (run / "uncertainty.safetensors").write_bytes(content)
            told.append(fingerprints(run, kind)["calibrated"])
    for kind in ("mu", "mu_sigma"):
        none, one, other = found[kind]
        assert none is False
        assert len(one) == len(other) == 64
        assert one != other
    assert found["filtered"] == [False, True, True]
    assert found["state"] == [None, None, None]
    (run / "uncertainty.safetensors").unlink()
    save_random(run, "mu")
    where = run / "policy" / "policy.json"
    where.write_text(json.dumps({**json.loads(where.read_text()), "calibrated": "0" * 64}))
    with pytest.raises(PolicyError, match="learnt with the calibration of this run, received one of another"):
        BeliefPolicy.load(run)


def test_what_is_no_policy_is_refused(run):
    with pytest.raises(PolicyError, match="expected a trained policy"):
        BeliefPolicy.load(run)
    with pytest.raises(PolicyError, match="name: expected letters"):
        BeliefPolicy.load(run, "../other")
    save_random(run)
    record = json.loads((run / "policy" / "policy.json").read_text())
    for broken, match in (
        ({**record, "format": 9}, "expected format 3"),
        ({key: record[key] for key in record if key != "features"}, "expected a whole record"),
        ({**record, "stack": "two"}, "expected a whole record"),
        ({key: record[key] for key in record if key != "filter"}, "learnt with the filter of this run"),
        ({**record, "network": {}}, "expected a whole record"),
        ({**record, "features": "mu", "filter": None}, r"features \(mu\), received a network"),
    ):
        (run / "policy" / "policy.json").write_text(json.dumps(broken))
        with pytest.raises(PolicyError, match=match):
            BeliefPolicy.load(run)


def test_another_action_space_is_refused(run):
    save_random(run)
    policy = BeliefPolicy.load(run)
    policy.check_action_space(ToyEnv().action_space)
    with pytest.raises(PolicyError, match=r"action space: expected .* received Discrete"):
        policy.check_action_space(gym.spaces.Discrete(2))


def test_a_policy_on_the_state_needs_no_model(run):
    actor = save_random(run, "state")
    (run / "model.safetensors").unlink()
    policy = BeliefPolicy.load(run)
    assert policy.features == "state"
    assert np.array_equal(policy(np.ones(4)), actor(np.ones((1, 4), np.float32))[0])
    with pytest.raises(PolicyError, match="features: expected"):
        policy(np.ones(5))


def test_discrete_actions_are_integers(run):
    actor = random_actor(4, gym.spaces.Discrete(3), "argmax")
    policy = BeliefPolicy(actor)
    assert type(policy(np.ones(4))) is int
    assert actor(np.ones((2, 4), np.float32)).shape == (2,)


def test_no_policy_needs_stable_baselines3_or_pickle(run, monkeypatch):
    save_random(run)
    monkeypatch.setitem(__import__("sys").modules, "stable_baselines3", None)
    monkeypatch.setattr("pickle.loads", None)
    assert BeliefPolicy.load(run)(ToyEnv().reset(seed=0)[0]["image"]).shape == (2,)


@settings(max_examples=25)
@given(episodes=st.integers(1, 7), side_by_side=st.integers(1, 5), steps=st.integers(1, 6))
def test_episodes_side_by_side_are_the_same_as_one_by_one(episodes, side_by_side, steps):
    actor, seeds = random_actor(4), range(20_000, 20_000 + episodes)

    def envs(count: int) -> list[gym.Env]:
        return [state_env(ToyEnv(max_steps=steps, rim_ends=True)) for _ in range(count)]

    together, alone = (play(envs(n), StateSense(), actor, seeds) for n in (side_by_side, 1))
    np.testing.assert_allclose(together, alone, rtol=1e-5)  # a batch is summed in another order
    assert len(together) == episodes


def test_the_return_is_the_sum_of_rewards():
    env, action = ToyEnv(max_steps=5), np.array([0.5, -0.2], np.float32)
    env.reset(seed=20_000)
    wanted = sum(env.step(action)[1] for _ in range(5))
    assert play([state_env(ToyEnv(max_steps=5))], StateSense(), lambda x: action[None], [20_000]) == [wanted]


def test_rewards_that_are_not_finite_are_refused():
    broken = gym.wrappers.TransformReward(state_env(ToyEnv(max_steps=3)), lambda reward: np.nan)
    with pytest.raises(PolicyError, match="expected finite rewards"):
        play([broken], StateSense(), random_actor(4), [0])


def test_an_environment_without_a_limit_is_cut():
    env = state_env(ToyEnv(max_steps=10**9))
    assert len(play([env], StateSense(), random_actor(4), [0])) == 1
    assert env.unwrapped.steps == 1000


def test_collect_runs_the_policy_of_a_run(run, tmp_path):
    save_random(run)
    out = tmp_path / "data"
    collect(partial(make_toy, max_steps=4), out, CollectConfig(episodes=2, workers=1, policy=str(run)))
    policy, store = BeliefPolicy.load(run), EpisodeStore(out)
    for episode in store:
        policy.reset()
        wanted = [policy(np.array(frame)) for frame in episode.image[:-1]]
        np.testing.assert_allclose(episode.action, wanted, atol=1e-5)


def test_collect_begins_each_episode_anew(run):
    save_random(run)
    env = ToyEnv()
    policy = make_policy(str(run), env)
    assert policy.looks
    observation = env.reset(seed=0)[0]
    policy.reset(0)
    first = policy(observation)
    policy(observation)
    policy.reset(1)
    assert np.array_equal(policy(observation), first)


@pytest.mark.parametrize("told", [True, False])
def test_the_filter_predicts_from_the_action_that_was_taken(run, told):
    save_random(run)
    env = ToyEnv()
    policy, aware = make_policy(f"{run}~0.5", env), BeliefPolicy.load(run)
    policy.reset(0)
    aware.reset()
    observation = env.reset(seed=0)[0]
    for _ in range(5):
        aware(observation["image"])
        taken = policy(observation)
        assert env.action_space.contains(taken)
        observation = env.step(taken)[0]
        if told:
            aware.acted(taken)
    wanted = policy.policy(observation)
    assert np.allclose(aware(observation["image"]), wanted, atol=1e-6) == told


def test_a_path_says_which_policy_of_a_run(run, monkeypatch):
    frame = {"image": ToyEnv().reset(seed=0)[0]["image"]}
    save_random(run, "filtered")
    save_random(run, "mu", name="fast")
    monkeypatch.chdir(run)
    for path, name in (
        (run, ""),
        (run / "policy", ""),
        (run / "policy-fast", "fast"),
        ("policy-fast", "fast"),
    ):
        wanted = BeliefPolicy.load(run, name)(frame["image"])
        policy = make_policy(str(path), ToyEnv())
        assert np.array_equal(policy(frame), wanted), path


def test_collect_refuses_a_policy_that_does_not_fit(run):
    save_random(run)
    with pytest.raises(PolicyError, match="camera: expected the run's height 16, received 32"):
        make_policy(str(run), ToyEnv(height=32, width=32))
    env = ToyEnv()
    env.action_space = gym.spaces.Box(-2.0, 2.0, (2,), np.float32)
    with pytest.raises(PolicyError, match="action space: expected"):
        make_policy(str(run), env)
    with pytest.raises(CollectError, match="run with a policy that is there"):
        make_policy(str(run / "nothing"), env)


def test_a_policy_on_the_state_collects_too(run):
    save_random(run, "state")
    env = ToyEnv()
    policy = make_policy(str(run), env)
    policy.reset(0)
    assert env.action_space.contains(policy(env.reset(seed=0)[0]))
