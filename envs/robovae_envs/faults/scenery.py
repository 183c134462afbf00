"""What draws rendered faults."""

from collections.abc import Callable
from typing import Any

import numpy as np

from robovae_envs.camera import Camera
from robovae_envs.faults.edits import EDITS, SceneEdit
from robovae_envs.faults.photographs import Photographs, photographed
from robovae_envs.faults.registry import Fault
from robovae_envs.faults.streams import Frame, See
from robovae_envs.faults.view import Setting
from robovae_envs.renderer import Edit, Renderer


class Scenery:
    """Draws rendered faults: with the camera's own renderer, or one with photographs in its model.

    Args:
        camera: of a MuJoCo task.
        fault: a rendered fault; others need no scenery, and get none.
        amount: of its severity.
    """

    def __init__(self, camera: Camera, fault: Fault, amount: float) -> None:
        self._camera, self._fault, self._amount = camera, fault, amount
        self._renderer: Renderer | None = None
        self._source: Any = None

    def begin(self, rng: np.random.Generator) -> "Redrawn":
        """An episode of the fault; the environment has just been reset."""
        setting = Setting.of(self._camera)
        if self._fault.name != "texture":
            edit = EDITS[self._fault.name](self._amount, rng, setting)
            return Redrawn(self._camera.frame, edit)
        renderer = self._with_photographs(setting)
        return Redrawn(self._draw, Photographs(renderer.model, rng, setting))

    def close(self) -> None:
        """Free the renderer; safe to call twice."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _with_photographs(self, setting: Setting) -> Renderer:
        """The renderer of the task's present model with photographs."""
        base: Any = self._camera.unwrapped
        if self._renderer is None or self._source is not base.model:
            self.close()
            model = photographed(self._camera, self._amount, setting)
            self._renderer, self._source = Renderer(model, self._camera.render_spec), base.model
        return self._renderer

    def _draw(self, edit: Edit | None) -> Frame:
        assert self._renderer is not None
        base: Any = self._camera.unwrapped
        return self._renderer.render(base.data, edit)


class Redrawn:
    """The stream of a rendered fault: while active, the state is drawn after an edit of the scene."""

    def __init__(self, draw: Callable[[Edit | None], Frame], edit: SceneEdit) -> None:
        self._draw, self._edit, self._step = draw, edit, -1

    def __call__(self, see: See, active: bool) -> Frame:
        """The frame of the edited scene."""
        self._step += 1
        return self._draw(lambda scene: self._edit(scene, self._step)) if active else see()
