"""Choices about OpenGL that must be made before mujoco is imported; standard library only."""

import os
import sys

PACKAGES = "libegl1 libgl1 libgl1-mesa-dri libosmesa6"
"""Debian and Ubuntu packages that let MuJoCo draw without a screen."""


def prepare_gl() -> None:
    """Choose OpenGL settings that the user has not chosen.

    A headless Linux gets EGL. Mesa's rasteriser gets one thread, since collection runs a process a core.
    """
    os.environ.setdefault("LP_NUM_THREADS", "0")
    headless = not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if sys.platform == "linux" and headless:
        os.environ.setdefault("MUJOCO_GL", "egl")


def complaint(backend: str | None, error: Exception) -> str:
    """What to tell a user on whose machine OpenGL does not start, in one line."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"OpenGL does not start (MUJOCO_GL={backend or 'unset'}; {reason}); "
        f"on Debian or Ubuntu: apt-get install -y {PACKAGES}; then MUJOCO_GL=egl or MUJOCO_GL=osmesa"
    )
