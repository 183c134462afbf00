"""Rendered faults: edits of the abstract scene of a frame, made after MuJoCo has filled it from the model.

The scene is made anew for every frame and nothing reads it but the renderer, so the physics cannot change. An
edit is made once an episode, from the amount of a severity, a random generator and the setting; it is called
with the scene and the number of steps since the reset. The random draws do not depend on the severity.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from robovae_envs.faults.view import Setting, Vector, View, rotation
from robovae_envs.simulator import mujoco

SceneEdit = Callable[[Any, int], None]


class LightLevel:
    """Multiplies the light of all lights, the headlight among them. The sky shines by itself, and stays."""

    def __init__(self, factor: float, rng: np.random.Generator, setting: Setting) -> None:
        self._factor = factor

    def __call__(self, scene: Any, step: int) -> None:
        """Dim the lights."""
        for light in scene.lights[: scene.nlight]:
            for part in (light.ambient, light.diffuse, light.specular):
                part *= self._factor


class LightDirection:
    """Swings every light by an angle about the point that the camera looks at, sideways or upwards.

    MuJoCo's headlight shines along the view; swung, it shines as a lamp beside the camera would.
    """

    def __init__(self, degrees: float, rng: np.random.Generator, setting: Setting) -> None:
        self._angle, self._setting = np.deg2rad(degrees), setting
        self._way = rng.uniform(0.0, 2.0 * np.pi)

    def __call__(self, scene: Any, step: int) -> None:
        """Move the lights."""
        view = View.of(scene, self._setting)
        focus = view.point(0.0, 0.0, self._setting.distance)
        for light in scene.lights[: scene.nlight]:
            direction = light.dir.astype(np.float64)
            swing = rotation(self._axis(direction), self._angle)
            light.dir[:] = swing @ direction
            light.pos[:] = focus + swing @ (light.pos - focus)

    def _axis(self, direction: Vector) -> Vector:
        """A unit vector across `direction`, such that turning about it does not lower the light."""
        level = np.array([direction[1], -direction[0], 0.0])
        length = float(np.linalg.norm(level))
        level = level / length if length > 1e-3 else np.array([1.0, 0.0, 0.0])
        other = np.cross(level, direction)
        axis = np.cos(self._way) * level + np.sin(self._way) * other
        lift = np.cross(axis, -direction)[2]
        return np.asarray(axis if lift >= 0 else -axis)


class CameraPose:
    """Moves the camera, and its headlight with it, about the point it looks at; the angle is the whole way.

    The split between azimuth and elevation is drawn. Where it would take the camera below the floor,
    elevation changes the other way.
    """

    def __init__(self, degrees: float, rng: np.random.Generator, setting: Setting) -> None:
        way = rng.uniform(0.0, 2.0 * np.pi)
        self._azimuth, self._elevation = np.deg2rad(degrees) * np.array([np.cos(way), np.sin(way)])
        self._setting = setting

    def __call__(self, scene: Any, step: int) -> None:
        """Move the camera."""
        view = View.of(scene, self._setting)
        focus = view.point(0.0, 0.0, self._setting.distance)
        turn = self._turn(view, self._elevation)
        lowest = self._setting.floor + 0.02 * self._setting.distance
        if view.position[2] > lowest > (focus + turn @ (view.position - focus))[2]:
            turn = self._turn(view, -self._elevation)
        for camera in scene.camera:
            camera.pos[:] = focus + turn @ (camera.pos - focus)
            camera.forward[:], camera.up[:] = turn @ camera.forward, turn @ camera.up
        for light in scene.lights[: scene.nlight]:
            if light.headlight:
                light.pos[:] = focus + turn @ (light.pos - focus)
                light.dir[:] = turn @ light.dir

    def _turn(self, view: View, elevation: float) -> Vector:
        return rotation(np.array([0.0, 0.0, 1.0]), self._azimuth) @ rotation(view.right, elevation)


class ColourShift:
    """Moves each channel of every colour up or down by the amount; things of one colour stay of one.

    Which way is drawn; where that leads out of [0, 1], it is the other.
    """

    def __init__(self, amount: float, rng: np.random.Generator, setting: Setting) -> None:
        self._amount, self._rng = amount, rng
        self._colours: dict[tuple[int, bytes], Vector] = {}

    def __call__(self, scene: Any, step: int) -> None:
        """Change the colours."""
        for geom in scene.geoms[: scene.ngeom]:
            key = int(geom.matid), geom.rgba.tobytes()
            if key not in self._colours:
                self._colours[key] = self._shifted(geom.rgba[:3].astype(np.float64))
            geom.rgba[:3] = self._colours[key]

    def _shifted(self, colour: Vector) -> Vector:
        shift = self._amount * self._rng.choice((-1.0, 1.0), size=3)
        inside = (colour + shift >= 0.0) & (colour + shift <= 1.0)
        return np.asarray(np.clip(np.where(inside, colour + shift, colour - shift), 0.0, 1.0))


class Distractors:
    """Adds coloured objects between camera and robot, all over the frame; five or more of them circle.

    They stand still before a camera that stands still, and go along with one that follows its robot.
    """

    MOST = 8
    FEWEST_MOVING = 5
    SHAPES = ("mjGEOM_SPHERE", "mjGEOM_BOX", "mjGEOM_CAPSULE", "mjGEOM_CYLINDER")
    REACH = 0.85
    """Share of the frame, from its centre, in which they are."""
    DEPTHS = (0.65, 0.85)
    """Nearest and farthest, as a share of the distance to the robot: before it, so that they are seen."""
    SIZES = (0.07, 0.13)
    """Smallest and largest, as a share of half of the frame's height at the robot."""
    CIRCLE = 0.15
    """Radius of the path, as a share of half of the frame."""
    PERIODS = (25.0, 50.0)
    """Shortest and longest time of a round, steps."""

    def __init__(self, count: float, rng: np.random.Generator, setting: Setting) -> None:
        self._count, self._setting = int(count), setting
        self._places = rng.uniform(-self.REACH, self.REACH, (self.MOST, 2))
        self._depths = setting.distance * rng.uniform(*self.DEPTHS, self.MOST)
        self._sizes = setting.distance * rng.uniform(*self.SIZES, self.MOST)
        self._speeds = (
            rng.choice((-1.0, 1.0), self.MOST) * 2.0 * np.pi / rng.uniform(*self.PERIODS, self.MOST)
        )
        self._phases = rng.uniform(0.0, 2.0 * np.pi, self.MOST)
        self._shapes = rng.integers(len(self.SHAPES), size=self.MOST)
        self._colours = rng.uniform(0.0, 1.0, (self.MOST, 3))
        self._axes = rng.standard_normal((self.MOST, 3))

    def __call__(self, scene: Any, step: int) -> None:
        """Add the objects."""
        view = View.of(scene, self._setting)
        for index in range(self._count):
            size = self._sizes[index] * view.half[1]
            x, y = self._place(index, step)
            place = view.point(x, y, self._depths[index])
            place[2] = max(place[2], self._setting.floor + size)
            axis = self._axes[index] / np.linalg.norm(self._axes[index])
            shape = self.SHAPES[self._shapes[index]]
            extent = (size,) * 3 if self._shapes[index] < 2 else (0.6 * size, 0.6 * size, size)
            geom = add_geom(scene, shape, extent, place, rotation(axis, 1.0), self._colours[index])
            geom.category = int(mujoco.mjtCatBit.mjCAT_DYNAMIC)  # so that they cast shadows

    def _place(self, index: int, step: int) -> Vector:
        """Where in the frame an object is."""
        if self._count < self.FEWEST_MOVING:
            return np.asarray(self._places[index])
        angle = self._phases[index] + self._speeds[index] * step
        return np.asarray(self._places[index] + self.CIRCLE * np.array([np.cos(angle), np.sin(angle)]))


