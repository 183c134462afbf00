"""A minimal MuJoCo renderer: one GL context, one frame in fresh memory, nothing else paid for."""

import contextlib
import importlib
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robovae_envs import gl
from robovae_envs.errors import EnvError
from robovae_envs.simulator import mujoco
from robovae_envs.spec import RenderSpec

Edit = Callable[[Any], None]
"""Changes the abstract scene (mjvScene: geoms, lights, camera) of one frame before it is drawn. The next
frame's scene is made anew from the model."""


class Renderer:
    """Draws the state of `model` as `spec` says, in a GL context of its own.

    A frame is a function of the model and of `qpos` (and mocap poses) alone: positions are computed afresh in
    a private `MjData`, so the frame shows exactly the `qpos` that is stored beside it (after a step the
    environment's own positions lag it by one substep), and the environment's data is never touched. Edits of
    the model (colours, lights, positions) show in the next frame.

    Whatever GL context was current before, such as that of `env.render()`, is current again after each frame.
    Use a renderer from one thread.

    Args:
        model: a compiled MuJoCo model.
        spec: a complete spec: either `camera`, or the whole pose.

    Raises:
        EnvError: OpenGL does not start here, or the model lacks the camera or body that the spec names.
    """

    def __init__(self, model: Any, spec: RenderSpec) -> None:
        self.model = model
        self.spec = spec
        self._scene_data = mujoco.MjData(model)
        self._camera, self._track = _make_camera(model, spec)
        self._option, self._perturb = mujoco.MjvOption(), mujoco.MjvPerturb()
        height, width = spec.height * spec.supersample, spec.width * spec.supersample
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), np.uint8)
        self._window, self._context = _start_gl(model, spec)
        self.scene = _make_scene(model, spec)
        self._finalizer = weakref.finalize(self, _free, self._window, self._context)

    def render(self, data: Any, edit: Edit | None = None) -> NDArray[np.uint8]:
        """Draw the `qpos` in `data`, after `edit` of the scene.

        Returns:
            (height, width, 3) RGB, C-contiguous, in memory of its own.
        """
        frame = np.empty((self.spec.height, self.spec.width, 3), np.uint8)
        self._scene_data.qpos[:] = data.qpos
        if self.model.nmocap:
            self._scene_data.mocap_pos[:] = data.mocap_pos
            self._scene_data.mocap_quat[:] = data.mocap_quat
        with self._window.as_current():
            self._draw(frame, edit)
        return frame

    def render_positions(self, qpos: NDArray[np.float64], out: NDArray[np.uint8]) -> None:
        """Draw each of `qpos` (T, nq) into `out` (T, height, width, 3); mocap bodies stay as last drawn.

        Faster than one by one: the GL context is made current once, and nothing else runs in between.
        """
        with self._window.as_current():
            for position, frame in zip(qpos, out, strict=True):
                self._scene_data.qpos[:] = position
                self._draw(frame)

    def _draw(self, out: NDArray[np.uint8], edit: Edit | None = None) -> None:
        self._place()
        mujoco.mjv_updateScene(
            self.model, self._scene_data, self._option, self._perturb, self._camera, _ALL, self.scene
        )
        if edit is not None:
            edit(self.scene)
        mujoco.mjr_render(self._rect, self.scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._rect, self._context)
        out[...] = self._averaged()[::-1]  # OpenGL's first row is the bottom one

    def _averaged(self) -> NDArray[np.uint8]:
        """The pixels that were read, averaged down to the frame's size."""
        if self.spec.supersample == 1:
            return self._pixels
        size = (self.spec.width, self.spec.height)
        return np.asarray(cv2.resize(self._pixels, size, interpolation=cv2.INTER_AREA), np.uint8)

    def close(self) -> None:
        """Free the GL resources; safe to call twice."""
        self._finalizer()

    def _place(self) -> None:
        """Compute the positions that drawing needs from our `qpos`."""
        model, scene_data = self.model, self._scene_data
        mujoco.mj_kinematics(model, scene_data)
        mujoco.mj_comPos(model, scene_data)
        mujoco.mj_camlight(model, scene_data)
        if model.ntendon:
            mujoco.mj_tendon(model, scene_data)
        if model.nflex:
            mujoco.mj_flex(model, scene_data)
        if self._track is not None:
            x, y, z = self.spec.lookat or (0.0, 0.0, 0.0)
            centre = scene_data.subtree_com[self._track]
            self._camera.lookat[:] = (centre[0] + x, centre[1] + y, z)


_ALL = int(mujoco.mjtCatBit.mjCAT_ALL)
_EFFECTS = ("mjRND_REFLECTION", "mjRND_FOG", "mjRND_HAZE")


