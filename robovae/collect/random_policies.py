"""Who acts at random while collecting."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

Action = Any
Observation = Mapping[str, NDArray[Any]]
Space = gym.spaces.Box | gym.spaces.Discrete[Any]

MEAN_SEGMENT, LONGEST_SEGMENT, SEGMENTS = 8, 40, 4
LOUD, QUIETEST = 0.4, 0.03


class RandomPolicy:
    """Holds, ramps, bang-bang and rest, each for a random while, at an amplitude drawn for the episode.

    White noise averages out in a body with inertia and stays near the start; held targets push it through
    its range. The amplitude mixes loud with quiet episodes: an unstable pendulum lives longer in those.
    """

    looks = False

    def __init__(self, space: gym.spaces.Box) -> None:
        low, high = _bounds(space)
        self.middle, self.reach = ((high + low) / 2).ravel(), ((high - low) / 2).ravel()
        self.space = space

    def reset(self, seed: int) -> None:
        """Start afresh from the seed of the episode."""
        self.rng = np.random.default_rng([seed, 0])
        loud = self.rng.random() < LOUD
        self.amplitude = 1.0 if loud else QUIETEST ** self.rng.random()
        self.last = np.zeros((1, len(self.middle)))
        self.actions: list[NDArray[Any]] = []
        self.index = 0

    def __call__(self, observation: Observation) -> Action:
        """The next action; a few segments more when they are used up."""
        if self.index == len(self.actions):
            self.actions, self.index = self._draw_segments(), 0
        self.index += 1
        return self.actions[self.index - 1]

    def _draw_segments(self) -> list[NDArray[Any]]:
        """The actions of a few random stretches of time, drawn together because single draws cost time."""
        rng = self.rng
        steps = np.minimum(rng.geometric(1 / MEAN_SEGMENT, SEGMENTS), LONGEST_SEGMENT)
        targets = rng.uniform(-self.amplitude, self.amplitude, (SEGMENTS, len(self.middle)))
        kind = rng.random(SEGMENTS)
        is_rest, is_bang, is_ramp = kind < 0.1, (kind >= 0.1) & (kind < 0.2), kind >= 0.65
        targets[is_rest] = 0.0
        targets[is_bang] = self.amplitude * np.sign(targets[is_bang])
        segment = np.repeat(np.arange(SEGMENTS), steps)
        elapsed = np.arange(1, len(segment) + 1) - (np.cumsum(steps) - steps)[segment]
        phase = np.where(is_ramp[segment], elapsed / steps[segment], 1.0)[:, None]
        starts = np.concatenate([self.last, targets[:-1]])
        self.last = targets[-1:]
        path = starts[segment] * (1 - phase) + targets[segment] * phase
        actions = (self.middle + self.reach * path).astype(self.space.dtype).reshape(-1, *self.space.shape)
        return list(actions)


def _bounds(space: gym.spaces.Box) -> tuple[NDArray[Any], NDArray[Any]]:
    """The bounds; where an end has none, it is 2 from the other, and -1 or 1 where neither has."""
    low, high = np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)
    below, above = np.isfinite(low), np.isfinite(high)
    return (
        np.where(below, low, np.where(above, high - 2.0, -1.0)),
        np.where(above, high, np.where(below, low + 2.0, 1.0)),
    )


class BangBangPolicy(RandomPolicy):
    """Every action at one of its bounds, held for a random while: fast, far and rarely seen, but valid."""

    def _draw_segments(self) -> list[NDArray[Any]]:
        steps = np.minimum(self.rng.geometric(1 / MEAN_SEGMENT, SEGMENTS), LONGEST_SEGMENT)
        signs = self.rng.choice((-1.0, 1.0), (SEGMENTS, len(self.middle)))
        path = self.middle + self.reach * np.repeat(signs, steps, axis=0)
        return list(path.astype(self.space.dtype).reshape(-1, *self.space.shape))


class RandomDiscretePolicy:
    """Holds each random choice for a random while."""

    looks = False

    def __init__(self, space: gym.spaces.Discrete[Any]) -> None:
        self.start, self.end = int(space.start), int(space.start + space.n)

    def reset(self, seed: int) -> None:
        """Start afresh from the seed of the episode."""
        self.rng = np.random.default_rng([seed, 0])
        self.left = 0

    def __call__(self, observation: Observation) -> Action:
        """The present choice."""
        if self.left == 0:
            self.left = int(self.rng.geometric(1 / MEAN_SEGMENT))
            self.choice = int(self.rng.integers(self.start, self.end))
        self.left -= 1
        return self.choice


def random_policy(space: Space) -> RandomPolicy | RandomDiscretePolicy:
    """The random policy of an action space."""
    return RandomPolicy(space) if isinstance(space, gym.spaces.Box) else RandomDiscretePolicy(space)
