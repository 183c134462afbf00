"""A Gymnasium task without MuJoCo and without GL, shared by all tests: a square pushed about a dark field.

Use it as ``from tests.toy_env import ToyEnv, make_toy``; ``make_toy`` and ``functools.partial(make_toy, ..)``
are picklable, so they serve as environment factories for worker processes.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

Observation = dict[str, np.ndarray]


class ToyEnv(gym.Env[Observation, np.ndarray]):
    """A square of 3x3 pixels with inertia; the action pushes it.

    Observation: {"image": (H, W, 3) uint8, "state": (4,) float32 position and velocity, both in [-1, 1]}.
    Action: Box(-1, 1, (2,)) float32. Reward: minus the distance to the centre. It ends (terminated) when the
    square touches the rim with `rim_ends`, and never by itself otherwise; a time limit truncates.

    Args:
        height, width: size of the frame in pixels.
        max_steps: steps after which the episode is truncated.
        rim_ends: True if touching the rim terminates the episode, so that lengths vary.
        fault: None, or what goes wrong at step `fault_step`: "hang", "raise", "segv" (dies by a signal).
        fault_step: 0 means at reset.
        fault_seed: the only episode in which it goes wrong; None: in all.
        once: a file; the fault happens only while it does not exist, and creates it.
    """

    def __init__(
        self,
        height: int = 16,
        width: int = 16,
        max_steps: int = 20,
        rim_ends: bool = False,
        fault: str | None = None,
        fault_step: int = 5,
        fault_seed: int | None = None,
        once: Path | None = None,
        step_seconds: float = 0.0,
    ) -> None:
        self.height, self.width, self.max_steps, self.rim_ends = height, width, max_steps, rim_ends
        self.fault, self.fault_step, self.fault_seed = fault, fault_step, fault_seed
        self.once, self.step_seconds = once, step_seconds
        self.observation_space = gym.spaces.Dict(
            {
                "image": gym.spaces.Box(0, 255, (height, width, 3), np.uint8),
                "state": gym.spaces.Box(-1.0, 1.0, (4,), np.float32),
            }
        )
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def describe(self) -> dict[str, Any]:
        """As Camera.describe(): the JSON-able facts that are stored with every episode."""
        joints = [
            {"name": name, "type": "hinge", "qpos_index": index, "limited": True, "range": [-1.0, 1.0]}
            for index, name in enumerate("xy")
        ]
        spec = {"height": self.height, "width": self.width}
        return {"env_id": "Toy-v0", "render_spec": spec, "joints": joints, "versions": {"toy": "1"}}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        self.seed = seed
        self.position = self.np_random.uniform(-0.5, 0.5, 2)
        self.velocity = np.zeros(2)
        self.steps = 0
        self._maybe_fail()
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self._maybe_fail()
        if self.step_seconds:
            time.sleep(self.step_seconds)
        self.velocity = np.clip(0.9 * self.velocity + 0.1 * np.asarray(action, np.float64), -1, 1)
        self.position = np.clip(self.position + 0.2 * self.velocity, -1, 1)
        terminated = self.rim_ends and bool((np.abs(self.position) >= 1).any())
        reward = -float(np.linalg.norm(self.position))
        return self._observation(), reward, terminated, self.steps >= self.max_steps, self._info()

    def render(self) -> np.ndarray:
        """The frame (H, W, 3) uint8 of the present position."""
        frame = np.full((self.height, self.width, 3), 20, np.uint8)
        corner = ((self.position + 1) / 2 * (np.array([self.height, self.width]) - 3)).round().astype(int)
        frame[corner[0] : corner[0] + 3, corner[1] : corner[1] + 3] = (230, 120, 40)
        return frame

    def _observation(self) -> Observation:
        state = np.concatenate([self.position, self.velocity]).astype(np.float32)
        return {"image": self.render(), "state": state}

    def _info(self) -> dict[str, Any]:
        return {"qpos": self.position.copy(), "qvel": self.velocity.copy()}

    def _maybe_fail(self) -> None:
        if self.fault is None or self.steps != self.fault_step or self.fault_seed not in (None, self.seed):
            return
        if self.once is not None:
            if self.once.exists():
                return
            self.once.touch()
        if self.fault == "hang":
            time.sleep(3600)
        if self.fault == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        raise ValueError("the toy was told to fail")


def make_toy(**kwargs: Any) -> ToyEnv:
    """Picklable factory: ``functools.partial(make_toy, max_steps=5)`` makes environments in workers."""
    return ToyEnv(**kwargs)