def _make_camera(model: Any, spec: RenderSpec) -> tuple[Any, int | None]:
    """The abstract camera of `spec`, and the number of the body that it tracks."""
    camera = mujoco.MjvCamera()
    if spec.camera is not None:
        camera.type = int(mujoco.mjtCamera.mjCAMERA_FIXED)
        camera.fixedcamid = _find(model, "camera", mujoco.mjtObj.mjOBJ_CAMERA, spec.camera, model.ncam)
        return camera, None
    camera.type = int(mujoco.mjtCamera.mjCAMERA_FREE)
    camera.lookat[:] = spec.lookat
    camera.distance, camera.azimuth, camera.elevation = spec.distance, spec.azimuth, spec.elevation
    if spec.track is None:
        return camera, None
    return camera, _find(model, "body", mujoco.mjtObj.mjOBJ_BODY, spec.track, model.nbody)


def _find(model: Any, kind: str, obj: Any, name: str, count: int) -> int:
    index = int(mujoco.mj_name2id(model, int(obj), name))
    if index < 0:
        names = [mujoco.mj_id2name(model, int(obj), i) for i in range(count)]
        raise EnvError(f"RenderSpec: the model has no {kind} {name!r}; it has {names}")
    return index


def _start_gl(model: Any, spec: RenderSpec) -> tuple[Any, Any]:
    """Open a GL context and the MuJoCo context in it."""
    backend = os.environ.get("MUJOCO_GL", "").lower().strip()
    try:
        window = _open_window(backend, spec)
        with window.as_current():
            return window, _make_context(model, spec)
    except Exception as error:  # each backend fails in a way of its own
        raise EnvError(gl.complaint(backend, error)) from error


def _open_window(backend: str, spec: RenderSpec) -> Any:
    """A GL context of the chosen backend, whether or not mujoco was imported before it was chosen."""
    module = importlib.import_module(f"mujoco.{backend}") if backend in ("egl", "osmesa") else mujoco
    window = module.GLContext(spec.width * spec.supersample, spec.height * spec.supersample)
    if not _is_any_current(window):
        window.make_current()  # and stays so, which saves two switches a frame
    return window


def _is_any_current(window: Any) -> bool:
    """Whether this thread has a GL context already, for instance that of `env.render()`, which must stay."""
    backend = sys.modules[type(window).__module__]
    if hasattr(backend, "EGL"):
        return bool(backend.EGL.eglGetCurrentContext())
    if hasattr(backend, "osmesa"):
        return bool(backend.osmesa.OSMesaGetCurrentContext())
    return True


def _make_context(model: Any, spec: RenderSpec) -> Any:
    with _quality(model, spec):
        context = mujoco.MjrContext(model, int(mujoco.mjtFontScale.mjFONTSCALE_100))
    mujoco.mjr_setBuffer(int(mujoco.mjtFramebuffer.mjFB_OFFSCREEN), context)
    return context


@contextlib.contextmanager
def _quality(model: Any, spec: RenderSpec) -> Iterator[None]:
    """Lend the model the quality of `spec` while a context is made from it, then restore the user's."""
    quality, size = model.vis.quality, model.vis.global_
    wanted: list[tuple[Any, str, int | None]] = [
        (quality, "shadowsize", None if spec.shadows else 0),
        (quality, "offsamples", spec.samples),
        (quality, "numslices", spec.slices),
        (quality, "numstacks", spec.stacks),
        (quality, "numquads", spec.quads),
        (size, "offwidth", spec.width * spec.supersample),
        (size, "offheight", spec.height * spec.supersample),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in wanted]
    sizes = model.geom_size.copy()
    try:
        for owner, name, value in wanted:
            if value is not None:
                setattr(owner, name, value)
        if spec.floor_cells is not None:
            _coarsen_planes(model, spec.floor_cells)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        model.geom_size[:] = sizes


def _coarsen_planes(model: Any, cells: int) -> None:
    """Draw planes with at most `cells` cells a side: the third size of a plane is the side of a cell."""
    planes = model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE)
    side = 2.0 * model.geom_size[planes, :2].max(axis=1) / cells
    model.geom_size[planes, 2] = np.maximum(model.geom_size[planes, 2], side)


def _make_scene(model: Any, spec: RenderSpec) -> Any:
    scene = mujoco.MjvScene(model, maxgeom=max(1000, 2 * int(model.ngeom)))
    scene.flags[int(mujoco.mjtRndFlag.mjRND_SHADOW)] = spec.shadows
    if not spec.effects:
        for name in _EFFECTS:
            scene.flags[int(getattr(mujoco.mjtRndFlag, name))] = False
    return scene


def _free(window: Any, context: Any) -> None:
    with window.as_current():
        context.free()
    window.free()
