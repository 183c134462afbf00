"""A well-framed camera for each of Gymnasium's MuJoCo v5 tasks.

The robot fills the frame and never leaves it. Distances are for MuJoCo's default field of view, 45 degrees
from top to bottom, and a frame at least as wide as high; `launch/cameras_sheet.py` draws every one of them.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Pose:
    """Where a free camera stands; metres and degrees, in MuJoCo's convention."""

    lookat: tuple[float, float, float]
    """Point in the centre of the frame. With `track`, x and y are relative to the tracked body."""
    distance: float
    """From the camera to `lookat`."""
    azimuth: float = 90.0
    """90 looks along +y: the side view of robots that run along x."""
    elevation: float = -10.0
    """-90 looks straight down."""
    textured: bool = True
    """Whether the scene has textures; it decides which way of smoothing edges is the cheaper one."""
    track: str | None = None
    """Body whose subtree's centre of mass the camera follows in x and y; heights stay visible as such."""


POSES: dict[str, Pose] = {
    "Ant-v5": Pose((0.0, 0.0, 0.65), 3.8, elevation=-35.0, track="torso"),
    # From below the feet: before the sky they are seen, before the moving tiles of the floor they are not.
    "HalfCheetah-v5": Pose((-0.05, 0.0, 0.55), 2.5, elevation=8.0, track="torso"),
    "Hopper-v5": Pose((0.0, 0.0, 0.82), 2.15, track="torso"),
    "Humanoid-v5": Pose((0.0, 0.0, 0.78), 2.5, track="torso"),
    "HumanoidStandup-v5": Pose((0.0, 0.0, 0.7), 2.75, track="torso"),
    "InvertedDoublePendulum-v5": Pose((0.0, 0.0, 0.57), 3.05, elevation=0.0, textured=False),
    "InvertedPendulum-v5": Pose((0.0, 0.0, 0.27), 3.05, elevation=0.0, textured=False),
    "Pusher-v5": Pose((0.2, -0.5, 0.0), 2.2, azimuth=225.0, elevation=-60.0, textured=False),
    "Reacher-v5": Pose((0.0, 0.0, 0.0), 0.56, elevation=-90.0, textured=False),
    "Swimmer-v5": Pose((0.0, 0.0, 0.0), 4.0, elevation=-90.0, track="torso"),
    "Walker2d-v5": Pose((0.0, 0.0, 0.9), 2.4, track="torso"),
}


def stock_pose(env_id: str | None) -> Pose | None:
    """The pose of a task, whatever version its id names; None for other environments."""
    return POSES.get(re.sub(r"(-v\d+)?$", "-v5", env_id or "", count=1))
