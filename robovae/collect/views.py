"""How the frames of an episode are got: with every step, or all together after the last one.

A renderer and a simulator that take turns evict each other from the processor's caches. Where nobody looks at
the frames while the episode runs, and they depend on the stored `qpos` alone, they are drawn when it is over:
the same frames to the bit, in less time.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.collect.config import CollectError

FLOATS = (np.float32, np.float64)
POSITIONS = ("qpos", "qvel")
BLOCK = 32
KNOWN_WRAPPERS = ("gymnasium.", "robovae_envs.")
"""Modules of wrappers that do not change the model."""

Rows = dict[str, NDArray[Any]]
"""What is stored of one moment, by array name."""
Moment = tuple[Mapping[str, Any], SupportsFloat, bool, bool, Rows]
"""Observation for the policy, reward, terminated, truncated, rows."""


class View(Protocol):
    """What the rollout needs of an environment."""

    def reset(self, seed: int) -> tuple[Mapping[str, Any], Rows]:
        """Begin an episode; gives the observation for the policy and the rows to store."""

    def step(self, action: Any) -> Moment:
        """One step."""

    def frames(self, rows: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8] | None:
        """The frames of the finished episode, (T+1, H, W, 3); None if they came before, or on a stop."""


def make_view(env: gym.Env[Any, Any], looks: bool, on_frames: Callable[[int], bool]) -> View:
    """Choose how to get the frames.

    Args:
        env: observations are {"image": (H, W, 3) uint8, "state": (S,) or a space that flattens to it}.
        looks: whether the policy looks at observations.
        on_frames: told how many frames were drawn, often; False asks to stop.

    Raises:
        CollectError: if observations are of another kind.
    """
    space = env.observation_space
    if not isinstance(space, gym.spaces.Dict) or not {"image", "state"} <= set(space.spaces):
        raise CollectError(f'observations must be a dict with "image" and "state", this one is {space}')
    state = StateRow(space["state"])
    return (
        LateView(env, state, on_frames) if not looks and draws_qpos(env) else LiveView(env, state, on_frames)
    )


def draws_qpos(env: gym.Env[Any, Any]) -> bool:
    """Whether the outermost wrapper draws, by `frames_of`, the `qpos` of one of Gymnasium's own MuJoCo tasks.

    Those do not change their model while they run, nor do Gymnasium's wrappers and our own, so that `qpos`
    says all about a frame. What others' wrappers do is anybody's guess.
    """
    base: Any = env.unwrapped
    inner: Any = env
    while isinstance(inner := getattr(inner, "env", None), gym.Wrapper):
        if not type(inner).__module__.startswith(KNOWN_WRAPPERS):
            return False
    return (
        isinstance(env, gym.Wrapper)
        and hasattr(type(env), "frames_of")
        and hasattr(env, "render_spec")
        and type(base).__module__.startswith("gymnasium.envs.mujoco.")
        and base.model.nmocap == 0
    )


class StateRow:
    """Turns the environment's own observation into a row of floats."""

    def __init__(self, space: gym.Space[Any]) -> None:
        self.space = space
        self.is_row = isinstance(space, gym.spaces.Box) and space.dtype in FLOATS and len(space.shape) == 1

    def __call__(self, state: Any) -> NDArray[Any]:
        """(S,) float32 or float64."""
        if self.is_row:
            return np.asarray(state)
        flat = np.asarray(gym.spaces.flatten(self.space, state))
        return flat if flat.dtype in FLOATS else flat.astype(np.float32)


class LiveView:
    """Frames come with the observations; any environment."""

    def __init__(self, env: gym.Env[Any, Any], state: StateRow, on_frames: Callable[[int], bool]) -> None:
        self.env, self.state, self.on_frames = env, state, on_frames

    def reset(self, seed: int) -> tuple[Mapping[str, Any], Rows]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed)
        self.on_frames(1)
        return observation, self._rows(observation, info)

    def step(self, action: Any) -> Moment:
        """One step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.on_frames(1)
        return observation, reward, terminated, truncated, self._rows(observation, info)

    def frames(self, rows: Mapping[str, NDArray[Any]]) -> None:
        """They came already."""

    def _rows(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> Rows:
        rows = {"image": observation["image"], "state": self.state(observation["state"])}
        for name in POSITIONS:
            if name in info:
                rows[name] = info[name]
        return rows


class LateView:
    """Steps the environment beneath the camera, and draws when the episode is over; policies see no frame."""

    def __init__(self, camera: Any, state: StateRow, on_frames: Callable[[int], bool]) -> None:
        self.camera, self.state, self.on_frames = camera, state, on_frames
        self.env, self.data = camera.env, camera.unwrapped.data

    def reset(self, seed: int) -> tuple[Mapping[str, Any], Rows]:
        """Begin an episode."""
        state, _ = self.env.reset(seed=seed)
        return {}, self._rows(state)

    def step(self, action: Any) -> Moment:
        """One step."""
        state, reward, terminated, truncated, _ = self.env.step(action)
        return {}, reward, terminated, truncated, self._rows(state)

    def frames(self, rows: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8] | None:
        """Draw every `qpos` of the episode."""
        qpos, spec = rows["qpos"], self.camera.render_spec
        images = np.empty((len(qpos), spec.height, spec.width, 3), np.uint8)
        for start in range(0, len(qpos), BLOCK):
            drawn = self.camera.frames_of(qpos[start : start + BLOCK], out=images[start : start + BLOCK])
            if not self.on_frames(len(drawn)):
                return None
        return images

    def _rows(self, state: Any) -> Rows:
        return {"state": self.state(state), "qpos": self.data.qpos, "qvel": self.data.qvel}
