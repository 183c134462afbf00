"""SpreadStart: episodes that begin anywhere in the robot's range, so that data covers it.

Gymnasium's tasks start within a tenth of a radian of one pose; a model trained on that has seen little else.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae_envs.errors import EnvError
from robovae_envs.simulator import driven_joints, mujoco

FULL_TURN = (-np.pi, np.pi)
ONE_NUMBER = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
"""Kinds of joints that one number of `qpos` is all of."""

RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "InvertedPendulum": {"slider": (-0.9, 0.9), "hinge": (-0.19, 0.19)},  # ends at 0.2 rad
    "InvertedDoublePendulum": {"slider": (-0.9, 0.9), "hinge": (-0.3, 0.3), "hinge2": (-0.4, 0.4)},
    "Swimmer": {"free_body_rot": FULL_TURN},
}
"""Ranges that the joint limits do not tell: joints that end the episode, or that are free and not driven."""

DEEPEST_CONTACT = 0.01
"""Metres that geoms may overlap at a start."""
_NEEDED = ("model", "data", "set_state", "_get_obs", "_get_reset_info")  # all of Gymnasium's tasks have them
_TRIES = 50
_FAR = 100.0


class SpreadStart(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Spreads the initial joint angles over their valid range, with the environment's own generator.

    Every driven joint starts anywhere within its limits (an unlimited hinge: within a full turn). All else is
    the environment's own draw: root poses, velocities, targets, objects; a robot that is free to move up and
    down is put onto the floor. Starts that overlap deeply or are unhealthy are drawn again, in the end closer
    and closer to the environment's own start. The same seed gives the same start.

    Args:
        env: a Gymnasium MuJoCo task whose observation no wrapper has changed yet.
        scale: share of the range that is used: 1 all of it, 0 the environment's own start.

    Raises:
        EnvError: the environment is of another kind, or `scale` is outside [0, 1].
    """

    def __init__(self, env: gym.Env[Any, Any], scale: float = 1.0) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, scale=scale)
        gym.Wrapper.__init__(self, env)
        base: Any = env.unwrapped
        if not all(hasattr(base, name) for name in _NEEDED):
            raise EnvError(
                f"SpreadStart: {type(base).__name__} is no Gymnasium MuJoCo task; leave SpreadStart out"
            )
        if env.observation_space != base.observation_space:
            raise EnvError(
                "SpreadStart: a wrapper changed the observation; put SpreadStart inside that wrapper"
            )
        if not 0.0 <= scale <= 1.0:
            raise EnvError(f"SpreadStart: expected a scale from 0 to 1, got {scale!r}")
        self.scale = scale
        self._index, self._low, self._high = _spread_joints(base)
        self._height, self._floor = _root_height(base.model), _floor(base.model)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment, then move its joints to a start of our own."""
        self.env.reset(seed=seed, options=options)
        base: Any = self.env.unwrapped
        qpos, qvel = base.data.qpos.copy(), base.data.qvel.copy()
        for attempt in range(_TRIES):
            closer = min(1.0, 2.0 - 2.0 * attempt / _TRIES)
            base.set_state(self._draw(qpos, self.scale * closer), qvel)
            self._settle()
            if _is_valid(base):
                break
        else:
            base.set_state(qpos, qvel)
        return base._get_obs(), base._get_reset_info()

    def _draw(self, own: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
        """A `qpos` between the environment's own (scale 0) and one drawn from the whole range (scale 1)."""
        qpos = own.copy()
        drawn = self.env.unwrapped.np_random.uniform(self._low, self._high)
        qpos[self._index] += scale * (drawn - qpos[self._index])
        return qpos

    def _settle(self) -> None:
        """Move a robot that is free to move up and down until it just touches the floor."""
        base: Any = self.env.unwrapped
        if self._floor is None or self._height is None:
            return
        model, data = base.model, base.data
        moving = np.flatnonzero(model.geom_bodyid)
        gap = min(mujoco.mj_geomDistance(model, data, self._floor, geom, _FAR, None) for geom in moving)
        qpos = data.qpos.copy()
        qpos[self._height] -= gap
        base.set_state(qpos, data.qvel.copy())


def _spread_joints(base: Any) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Indices in `qpos` of the joints to spread, and their lower and upper ends."""
    model = base.model
    named = RANGES.get(type(base).__name__.removesuffix("Env"), {})
    driven = {joint for joint in driven_joints(model) if model.jnt_type[joint] in ONE_NUMBER}
    rows = []
    for joint in range(int(model.njnt)):
        name = mujoco.mj_id2name(model, int(mujoco.mjtObj.mjOBJ_JOINT), joint)
        if name in named:
            rows.append((int(model.jnt_qposadr[joint]), *named[name]))
        elif joint in driven:
            ends = model.jnt_range[joint] if model.jnt_limited[joint] else FULL_TURN
            rows.append((int(model.jnt_qposadr[joint]), *ends))
    index, low, high = np.array(rows, np.float64).reshape(-1, 3).T
    return index.astype(np.intp), low, high


def _root_height(model: Any) -> int | None:
    """Index in `qpos` of the height of a robot that moves freely up and down, if it does."""
    for joint in range(int(model.njnt)):
        kind, address = int(model.jnt_type[joint]), int(model.jnt_qposadr[joint])
        if kind == int(mujoco.mjtJoint.mjJNT_FREE):
            return address + 2
        if kind == int(mujoco.mjtJoint.mjJNT_SLIDE) and model.jnt_axis[joint][2] == 1.0:
            return address
    return None


def _floor(model: Any) -> int | None:
    """The plane that the robot stands on, if there is one."""
    planes = np.flatnonzero(model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE))
    return int(planes[0]) if len(planes) else None


def _is_valid(base: Any) -> bool:
    """Whether no geoms overlap deeply, and the environment would not end the episode at once."""
    deepest = min(base.data.contact.dist, default=0.0)
    return bool(deepest > -DEEPEST_CONTACT and getattr(base, "is_healthy", True))
