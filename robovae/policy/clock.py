"""How long things take: what records tell of stages, and speeds that are measured on a stretch.

A policy on pixels takes hours, so that a stretch of its training tells its speed.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack

from robovae import provenance
from robovae.policy.config import PolicyConfig, PolicyError
from robovae.policy.learner import make_learner
from robovae.policy.senses import Env
from robovae.policy.session import NEVER
from robovae.policy.training import torch_set_up
from robovae.records import read_json

MakeEnv = Callable[[], Env]

FIRST_SHARE = 6
"""A stretch on pixels acts at random for at most one step in so many."""


def recorded(where: Path, stage: str, name: str) -> float | None:
    """Seconds of a stage; None where neither provenance.json nor its own record tells.

    Args:
        where: the directory of both.
        stage: "collect", "train", ...
        name: of its record.
    """
    stages = (read_json(where / provenance.FILE) or {}).get("stages", {})
    for record in (stages.get(stage) or {}, read_json(where / name) or {}):
        seconds = record.get("seconds", (record.get("result") or {}).get("seconds"))
        if seconds is not None:
            return float(seconds)
    return None


def camera_speed(make_env: MakeEnv, steps: int) -> dict[str, float]:
    """Steps a second of random actions in one environment, frames drawn: "steps_per_second"."""
    env = make_env()
    try:
        env.reset(seed=0)
        env.action_space.seed(0)
        begin = time.monotonic()
        for _ in range(steps):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
        return {"steps_per_second": steps / (time.monotonic() - begin)}
    finally:
        env.close()


def pixel_speed(make_env: MakeEnv, config: PolicyConfig, steps: int, stack: int = 3) -> dict[str, Any]:
    """How fast Stable-Baselines3's `CnnPolicy` learns on stacked frames, from a stretch of it.

    Algorithm, settings and environments are those of a policy on beliefs. The clock starts when updates do:
    learning begins after a sixth of the stretch at the latest.

    Args:
        make_env: environments of observations {"image", ...}.
        config: of the policy on beliefs.
        steps: of the stretch.
        stack: frames at once.

    Returns:
        "steps" and "seconds" on the clock, "steps_per_second", and the "stretch" in all.

    Raises:
        PolicyError: too short a stretch, or actions that do not suit the algorithm.
    """
    starts = min(config.filled().learning_starts or 0, steps // FIRST_SHARE)
    config = replace(config, steps=steps, learning_starts=starts)
    clock = _Clock(starts)
    with torch_set_up(config):
        venv = _frames_env(make_env, config.envs, stack)
        try:
            make_learner(config, venv).learn(steps, clock, log_interval=NEVER)
        finally:
            venv.close()
    done, seconds = clock.since_start()
    if done == 0:
        raise PolicyError(
            f"stretch on pixels: expected steps after the first {starts}, received {steps} in all; raise them"
        )
    return {"stretch": steps, "steps": done, "seconds": seconds, "steps_per_second": done / seconds}


def _frames_env(make_env: MakeEnv, count: int, stack: int) -> VecEnv:
    def bare() -> Env:
        env = make_env()
        space = cast(gym.spaces.Dict, env.observation_space).spaces["image"]
        return gym.wrappers.TransformObservation(env, itemgetter("image"), space)

    return VecFrameStack(DummyVecEnv([bare] * count), stack)


class _Clock(BaseCallback):
    """Notes when rounds of steps and updates begin, from the second one that has updates."""

    def __init__(self, starts: int) -> None:
        super().__init__()
        self._starts = starts
        self._marks: list[tuple[int, float]] = []

    def since_start(self) -> tuple[int, float]:
        """Steps and seconds from the first mark to the last."""
        (first, begin), (last, end) = self._marks[0], self._marks[-1]
        return last - first, end - begin

    def _on_rollout_start(self) -> None:
        if self.num_timesteps > self._starts or not self._starts:  # on-policy rounds all have updates
            self._mark()

    def _on_training_end(self) -> None:
        self._mark()

    def _on_step(self) -> bool:
        return True

    def _mark(self) -> None:
        self._marks.append((self.num_timesteps, time.monotonic()))
