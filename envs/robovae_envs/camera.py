"""Camera: any Gymnasium environment, seen through a camera.

The observation becomes `{"image": (H, W, 3) uint8, "state": the old observation}`. MuJoCo environments are
drawn by the fast renderer of this package, all others through their own `rgb_array` render.
"""

import difflib
import platform
from dataclasses import replace
from typing import Any, SupportsFloat

import cv2
import gymnasium as gym
import mujoco
import numpy as np
from numpy.typing import NDArray

from robovae_envs.errors import EnvError
from robovae_envs.renderer import Renderer
from robovae_envs.spec import RenderSpec
from robovae_envs.starts import SpreadStart

__all__ = ["Camera", "RenderSpec", "make"]

Observation = dict[str, Any]


class Camera(gym.Wrapper[Observation, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Adds a frame to every observation.

    Observation: `{"image": (H, W, 3) uint8 RGB, C-contiguous, fresh memory each step, "state": the old one}`.
    For MuJoCo environments `info` has float64 copies `"qpos"` (nq,) and `"qvel"` (nv,), and the frame shows
    exactly that `qpos`. Drawing never advances a random generator and never touches the environment's data.
    The renderer starts at the first `reset`.

    Args:
        env: any environment that is MuJoCo-based, or was made with `render_mode="rgb_array"`.
        spec: what frames look like. A pose left open is filled from the environment; see `render_spec`.

    Raises:
        EnvError: the environment cannot be drawn; at the first `reset`: OpenGL does not start.
    """

    def __init__(self, env: gym.Env[Any, Any], spec: RenderSpec) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, spec=spec)
        gym.Wrapper.__init__(self, env)
        self._is_mujoco = is_mujoco(env)
        if not self._is_mujoco and env.render_mode != "rgb_array":
            raise EnvError(
                f"{_env_id(env)} is no MuJoCo environment and has render_mode={env.render_mode!r}; "
                'make it with render_mode="rgb_array"'
            )
        self.render_spec = complete_pose(spec, env) if self._is_mujoco else spec
        self._renderer: Renderer | None = None
        image = gym.spaces.Box(0, 255, (spec.height, spec.width, 3), np.uint8)
        self.observation_space = gym.spaces.Dict({"image": image, "state": env.observation_space})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Reset the environment and draw its first frame."""
        state, info = self.env.reset(seed=seed, options=options)
        return self._observe(state), self._inform(info)

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment and draw the frame that follows."""
        state, reward, terminated, truncated, info = self.env.step(action)
        return self._observe(state), reward, terminated, truncated, self._inform(info)

    def frame(self) -> NDArray[np.uint8]:
        """The frame of the present state: (H, W, 3), C-contiguous, fresh memory."""
        if not self._is_mujoco:
            return _resized(self.env.render(), self.render_spec)
        base: Any = self.env.unwrapped
        if self._renderer is None or self._renderer.model is not base.model:
            self._free()
            self._renderer = Renderer(base.model, self.render_spec)
        return self._renderer.render(base.data)

    def describe(self) -> dict[str, Any]:
        """What a dataset must remember of its source, JSON-able: env_id, render_spec, joints, versions."""
        base: Any = self.env.unwrapped
        return {
            "env_id": _env_id(self.env),
            "render_spec": self.render_spec.to_dict(),
            "joints": describe_joints(base.model) if self._is_mujoco else [],
            "versions": {
                "python": platform.python_version(),
                "gymnasium": gym.__version__,
                "mujoco": mujoco.__version__,
                "numpy": np.__version__,
            },
        }

    def close(self) -> None:
        """Free the GL context and close the environment."""
        self._free()
        super().close()

    def _free(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _observe(self, state: Any) -> Observation:
        return {"image": self.frame(), "state": state}

    def _inform(self, info: dict[str, Any]) -> dict[str, Any]:
        if not self._is_mujoco:
            return info
        data = self.env.unwrapped.data  # type: ignore[attr-defined]  # is_mujoco() saw it
        return {**info, "qpos": data.qpos.copy(), "qvel": data.qvel.copy()}


def make(env_id: str, spec: RenderSpec, *, spread: float = 0.0, **kwargs: Any) -> Camera:
    """Make an environment with a camera on it; a factory for workers through `functools.partial`.

    Args:
        env_id: a registered Gymnasium id, for example "Reacher-v5".
        spec: what frames look like, for example `RenderSpec.fast("Reacher-v5")`.
        spread: share of the joints' range over which episodes start; see `SpreadStart`.
        kwargs: handed to `gymnasium.make`.

    Raises:
        EnvError: no such environment (the nearest names are given), or it cannot be made or drawn.
    """
    options = {"disable_env_checker": True, **kwargs}  # the checker costs time on every step
    env = _make(env_id, options)
    if not is_mujoco(env) and env.render_mode != "rgb_array":
        env.close()
        env = _make(env_id, {**options, "render_mode": "rgb_array"})
    if spread:
        env = SpreadStart(env, spread)
    return Camera(env, spec)


def is_mujoco(env: gym.Env[Any, Any]) -> bool:
    """Whether the environment holds a MuJoCo model and its data, so that we can draw it ourselves."""
    base = env.unwrapped
    model, data = getattr(base, "model", None), getattr(base, "data", None)
    return isinstance(model, mujoco.MjModel) and isinstance(data, mujoco.MjData)


def complete_pose(spec: RenderSpec, env: gym.Env[Any, Any]) -> RenderSpec:
    """Fill the open parts of a pose from the viewer settings of the environment, else from the model."""
    base: Any = env.unwrapped
    if spec.camera is not None:
        return spec
    viewer = getattr(base, "mujoco_renderer", None)
    config = getattr(viewer, "default_cam_config", None) or {}
    stat = base.model.stat
    defaults: dict[str, Any] = {
        "lookat": tuple(float(x) for x in config.get("lookat", stat.center)),
        "distance": float(config.get("distance", 1.5 * stat.extent)),
        "azimuth": float(config.get("azimuth", 90.0)),
        "elevation": float(config.get("elevation", -45.0)),
    }
    return replace(spec, **{name: value for name, value in defaults.items() if getattr(spec, name) is None})


_JOINT_TYPES = ("free", "ball", "slide", "hinge")  # mjtJoint's order


def describe_joints(model: Any) -> list[dict[str, Any]]:
    """The joints of a model in the order of `qpos`; ranges in radians or metres."""
    return [
        {
            "name": mujoco.mj_id2name(model, int(mujoco.mjtObj.mjOBJ_JOINT), i),
            "type": _JOINT_TYPES[int(model.jnt_type[i])],
            "qpos_index": int(model.jnt_qposadr[i]),
            "qvel_index": int(model.jnt_dofadr[i]),
            "limited": bool(model.jnt_limited[i]),
            "range": [float(x) for x in model.jnt_range[i]],
        }
        for i in range(int(model.njnt))
    ]


def _make(env_id: str, options: dict[str, Any]) -> gym.Env[Any, Any]:
    try:
        return gym.make(env_id, **options)
    except gym.error.UnregisteredEnv as error:
        near = difflib.get_close_matches(env_id, list(gym.registry), n=3, cutoff=0.4)
        raise EnvError(
            f"no environment {env_id!r}; the nearest names: {', '.join(near) or 'none'}"
        ) from error
    except gym.error.DependencyNotInstalled as error:
        raise EnvError(f"{env_id} cannot be made: {error}") from error


def _env_id(env: gym.Env[Any, Any]) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def _resized(frame: Any, spec: RenderSpec) -> NDArray[np.uint8]:
    if frame.shape[:2] == (spec.height, spec.width):
        return np.array(frame, np.uint8, order="C")
    resized = cv2.resize(np.ascontiguousarray(frame), (spec.width, spec.height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)
