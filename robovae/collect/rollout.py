"""One episode: reset with its seed, act until the end, keep everything that was seen."""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae import __version__
from robovae.collect.config import DEFAULT_MAX_STEPS, CollectConfig, CollectError
from robovae.collect.joints import reset_spread
from robovae.collect.policies import Policy, rest_action
from robovae.episodes import Episode

EXTRA = ("qpos", "qvel")


def describe(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """The JSON-able facts about an environment that go with every episode: its own `describe()` if it has one."""
    if env.has_wrapper_attr("describe"):
        facts: dict[str, Any] = env.get_wrapper_attr("describe")()
    else:
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        facts = {"env_id": name, "render_spec": None, "joints": [], "versions": {"gymnasium": gym.__version__}}
    return {**facts, "versions": {**facts.get("versions", {}), "robovae": __version__}}


def step_limit(env: gym.Env[Any, Any], config: CollectConfig) -> int:
    """After how many steps an episode is cut."""
    own = env.spec.max_episode_steps if env.spec is not None else None
    return min(config.max_steps or own or DEFAULT_MAX_STEPS, own or DEFAULT_MAX_STEPS * 1000)


class Track:
    """An array that fills up row by row; the memory is reserved at once and touched only as it is used."""

    def __init__(self, first: NDArray[Any], capacity: int) -> None:
        self.rows = np.empty((capacity, *first.shape), first.dtype)
        self.rows[0] = first


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
        self.flat = isinstance(self.state_space, gym.spaces.Box) and len(self.state_space.shape) == 1

    def run(self, seed: int) -> Episode | None:
        """The episode of this seed, the same to the bit wherever it runs; None if it was abandoned."""
        actions_left = self.policy.reset(seed)
        limit = min(self.limit, actions_left or self.limit)
        observation, info = self._reset(seed)
        tracks = {name: Track(value, limit + 1) for name, value in self._seen(observation, info).items()}
        actions: list[NDArray[np.float32]] = []
        rewards: list[float] = []
        alive = self.on_frame()
        terminated = truncated = False
        step, policy = self.env.step, self.policy
        while alive and not (terminated or truncated):
            action = policy(observation)
            actions.append(np.array(action, np.float32).reshape(-1))
            observation, reward, terminated, truncated, info = step(action)
            rewards.append(float(reward))
            time = len(actions)
            truncated = truncated or (time == limit and not terminated)
            for name, value in self._seen(observation, info).items():
                tracks[name].rows[time] = value
            alive = self.on_frame()
        if not (terminated or truncated):
            return None
        ends = np.zeros((2, len(actions)), np.bool_)
        ends[:, -1] = terminated, truncated
        seen = {name: track.rows[: len(actions) + 1] for name, track in tracks.items()}
        return Episode(
            image=seen.pop("image"),
            state=seen.pop("state"),
            action=np.stack(actions),
            reward=np.array(rewards, np.float32),
            terminated=ends[0],
            truncated=ends[1],
            extra=seen,
            meta={**self.facts, "seed": seed, "policy": self.config.policy, "spread": self.config.spread},
        )

    def _reset(self, seed: int) -> tuple[Any, dict[str, Any]]:
        if not self.config.spread:
            return self.env.reset(seed=seed)
        rest = rest_action(self.env.action_space)
        return reset_spread(self.env, self.facts["joints"], self.config.spread, seed, rest)

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
        return flat if flat.dtype.kind == "f" else flat.astype(np.float32)
