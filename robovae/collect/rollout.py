"""One episode: reset with its seed, act until the end, keep everything that was seen."""

import os
from collections.abc import Callable, Mapping
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae import __version__
from robovae.collect.config import DEFAULT_MAX_STEPS, CollectConfig, CollectError
from robovae.collect.policies import Policy
from robovae.episodes import Episode

EXTRA = ("qpos", "qvel")
FLOATS = (np.float32, np.float64)


def describe(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """The JSON-able facts that go with every episode: the environment's own `describe()` if it has one."""
    if env.has_wrapper_attr("describe"):
        facts: dict[str, Any] = env.get_wrapper_attr("describe")()
    else:
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        facts = {
            "env_id": name,
            "render_spec": None,
            "joints": [],
            "versions": {"gymnasium": gym.__version__},
        }
    return {
        **facts,
        "versions": {
            **facts.get("versions", {}),
            "robovae": __version__,
            "gl": os.environ.get("MUJOCO_GL", ""),
        },
    }


def step_limit(env: gym.Env[Any, Any], config: CollectConfig) -> int:
    """After how many steps an episode is cut."""
    own = env.spec.max_episode_steps if env.spec is not None else None
    return min((limit for limit in (config.max_steps, own) if limit), default=DEFAULT_MAX_STEPS)


class Recording:
    """What one episode shows, step by step.

    Args:
        first: the rows of the reset by array name.
        steps: at most. Memory for so many is reserved at once, and touched only as it is used.
    """

    def __init__(self, first: Mapping[str, NDArray[Any]], steps: int) -> None:
        self.rows = {name: np.empty((steps + 1, *row.shape), row.dtype) for name, row in first.items()}
        self.actions: list[NDArray[np.float32]] = []
        self.rewards: list[float] = []
        self._put(first)

    def add(self, action: Any, reward: SupportsFloat, seen: Mapping[str, NDArray[Any]]) -> int:
        """Keep one step; returns how many there are."""
        self.actions.append(np.array(action, np.float32).reshape(-1))
        self.rewards.append(float(reward))
        self._put(seen)
        return len(self.actions)

    def _put(self, seen: Mapping[str, NDArray[Any]]) -> None:
        time = len(self.actions)
        for name, rows in self.rows.items():
            rows[time] = seen[name]

    def episode(self, terminated: bool, truncated: bool, meta: Mapping[str, Any]) -> Episode:
        """The episode, which ended in one of two ways."""
        steps = len(self.actions)
        ends = np.zeros((2, steps), np.bool_)
        ends[:, -1] = terminated, truncated
        seen = {name: rows[: steps + 1] for name, rows in self.rows.items()}
        return Episode(
            image=seen.pop("image"),
            state=seen.pop("state"),
            action=np.stack(self.actions),
            reward=np.array(self.rewards, np.float32),
            terminated=ends[0],
            truncated=ends[1],
            extra=seen,
            meta=meta,
        )


class Rollout:
    """Runs whole episodes in one environment with one policy.

    Args:
        env: observations are {"image": (H, W, 3) uint8, "state": (S,) or a space that flattens to it}.
        policy: who acts.
        config: limits, and what to note in the metadata.
        on_frame: called after each frame; False abandons the episode.

    Raises:
        CollectError: if observations are of another kind.
    """

    def __init__(
        self, env: gym.Env[Any, Any], policy: Policy, config: CollectConfig, on_frame: Callable[[], bool]
    ) -> None:
        self.env, self.policy, self.config, self.on_frame = env, policy, config, on_frame
        self.facts = describe(env)
        self.limit = step_limit(env, config)
        space = env.observation_space
        if not isinstance(space, gym.spaces.Dict) or not {"image", "state"} <= set(space.spaces):
            raise CollectError(f'observations must be a dict with "image" and "state", this one is {space}')
        self.state_space = space["state"]
        self.flat = isinstance(self.state_space, gym.spaces.Box) and self.state_space.dtype in FLOATS
        self.flat = self.flat and len(self.state_space.shape or ()) == 1

    def run(self, seed: int) -> Episode | None:
        """The episode of this seed, the same to the bit wherever it runs; None if it was abandoned."""
        limit = min(self.limit, self.policy.reset(seed) or self.limit)
        observation, info = self.env.reset(seed=seed)
        recording = Recording(self._seen(observation, info), limit)
        alive, terminated, truncated = self.on_frame(), False, False
        while alive and not (terminated or truncated):
            action = self.policy(observation)
            observation, reward, terminated, truncated, info = self.env.step(action)
            steps = recording.add(action, reward, self._seen(observation, info))
            truncated = truncated or (steps == limit and not terminated)
            alive = self.on_frame()
        if not (terminated or truncated):
            return None
        meta = {"seed": seed, "policy": self.config.policy}
        return recording.episode(terminated, truncated, {**self.facts, **meta})

    def _seen(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """The rows of one moment by array name."""
        state = observation["state"] if self.flat else self._flattened(observation["state"])
        seen = {"image": observation["image"], "state": state}
        for name in EXTRA:
            if name in info:
                seen[name] = info[name]
        return seen

    def _flattened(self, state: Any) -> NDArray[Any]:
        flat = np.asarray(gym.spaces.flatten(self.state_space, state))
        return flat if flat.dtype in FLOATS else flat.astype(np.float32)