class Occluder:
    """Puts a plate of the frame's proportions right before the camera; it covers the given % of the frame.

    Its colour is the one drawn, whatever the light: it is nearly black, and shines by itself.
    """

    GLOW = 100.0

    def __init__(self, percent: float, rng: np.random.Generator, setting: Setting) -> None:
        self._side, self._setting = np.sqrt(percent / 100.0), setting
        self._place = rng.uniform(-1.0, 1.0, 2)
        self._colour = rng.uniform(0.1, 0.9, 3)

    def __call__(self, scene: Any, step: int) -> None:
        """Add the plate."""
        if self._side == 0.0:
            return
        view = View.of(scene, self._setting)
        depth = 2.0 * view.near
        x, y = self._place * (1.0 - self._side)
        size = depth * self._side * np.array(view.half)
        extent = (float(size[0]), float(size[1]), 1e-3 * depth)
        plate = add_geom(
            scene, "mjGEOM_BOX", extent, view.point(x, y, depth), view.axes, self._colour / self.GLOW
        )
        plate.emission, plate.specular = self.GLOW, 0.0


EDITS: dict[str, Callable[[float, np.random.Generator, Setting], SceneEdit]] = {
    "light_level": LightLevel,
    "light_direction": LightDirection,
    "camera_pose": CameraPose,
    "colour_shift": ColourShift,
    "distractors": Distractors,
    "occluder": Occluder,
}
"""Maker of each rendered fault's edit, but for texture, which needs a model with its photographs."""


def add_geom(
    scene: Any, shape: str, size: tuple[float, float, float], place: Vector, axes: Vector, colour: Vector
) -> Any:
    """Add a thing to draw to a scene: half sizes in metres, its rotation (3, 3), its colour in [0, 1]."""
    geom = scene.geoms[scene.ngeom]
    kind = int(getattr(mujoco.mjtGeom, shape))
    rgba = np.array([*colour, 1.0], np.float32)
    mujoco.mjv_initGeom(geom, kind, np.array(size), place, np.ascontiguousarray(axes).ravel(), rgba)
    scene.ngeom += 1
    return geom
