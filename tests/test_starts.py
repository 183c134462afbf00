"""Spread starts: the whole range, standing on the floor, valid, and the same for the same seed."""

import gymnasium as gym
import numpy as np
import pytest

from robovae_envs.cameras import POSES
from robovae_envs.errors import EnvError
from robovae_envs.simulator import mujoco
from robovae_envs.starts import DEEPEST_CONTACT, SpreadStart
from tests.toy_env import ToyEnv


def spread(env_id, scale=1.0):
    return SpreadStart(gym.make(env_id, disable_env_checker=True), scale)


def starts(env, count=60):
    """(count, nq) of `qpos` right after a reset."""
    return np.array([_start(env, seed) for seed in range(count)])


def _start(env, seed):
    env.reset(seed=seed)
    return env.unwrapped.data.qpos.copy()


@pytest.mark.parametrize("env_id", POSES)
def test_starts_are_valid_and_cover_the_range(env_id):
    env = spread(env_id)
    seen = []
    for seed in range(60):
        observation, _ = env.reset(seed=seed)
        data = env.unwrapped.data
        assert env.observation_space.contains(observation)
        assert min(data.contact.dist, default=0) > -DEEPEST_CONTACT
        assert getattr(env.unwrapped, "is_healthy", True)
        seen.append(data.qpos[env._index])
    covered = np.ptp(seen, axis=0) / (env._high - env._low)
    assert covered.mean() > 0.7
    own = np.ptp(starts(spread(env_id, 0.0))[:, env._index], axis=0) / (env._high - env._low)
    assert (covered > 2 * own).all()  # the task's own starts do not cover it
    assert (np.array(seen) >= env._low - 1e-9).all()
    assert (np.array(seen) <= env._high + 1e-9).all()


@pytest.mark.parametrize("env_id", ["Reacher-v5", "Humanoid-v5"])
def test_the_same_seed_gives_the_same_start(env_id):
    assert np.array_equal(starts(spread(env_id), 5), starts(spread(env_id), 5))
    assert len(np.unique(starts(spread(env_id), 5)[:, 0])) == 5


def test_without_a_seed_the_generator_goes_on():
    env = spread("Reacher-v5")
    first, second = _start(env, 0), _start(env, None)
    env.reset(seed=0)
    env.reset()
    assert not np.array_equal(first, second)
    assert np.array_equal(env.unwrapped.data.qpos, second)


def test_scale_nothing_is_the_tasks_own_start():
    plain = gym.make("Reacher-v5")
    for seed in range(3):
        expected, _ = plain.reset(seed=seed)
        assert np.array_equal(spread("Reacher-v5", 0.0).reset(seed=seed)[0], expected)


def test_scale_is_the_share_of_the_range():
    angles = starts(spread("Reacher-v5", 0.5))[:, 0]
    assert 1.3 < np.abs(angles).max() <= 0.5 * (np.pi + 0.1)


@pytest.mark.parametrize(("env_id", "kept"), [("Reacher-v5", slice(2, 4)), ("Pusher-v5", slice(7, 11))])
def test_targets_and_objects_keep_the_tasks_own_draw(env_id, kept):
    plain, env = gym.make(env_id), spread(env_id)
    for seed in range(5):
        plain.reset(seed=seed)
        assert np.array_equal(_start(env, seed)[kept], plain.unwrapped.data.qpos[kept])


def test_a_pendulum_starts_within_the_angle_that_ends_its_episode():
    angles = starts(spread("InvertedPendulum-v5"), 100)[:, 1]
    assert 0.15 < np.abs(angles).max() < 0.2


@pytest.mark.parametrize("env_id", ["Hopper-v5", "HalfCheetah-v5", "Ant-v5"])
def test_robots_stand_on_the_floor(env_id):
    env = spread(env_id)
    for seed in range(10):
        env.reset(seed=seed)
        model, data = env.unwrapped.model, env.unwrapped.data
        moving = np.flatnonzero(model.geom_bodyid)
        gap = min(mujoco.mj_geomDistance(model, data, env._floor, geom, 100.0, None) for geom in moving)
        assert gap == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("scale", [-0.1, 1.5, float("nan")])
def test_a_scale_outside_the_range_is_refused(scale):
    with pytest.raises(EnvError, match="expected a scale from 0 to 1"):
        spread("Reacher-v5", scale)


def test_other_environments_and_changed_observations_are_refused():
    with pytest.raises(EnvError, match="ToyEnv is no Gymnasium MuJoCo task"):
        SpreadStart(ToyEnv())
    changed = gym.wrappers.FlattenObservation(gym.wrappers.TimeAwareObservation(gym.make("Reacher-v5")))
    with pytest.raises(EnvError, match="put SpreadStart inside that wrapper"):
        SpreadStart(changed)
