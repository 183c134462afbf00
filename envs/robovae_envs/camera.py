"""Camera: any Gymnasium environment, seen through a camera.

The observation becomes `{"image": (H, W, 3) uint8, "state": the old observation}`. MuJoCo environments are
drawn by the fast renderer of this package, all others through their own `rgb_array` render.
"""

import contextlib
import difflib
import importlib.util
import io
import platform
from typing import Any, SupportsFloat

import cv2
import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae_envs.errors import EnvError
from robovae_envs.renderer import Edit, Renderer
from robovae_envs.simulator import loading, mujoco
from robovae_envs.spec import RenderSpec
from robovae_envs.starts import SpreadStart
from robovae_envs.views import complete_pose

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
        if not self._is_mujoco:
            _check_own_render(env, spec)
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
        state, reward, terminated, truncated, info = self.step_unseen(action)
        return self._observe(state), reward, terminated, truncated, info

    def step_unseen(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step without drawing: what `step` returns, with the state alone in the place of the observation."""
        state, reward, terminated, truncated, info = self.env.step(action)
        return state, reward, terminated, truncated, self._inform(info)

    def frame(self, edit: Edit | None = None) -> NDArray[np.uint8]:
        """The frame (H, W, 3) of the present state, in fresh memory; `edit` changes MuJoCo's scene."""
        if not self._is_mujoco:
            return _resized(self.env.render(), self.render_spec)
        base: Any = self.env.unwrapped
        return self._ready_renderer().render(base.data, edit)

    def frames_of(self, qpos: NDArray[np.float64], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Frames of other positions of a MuJoCo model; the environment itself stays as it is.

        Args:
            qpos: (T, nq) positions.
            out: (T, H, W, 3) uint8 to draw into, made if None.

        Returns:
            `out`.

        Raises:
            EnvError: the environment is no MuJoCo environment.
        """
        if not self._is_mujoco:
            raise EnvError(f"{_env_id(self.env)} is no MuJoCo environment: it has no qpos to draw")
        spec = self.render_spec
        frames = np.empty((len(qpos), spec.height, spec.width, 3), np.uint8) if out is None else out
        self._ready_renderer().render_positions(qpos, frames)
        return frames

    def describe(self) -> dict[str, Any]:
        """What a dataset must remember of its source, as JSON-able data."""
        base: Any = self.env.unwrapped
        return {
            "env_id": _env_id(self.env),
            "render_spec": self.render_spec.to_dict(),
            "joints": describe_joints(base.model) if self._is_mujoco else [],
            "spread": _spread(self.env),
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

    def _ready_renderer(self) -> Renderer:
        """The renderer of the present model, started when first needed."""
        model: Any = self.env.unwrapped.model  # type: ignore[attr-defined]  # is_mujoco() saw it
        if self._renderer is None or self._renderer.model is not model:
            self._free()
            self._renderer = Renderer(model, self.render_spec)
        return self._renderer

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


PLUGINS = ("gymnasium_robotics",)
"""Packages of environments that register nothing before they are imported."""


def _make(env_id: str, options: dict[str, Any]) -> gym.Env[Any, Any]:
    try:
        with loading():
            return gym.make(_imported(env_id), **options)
    except (gym.error.DependencyNotInstalled, ImportError) as error:
        reason = "; ".join(str(part) for part in error.args)
        raise EnvError(f"{env_id} cannot be made, something it needs is not installed: {reason}") from error
    except gym.error.Error as error:
        raise EnvError(
            f"no environment {env_id!r}; the nearest names: {', '.join(_nearest(env_id)) or 'none'}"
            " (environments of other packages: MODULE:NAME)"
        ) from error
    except Exception as error:  # whatever the code of a third party trips over
        raise EnvError(f"{env_id} cannot be made: {type(error).__name__}: {error}") from error


def _imported(env_id: str) -> str:
    """`env_id`, after importing the known packages of environments if Gymnasium has none of that name."""
    if env_id not in gym.registry and ":" not in env_id:
        for package in PLUGINS:
            if importlib.util.find_spec(package):
                with contextlib.redirect_stderr(io.StringIO()):  # it tells about its versions on import
                    importlib.import_module(package)
    return env_id


def _nearest(env_id: str) -> list[str]:
    names = {name.lower(): name for name in gym.registry}
    return [names[near] for near in difflib.get_close_matches(env_id.lower(), names, n=3, cutoff=0.5)]


def _check_own_render(env: gym.Env[Any, Any], spec: RenderSpec) -> None:
    if env.render_mode != "rgb_array":
        raise EnvError(
            f"{_env_id(env)} is no MuJoCo environment and has render_mode={env.render_mode!r}; "
            'make it with render_mode="rgb_array"'
        )
    if spec.camera is not None or spec.lookat is not None or spec.track is not None:
        raise EnvError(
            f"{_env_id(env)} draws itself, so a camera has no effect; leave camera and pose at None"
        )


def _env_id(env: gym.Env[Any, Any]) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def _spread(env: gym.Env[Any, Any]) -> float:
    """The scale of a `SpreadStart` among the wrappers, 0 if there is none."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, SpreadStart):
            return env.scale
        env = env.env
    return 0.0


def _resized(frame: Any, spec: RenderSpec) -> NDArray[np.uint8]:
    if frame.shape[:2] == (spec.height, spec.width):
        return np.array(frame, np.uint8, order="C")
    resized = cv2.resize(np.ascontiguousarray(frame), (spec.width, spec.height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)
