"""Joint angles: how much of their range was visited, and initial states spread over it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.collect.config import CollectError

BINS = 36
DEEPEST_CONTACT = -0.01
ATTEMPTS = 20

Joint = Mapping[str, Any]


def hinges(joints: Sequence[Joint]) -> list[Joint]:
    """The hinge joints among the descriptions in an episode's metadata."""
    return [joint for joint in joints if joint["type"] == "hinge"]


def visited_bins(qpos: NDArray[np.float64], joints: Sequence[Joint]) -> NDArray[np.bool_]:
    """Which bins of its range each hinge visited.

    Args:
        qpos: (T+1, nq) positions, radians.
        joints: descriptions with "type", "qpos_index", "limited", "range" in radians.

    Returns:
        (hinges, 36) booleans. The range of an unlimited hinge is the full turn, angles taken modulo 2 pi.
    """
    chosen = hinges(joints)
    visited = np.zeros((len(chosen), BINS), np.bool_)
    for row, joint in enumerate(chosen):
        low, high = _range(joint)
        share = (qpos[:, joint["qpos_index"]] - low) / (high - low)
        share = np.clip(share, 0.0, 1.0) if joint["limited"] else share % 1.0
        visited[row, np.minimum((share * BINS).astype(int), BINS - 1)] = True
    return visited


def reset_spread(
    env: gym.Env[Any, Any], joints: Sequence[Joint], share: float, seed: int, rest: Any
) -> tuple[Any, dict[str, Any]]:
    """Reset a MuJoCo environment to hinge angles drawn over their ranges; other joints and velocities stay.

    The drawn state takes one step before it is shown, so that any environment reports it in its own way.
    Draws that end the episode, or push geoms into each other by more than 1 cm, are drawn again over less.

    Args:
        env: the environment.
        joints: descriptions as in `visited_bins`.
        share: of each range, about the reset angle, over which angles are drawn.
        seed: of the episode; the same seed draws the same angles.
        rest: the action of that one step.

    Returns:
        observation and info, as `env.reset`.

    Raises:
        CollectError: if the environment has no `set_state` (it is not one of Gymnasium's MuJoCo tasks).
    """
    base: Any = env.unwrapped
    if not hasattr(base, "set_state") or not hasattr(base, "data"):
        raise CollectError(
            f"spread needs a Gymnasium MuJoCo task, {type(base).__name__} is none: use spread 0"
        )
    rng = np.random.default_rng([seed, 1])
    for attempt in range(ATTEMPTS):
        env.reset(seed=seed)
        qpos, qvel = base.data.qpos.copy(), base.data.qvel.copy()
        base.set_state(_drawn(qpos, joints, share * 0.8**attempt, rng), qvel)
        if len(base.data.contact.dist) and base.data.contact.dist.min() < DEEPEST_CONTACT:
            continue
        observation, _, terminated, truncated, info = env.step(rest)
        if not (terminated or truncated):
            return observation, info
    return env.reset(seed=seed)


def _drawn(
    qpos: NDArray[np.float64], joints: Sequence[Joint], share: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A copy of `qpos` with every hinge drawn anew within its limits."""
    drawn = qpos.copy()
    for joint in hinges(joints):
        low, high = _range(joint)
        angle = drawn[joint["qpos_index"]] + rng.uniform(-0.5, 0.5) * share * (high - low)
        drawn[joint["qpos_index"]] = np.clip(angle, low, high) if joint["limited"] else angle
    return drawn


def _range(joint: Joint) -> tuple[float, float]:
    """Limits in radians; the full turn for an unlimited hinge."""
    return tuple(joint["range"]) if joint["limited"] else (-math.pi, math.pi)
