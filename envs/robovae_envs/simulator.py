"""mujoco, imported with the OpenGL settings made, or else one line that says what is missing."""

import os

from robovae_envs import gl
from robovae_envs.errors import EnvError

gl.prepare_gl()
try:
    import mujoco as mujoco
except Exception as failure:  # importing mujoco loads OpenGL; without its libraries even AttributeError comes
    raise EnvError(gl.complaint(os.environ.get("MUJOCO_GL"), failure)) from failure
