"""Where things stand before a camera: the geometry that rendered faults share."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from robovae_envs.camera import Camera
from robovae_envs.simulator import mujoco

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """What of a task and its camera stays the same through an episode."""

    distance: float
    """From the camera to the point that it looks at, metres."""
    aspect: float
    """Width of the frame over its height."""
    floor: float
    """Height of the floor, metres; -inf if there is none."""

    @classmethod
    def of(cls, camera: Camera) -> Self:
        """The setting of a MuJoCo task that has just been reset."""
        base: Any = camera.unwrapped
        spec = camera.render_spec
        distance = spec.distance or _robot_distance(base.model, base.data, spec.camera)
        heights = [float(base.model.geom_pos[geom][2]) for geom in floor_planes(base.model)]
        return cls(distance, spec.width / spec.height, max(heights, default=-np.inf))


def floor_planes(model: Any) -> list[int]:
    """The planes fixed in the world that face up."""
    is_plane = (model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE)) & (model.geom_bodyid == 0)
    up = np.empty(9)
    floors = []
    for geom in np.flatnonzero(is_plane):
        mujoco.mju_quat2Mat(up, model.geom_quat[geom])
        if up[8] > 0.9:
            floors.append(int(geom))
    return floors


def _robot_distance(model: Any, data: Any, name: str | None) -> float:
    """From a camera of the model, along its view, to the middle of what moves; metres."""
    index = model.camera(name).id
    forward = -data.cam_xmat[index].reshape(3, 3)[:, 2]
    moving = data.geom_xpos[model.geom_bodyid > 0]
    depth = float(np.median((moving - data.cam_xpos[index]) @ forward)) if len(moving) else 0.0
    return max(depth, 0.05 * float(model.stat.extent))


@dataclass(frozen=True)
class View:
    """The camera of one scene: position and axes in the world, and how much of it is seen."""

    position: Vector
    forward: Vector
    up: Vector
    half: tuple[float, float]
    """Half of the width and height of what is seen at depth 1."""
    near: float
    """Depth at which the view begins, metres."""

    @classmethod
    def of(cls, scene: Any, setting: Setting) -> Self:
        """The view of a scene, midway between its two (stereo) cameras, as MuJoCo draws it."""
        left, right = scene.camera[0], scene.camera[1]
        height = float(left.frustum_top) / float(left.frustum_near)
        width = float(left.frustum_width) / float(left.frustum_near) or height * setting.aspect
        return cls(
            (left.pos.astype(np.float64) + right.pos) / 2,
            left.forward.astype(np.float64),
            left.up.astype(np.float64),
            (width, height),
            float(left.frustum_near),
        )

    @property
    def right(self) -> Vector:
        """To the right of the image."""
        return np.cross(self.forward, self.up)

    @property
    def axes(self) -> Vector:
        """Rotation (3, 3) of something that faces the camera: columns right, up and towards it."""
        return np.stack([self.right, self.up, -self.forward], axis=1)

    def point(self, x: float, y: float, depth: float) -> Vector:
        """The point seen at (x, y), each from -1 to 1 across the image (up is +1), at a depth in metres."""
        sideways = x * self.half[0] * self.right + y * self.half[1] * self.up
        return self.position + depth * (self.forward + sideways)


def rotation(axis: Vector, angle: float) -> Vector:
    """The matrix (3, 3) that turns by `angle` radians about a unit vector (Rodrigues' formula)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)
