"""What a policy sees of several environments that are stepped side by side, and its returns there."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.belief import Perceiver
from robovae.collect.config import DEFAULT_MAX_STEPS
from robovae.collect.facts import describe
from robovae.control.features import BeliefFeatures
from robovae.policy.config import PolicyError
from robovae.policy.network import Floats

Env = gym.Env[Any, Any]
Act = Callable[[Floats], NDArray[Any]]


class Sense(Protocol):
    """Observations of B environments -> what the policy sees of them, (B, F)."""

    def begin(self, observations: Sequence[Any]) -> Floats:
        """The first observations of B episodes."""

    def update(self, observations: Sequence[Any], actions: NDArray[Any]) -> Floats:
        """The next ones, and the actions that led there."""


class BeliefSense:
    """By the beliefs of their frames."""

    def __init__(self, perceiver: Perceiver, features: BeliefFeatures) -> None:
        self.perceiver, self.features = perceiver, features

    def begin(self, observations: Sequence[Any]) -> Floats:
        """Features of the first frames."""
        return self.features.begin(self.perceiver(_frames(observations)))

    def update(self, observations: Sequence[Any], actions: NDArray[Any]) -> Floats:
        """Features of the next frames."""
        return self.features.update(self.perceiver(_frames(observations)), actions)


class StateSense:
    """By the vectors that `state_env` gives."""

    def begin(self, observations: Sequence[Any]) -> Floats:
        """The states."""
        return np.stack(observations).astype(np.float32)

    def update(self, observations: Sequence[Any], actions: NDArray[Any]) -> Floats:
        """The states."""
        return self.begin(observations)


def state_env(env: Env) -> Env:
    """The environment with its own state as a vector: that under "state" of a Dict, or its observation."""
    space = env.observation_space
    if isinstance(space, gym.spaces.Dict) and "state" in space.spaces:
        env = gym.wrappers.FilterObservation(env, ["state"])
    return gym.wrappers.FlattenObservation(env)


def check_camera(env: Env, perceiver: Perceiver) -> None:
    """Refuse frames that are rendered otherwise than those of the run; a camera that tells nothing passes.

    Raises:
        PolicyError: another RenderSpec.
    """
    spec, own = describe(env).get("render_spec") or {}, perceiver.render_spec or {}
    if other := [name for name in own if spec and own[name] != spec.get(name)]:
        name = other[0]
        raise PolicyError(
            f"camera: expected the run's {name} {own[name]}, received {spec.get(name)}; "
            "make the environment with the RenderSpec of the run"
        )


def play(envs: Sequence[Env], sense: Sense, act: Act, seeds: Sequence[int]) -> list[float]:
    """The return of one episode of each seed, as many side by side as there are environments.

    Raises:
        PolicyError: a reward is not finite.
    """
    some = [seeds[start : start + len(envs)] for start in range(0, len(seeds), len(envs))]
    returns = [each for group in some for each in _round(envs, sense, act, group)]
    if not np.isfinite(returns).all():
        raise PolicyError("expected finite rewards, received NaN or infinity; mend the environment")
    return returns


def _round(envs: Sequence[Env], sense: Sense, act: Act, seeds: Sequence[int]) -> list[float]:
    pairs = list(zip(envs, seeds, strict=False))
    observations = [env.reset(seed=seed)[0] for env, seed in pairs]
    returns, alive, x = np.zeros(len(pairs)), np.ones(len(pairs), np.bool_), sense.begin(observations)
    for _ in range(_limit(envs[0])):
        actions = act(x)
        for row in np.flatnonzero(alive).tolist():
            observations[row], reward, terminated, truncated, _ = envs[row].step(actions[row])
            returns[row] += float(reward)
            alive[row] = not (terminated or truncated)
        if not alive.any():
            break
        x = sense.update(observations, actions)  # one that is over repeats its last observation
    return [float(each) for each in returns]


def _limit(env: Env) -> int:
    own = env.spec.max_episode_steps if env.spec is not None else None
    return own or DEFAULT_MAX_STEPS


def _frames(observations: Sequence[Any]) -> NDArray[np.uint8]:
    return np.stack([observation["image"] for observation in observations])
