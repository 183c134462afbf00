"""RenderSpec: everything that decides what a frame looks like, as plain data."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from robovae_envs.cameras import Pose, stock_pose
from robovae_envs.errors import EnvError

# Chosen by measuring speed against likeness to `full` without shadows on the eleven stock tasks. Without
# the reflections in their floors HalfCheetah and HumanoidStandup fall below 30 dB; without smoothed edges Ant
# does, and small objects flicker. The waste is in geometry: with 8 x 4 round geoms stay above 32 dB (with
# 6 x 4 or 8 x 3 they do not), and floors of 320 x 320 cells look the same with 32 x 32.
FAST_QUALITY: dict[str, Any] = {
    "samples": 4,
    "supersample": 1,
    "shadows": False,
    "effects": True,
    "slices": 8,
    "stacks": 4,
    "quads": 4,
    "floor_cells": 32,
}
# Averaging a picture of twice the size is the cheaper smoothing on a processor, by 1.2 to 1.7 times; but the
# texture of a floor comes out sharper than in `full` (25 dB), so it is for scenes without textures.
PLAIN_QUALITY: dict[str, Any] = {**FAST_QUALITY, "samples": 0, "supersample": 2}
FULL_QUALITY: dict[str, Any] = {
    "samples": 4,
    "supersample": 1,
    "shadows": True,
    "effects": True,
    "slices": None,
    "stacks": None,
    "quads": None,
    "floor_cells": None,
}


@dataclass(frozen=True)
class RenderSpec:
    """Size, camera and quality of a frame; saved with every dataset and model.

    A pose left at None is filled in from the environment by `Camera`, whose `render_spec` is always complete.

    Raises:
        EnvError: a value is out of range.
    """

    height: int = 64
    """Pixels."""
    width: int = 64
    """Pixels."""
    camera: str | None = None
    """Name of a camera in the model; the pose below is then unused."""
    lookat: tuple[float, float, float] | None = None
    """Point in the centre of the frame, metres; x and y are relative to `track` where that is set."""
    distance: float | None = None
    """From the camera to `lookat`, metres."""
    azimuth: float | None = None
    """Degrees; 90 looks along +y."""
    elevation: float | None = None
    """Degrees; -90 looks straight down."""
    track: str | None = None
    """Name of the body whose subtree's centre of mass the camera follows in x and y."""
    samples: int = 4
    """Multisamples a pixel; 0 is none, fastest, and flickers."""
    supersample: int = 1
    """Draw so many times as wide and as high, and average. 2 smooths as `samples=4` does and is up to twice
    as fast, but textures come out sharper than in `full`."""
    shadows: bool = False
    """Cast shadows (by far the dearest effect on a processor)."""
    effects: bool = True
    """Reflections, fog and haze, where the model has them."""
    slices: int | None = 8
    """Around a round geom; None keeps the model's own (28)."""
    stacks: int | None = 4
    """Along a round geom; None keeps the model's own (16)."""
    quads: int | None = 4
    """Along a side of a box; None keeps the model's own (4)."""
    floor_cells: int | None = 32
    """Most cells along a side of a plane; None keeps the model's own, up to hundreds."""

    def __post_init__(self) -> None:
        for name, low, high in _LIMITS:
            value = getattr(self, name)
            if value is not None and not (_is_int(value) and low <= value <= high):
                raise EnvError(f"RenderSpec.{name}: expected an integer from {low} to {high}, got {value!r}")
        if self.distance is not None and not (math.isfinite(self.distance) and self.distance > 0):
            raise EnvError(f"RenderSpec.distance: expected metres above 0, got {self.distance!r}")
        if self.lookat is not None and len(self.lookat) != 3:
            raise EnvError(f"RenderSpec.lookat: expected (x, y, z), got {self.lookat!r}")

    @classmethod
    def fast(cls, env_id: str | None = None, height: int = 64, width: int = 64) -> Self:
        """As `full` to the eye, without shadows and many times faster; framed for `env_id`."""
        pose = stock_pose(env_id)
        quality = FAST_QUALITY if pose is None or pose.textured else PLAIN_QUALITY
        return cls(height=height, width=width, **_placed(pose, height, width), **quality)

    @classmethod
    def full(cls, env_id: str | None = None, height: int = 64, width: int = 64) -> Self:
        """MuJoCo's default quality, with shadows and reflections; framed for `env_id`."""
        return cls(height=height, width=width, **_placed(stock_pose(env_id), height, width), **FULL_QUALITY)

    def to_dict(self) -> dict[str, Any]:
        """This spec as JSON-able data; `from_dict` is the inverse."""
        data = asdict(self)
        data["lookat"] = None if self.lookat is None else list(self.lookat)
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            EnvError: a key is unknown, or a value is out of range.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise EnvError(f"RenderSpec: unknown key(s) {unknown}, expected only {sorted(known)}")
        lookat = data.get("lookat")
        return cls(**{**data, "lookat": None if lookat is None else tuple(lookat)})


_LIMITS = (
    ("height", 1, 8192),
    ("width", 1, 8192),
    ("samples", 0, 64),
    ("supersample", 1, 8),
    ("slices", 3, 1000),
    ("stacks", 2, 1000),
    ("quads", 1, 1000),
    ("floor_cells", 1, 10000),
)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _placed(pose: Pose | None, height: int, width: int) -> dict[str, Any]:
    """A pose as fields of a RenderSpec."""
    if pose is None:
        return {}
    # The field of view is vertical: a narrow frame must stand back to show the same width.
    distance = pose.distance * max(1.0, height / width)
    return {
        "lookat": pose.lookat,
        "distance": distance,
        "azimuth": pose.azimuth,
        "elevation": pose.elevation,
        "track": pose.track,
    }
