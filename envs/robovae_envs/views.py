"""The view that an environment suggests of itself, for tasks without a pose in `cameras.py`."""

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np

from robovae_envs.simulator import driven_joints, mujoco
from robovae_envs.spec import RenderSpec


def complete_pose(spec: RenderSpec, env: gym.Env[Any, Any]) -> RenderSpec:
    """Fill the open parts of a pose as Gymnasium's viewer would, but never depending on the state.

    Args:
        spec: any spec; what it says already, stays.
        env: a MuJoCo environment. Its `default_camera_config` comes first, then the extent of its model. A
            robot that moves about freely is followed.
    """
    base: Any = env.unwrapped
    if spec.camera is not None:
        return spec
    config = _viewer_config(base)
    scene = _initial(base.model)
    body = max(int(config.get("trackbodyid", -1)), _roaming_body(base.model))
    if body > 0 and "lookat" not in config and spec.track is None and spec.lookat is None:
        name = mujoco.mj_id2name(base.model, int(mujoco.mjtObj.mjOBJ_BODY), body)
        spec = replace(spec, track=name, lookat=(0.0, 0.0, float(scene.subtree_com[body][2])))
    middle = np.median(scene.geom_xpos, axis=0) if base.model.ngeom else base.model.stat.center
    defaults: dict[str, Any] = {
        "lookat": tuple(float(x) for x in config.get("lookat", middle)),
        "distance": float(config.get("distance", base.model.stat.extent)),
        "azimuth": float(config.get("azimuth", 90.0)),
        "elevation": float(config.get("elevation", -45.0)),
    }
    return replace(spec, **{name: value for name, value in defaults.items() if getattr(spec, name) is None})


def _viewer_config(base: Any) -> dict[str, Any]:
    """`default_camera_config` of an environment, or of the one inside it (mazes hold their robot's)."""
    for part in (base, *vars(base).values()):
        viewer = getattr(part, "mujoco_renderer", None)
        if viewer is not None:
            return dict(getattr(viewer, "default_cam_config", None) or {})
    return {}


def _roaming_body(model: Any) -> int:
    """The body of a robot that moves about freely: a free joint, and driven joints below it; else 0."""
    driven = {int(model.body_rootid[model.jnt_bodyid[joint]]) for joint in driven_joints(model)}
    free = model.jnt_bodyid[model.jnt_type == int(mujoco.mjtJoint.mjJNT_FREE)]
    return next((int(body) for body in free if int(body) in driven), 0)


def _initial(model: Any) -> Any:
    """Data with the positions of the model's own initial pose."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    return data
