"""One episode of one arm, and what is remembered of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from robovae.closed_loop.arms import Arm, Frames
from robovae.closed_loop.errors import ClosedLoopError

OnStep = Callable[[Frames, str, bool], None]
"""Told of each frame that was acted upon, the mode of the action, and whether the fault was there."""


@dataclass(frozen=True)
class Played:
    """An episode."""

    total: float
    """The return: sum of rewards."""
    steps: int
    faulted: int
    """Steps at which the fault was there."""
    coast: int
    """Steps on the prediction alone."""
    fallback: int
    """Steps of the fallback."""
    onset: int | None
    """First step of the fault; None if the episode ended before."""
    alarm: int | None
    """Step of the alarm; None if there was none."""


def play(env: gym.Env[Any, Any], arm: Arm, seed: int, steps: int, on_step: OnStep | None = None) -> Played:
    """Let an arm act until the episode ends.

    Args:
        env: its observation is {"image", "state"}; `info["fault"]`, where it is there, is the truth.
        arm: who acts.
        seed: of the episode.
        steps: after how many it is cut.
        on_step: told of each step.

    Raises:
        ClosedLoopError: the return is not finite.
    """
    observation, info = env.reset(seed=seed)
    arm.reset(seed)
    flags: list[bool] = []
    modes: list[str] = []
    alarms: list[bool] = []
    total, ended = 0.0, False
    while not ended and len(flags) < steps:
        flags.append(bool(info.get("fault", False)))
        action = arm.act(observation, flags[-1])
        modes.append(arm.mode)
        alarms.append(arm.alarm)
        if on_step is not None:
            on_step(np.array(observation["image"]), arm.mode, flags[-1])
        observation, reward, terminated, truncated, info = env.step(action)
        total += float(reward)
        ended = terminated or truncated
    if not np.isfinite(total):
        raise ClosedLoopError(f"expected finite rewards, received a return of {total} at seed {seed}")
    return Played(
        total,
        len(flags),
        sum(flags),
        modes.count("coast"),
        modes.count("fallback"),
        flags.index(True) if True in flags else None,
        alarms.index(True) if True in alarms else None,
    )
