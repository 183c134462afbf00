"""The texture fault: real photographs over the floor and behind everything.

Textures must be in the model before OpenGL starts, so this fault draws a second model: the task's own file,
with the photographs and planes to show them on. The environment never sees it.
"""

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from robovae_envs.camera import Camera
from robovae_envs.faults.registry import FaultError
from robovae_envs.faults.streams import Frame
from robovae_envs.faults.view import Setting, View, floor_planes
from robovae_envs.simulator import loading, mujoco

SOURCES: dict[str, tuple[str, ...]] = {
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "skimage": ("data/coffee.png", "data/astronaut.png"),
}
"""Packages whose wheels carry photographs, and where; the first that is installed is used."""
SIZE = 512  # pixels of a texture
PREFIX = "robovae_photograph"
LIFT = 1e-4  # of a floor's photograph above the floor, as a share of the model's extent
FAR = 0.5  # of the background, as a share of the distance at which the view ends
GLOW = 0.5  # of the background, which only the headlight's other half reaches


def photographs() -> list[Frame]:
    """The photographs there are: each (SIZE, SIZE, 3) uint8 RGB.

    Raises:
        FaultError: no package that carries some is installed.
    """
    for package, names in SOURCES.items():
        found = importlib.util.find_spec(package)
        folders = list(found.submodule_search_locations or []) if found else []
        paths = [Path(folder) / name for folder in folders for name in names]
        images = [cv2.imread(str(path)) for path in paths if path.is_file()]
        if images:
            return [_squared(image) for image in images if image is not None]
    raise FaultError(
        f"texture: expected photographs of {' or '.join(SOURCES)}, found neither; pip install scikit-learn"
    )


def _squared(image: Any) -> Frame:
    square = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(square, cv2.COLOR_BGR2RGB), np.uint8)


def photographed(camera: Camera, alpha: float, setting: Setting) -> Any:
    """The model of a task with photographs on its floors and behind it, as opaque as `alpha`.

    Edits that were made to the environment's model after it was loaded are not in it.

    Raises:
        FaultError: the task's model is in no file, or is not what the file says; or no photograph is found.
    """
    base: Any = camera.unwrapped
    spec = _file_of(base)
    for number, photograph in enumerate(photographs()):
        _add_materials(spec, number, photograph, tile=0.5 * setting.distance)
    for floor in floor_planes(base.model):
        _add_floor(spec, base.model, floor, alpha)
    _add_background(spec, base.model, camera, alpha)
    with warnings.catch_warnings(), loading():
        warnings.simplefilter("ignore")  # of what the task's file says: heard when the environment was made
        model = spec.compile()
    if (model.nq, model.nbody) != (base.model.nq, base.model.nbody):
        raise FaultError(
            f"texture: expected the model that {base.fullpath} describes ({model.nq} positions), received one"
            f" with {base.model.nq}; choose another rendered fault"
        )
    model.stat.extent, model.stat.center[:] = base.model.stat.extent, base.model.stat.center
    return model


def _file_of(base: Any) -> Any:
    path = getattr(base, "fullpath", None)
    if path is None or not Path(path).is_file():
        raise FaultError(
            f"texture: expected {type(base).__name__}.fullpath, the file of its model, received {path!r};"
            " choose another rendered fault"
        )
    return mujoco.MjSpec.from_file(str(path))


def _add_materials(spec: Any, number: int, photograph: Frame, tile: float) -> None:
    """Two materials of a photograph: for floors, repeated every `tile` metres, and for the background."""
    texture = f"{PREFIX}{number}"
    kind = mujoco.mjtTexture.mjTEXTURE_2D
    data = photograph.tobytes()
    spec.add_texture(name=texture, type=kind, width=SIZE, height=SIZE, nchannel=3).data = data
    for place, repeat, uniform, glow in (("floor", 1 / tile, True, 0.0), ("background", 1.0, False, GLOW)):
        material = spec.add_material(
            name=f"{PREFIX}_{place}{number}", texrepeat=[repeat, repeat], texuniform=uniform, emission=glow
        )
        material.specular = 0.0
        textures = list(material.textures)
        textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = texture
        material.textures = textures


def _add_floor(spec: Any, model: Any, floor: int, alpha: float) -> None:
    """A photograph just above a floor."""
    place = model.geom_pos[floor] + np.array([0.0, 0.0, LIFT * model.stat.extent])
    size = model.geom_size[floor]
    _add_plane(spec, f"{PREFIX}_on_{floor}", "floor", place, size, alpha).quat = model.geom_quat[floor]


def _add_background(spec: Any, model: Any, camera: Camera, alpha: float) -> None:
    """A photograph that fills the view, far behind everything; `Photographs` puts it there."""
    name = camera.render_spec.camera
    degrees = model.vis.global_.fovy if name is None else model.camera(name).fovy[0]
    half = background_depth(model) * np.tan(np.deg2rad(degrees) / 2)
    aspect = camera.render_spec.width / camera.render_spec.height
    size = np.array([half * aspect, half, half])
    _add_plane(spec, f"{PREFIX}_behind", "background", np.zeros(3), size, alpha)


def background_depth(model: Any) -> float:
    """How far behind the camera's place the background is, metres."""
    return float(FAR * model.vis.map.zfar * model.stat.extent)


def _add_plane(spec: Any, name: str, place: str, position: Any, size: Any, alpha: float) -> Any:
    return spec.worldbody.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        pos=position,
        size=size,
        rgba=[1.0, 1.0, 1.0, 1.0 - (1.0 - alpha) ** 0.5],  # MuJoCo blends what is transparent twice
        material=f"{PREFIX}_{place}0",
        contype=0,
        conaffinity=0,
    )


class Photographs:
    """Chooses an episode's photograph, and keeps the background behind what the camera sees, as a sky is."""

    def __init__(self, model: Any, rng: np.random.Generator, setting: Setting) -> None:
        count = sum(model.texture(index).name.startswith(PREFIX) for index in range(model.ntex))
        choice = int(rng.integers(count))
        self._setting = setting
        self._depth = background_depth(model)
        self._behind = model.geom(f"{PREFIX}_behind").id
        names = {geom: model.geom(geom).name for geom in range(model.ngeom)}
        floor, background = (
            model.material(f"{PREFIX}_{place}{choice}").id for place in ("floor", "background")
        )
        self._materials = {geom: floor for geom, name in names.items() if name.startswith(f"{PREFIX}_on")}
        self._materials[self._behind] = background

    def __call__(self, scene: Any, step: int) -> None:
        """Put the chosen photograph where it belongs."""
        view = View.of(scene, self._setting)
        for geom in scene.geoms[: scene.ngeom]:
            if int(geom.objtype) != int(mujoco.mjtObj.mjOBJ_GEOM) or geom.objid not in self._materials:
                continue
            geom.matid = self._materials[geom.objid]
            if geom.objid == self._behind:
                geom.pos[:] = view.point(0.0, 0.0, self._depth)
                geom.mat[:] = view.axes
