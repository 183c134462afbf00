"""mujoco, imported with the OpenGL settings made, or else one line that says what is missing."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

from robovae_envs import gl
from robovae_envs.errors import EnvError

gl.prepare_gl()
try:
    import mujoco as mujoco
except Exception as failure:  # importing mujoco loads OpenGL; without its libraries even AttributeError comes
    raise EnvError(gl.complaint(os.environ.get("MUJOCO_GL"), failure)) from failure


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """While a model is loaded: MuJoCo's warnings become Python's, and write no MUJOCO_LOG.TXT.

    That a model uses what MuJoCo is going to remove is not told: it is for its keeper to mend, and the stock
    ones would tell it for every environment made.
    """
    told: list[str] = []
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(told.append)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)
    for message in told:
        if "deprecated" not in message:
            warnings.warn(message, RuntimeWarning, stacklevel=3)


def driven_joints(model: Any) -> list[int]:
    """Numbers of the joints that actuators drive; others pull at tendons, sites or bodies."""
    joint = {int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT)}
    pairs = zip(model.actuator_trnid[:, 0], model.actuator_trntype, strict=True)
    return [int(number) for number, kind in pairs if int(kind) in joint]
