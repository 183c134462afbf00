"""One episode: reset with its seed, act until the end, keep everything that was seen."""

from collections.abc import Callable, Mapping
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.collect.config import DEFAULT_MAX_STEPS, CollectConfig
from robovae.collect.facts import describe
from robovae.collect.policies import Policy
from robovae.collect.views import Rows, make_view
from robovae.episodes import Episode


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

    def __init__(self, first: Rows, steps: int) -> None:
        self.rows = {name: np.empty((steps + 1, *row.shape), row.dtype) for name, row in first.items()}
        self.actions: list[NDArray[np.float32]] = []
        self.rewards: list[float] = []
        self._put(first)

    def add(self, action: Any, reward: SupportsFloat, rows: Rows) -> int:
        """Keep one step; returns how many there are."""
        self.actions.append(np.array(action, np.float32).reshape(-1))
        self.rewards.append(float(reward))
        self._put(rows)
        return len(self.actions)

    def _put(self, rows: Rows) -> None:
        time = len(self.actions)
        for name, kept in self.rows.items():
            kept[time] = rows[name]

    def arrays(self) -> Rows:
        """All rows by array name."""
        return {name: rows[: len(self.actions) + 1] for name, rows in self.rows.items()}

    def episode(self, arrays: Rows, terminated: bool, truncated: bool, meta: Mapping[str, Any]) -> Episode:
        """The episode of these arrays, which ended in one of two ways."""
        ends = np.zeros((2, len(self.actions)), np.bool_)
        ends[:, -1] = terminated, truncated
        extra = {name: rows for name, rows in arrays.items() if name not in ("image", "state")}
        return Episode(
            image=arrays["image"],
            state=arrays["state"],
            action=np.stack(self.actions),
            reward=np.array(self.rewards, np.float32),
            terminated=ends[0],
            truncated=ends[1],
            extra=extra,
            meta=meta,
        )


class Rollout:
    """Runs whole episodes in one environment with one policy.

    Args:
        env: observations are {"image": (H, W, 3) uint8, "state": (S,) or a space that flattens to it}.
        policy: who acts.
        config: limits, and what to note in the metadata.
        on_frames: told how many frames were drawn, often; False abandons the episode.

    Raises:
        CollectError: if observations are of another kind.
    """

    def __init__(
        self, env: gym.Env[Any, Any], policy: Policy, config: CollectConfig, on_frames: Callable[[int], bool]
    ) -> None:
        self.policy, self.on_frames = policy, on_frames
        self.view = make_view(env, policy.looks, self._count)
        self.facts, self.how = describe(env), config.remembered()  # as the policy is that was made
        self.limit = step_limit(env, config)
        self.alive = True

    def run(self, seed: int) -> Episode | None:
        """The episode of this seed, the same to the bit wherever it runs; None if it was abandoned."""
        self.alive = True
        limit = min(self.limit, self.policy.reset(seed) or self.limit)
        observation, rows = self.view.reset(seed)
        recording = Recording(rows, limit)
        terminated = truncated = False
        while self.alive and not (terminated or truncated):
            action = self.policy(observation)
            observation, reward, terminated, truncated, rows = self.view.step(action)
            steps = recording.add(action, reward, rows)
            truncated = truncated or (steps == limit and not terminated)
        if not self.alive:
            return None
        return self._finish(recording, terminated, truncated, seed)

    def _finish(self, recording: Recording, terminated: bool, truncated: bool, seed: int) -> Episode | None:
        arrays = recording.arrays()
        images = self.view.frames(arrays)
        if images is not None:
            arrays["image"] = images
        meta = {**self.facts, "seed": seed, **self.how}
        return recording.episode(arrays, terminated, truncated, meta) if self.alive else None

    def _count(self, frames: int) -> bool:
        self.alive = self.on_frames(frames)
        return self.alive
