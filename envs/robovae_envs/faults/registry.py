"""The list of faults: names, kinds, severities and splits. Other modules of this package say what they do."""

import difflib
import math
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

from robovae_envs.errors import EnvError

Kind = Literal["rendered", "sensor", "timing"]
Split = Literal["DEV", "TEST"]


class FaultError(EnvError):
    """A fault or severity that does not exist, or a fault that does nothing here; says why."""


@dataclass(frozen=True)
class Fault:
    """One way in which a camera fails, in five severities."""

    name: str
    kind: Kind
    """rendered: in the scene. sensor: on the frame. timing: the right frame at the wrong time."""
    split: Split
    """DEV may be used for tuning; on TEST nothing is fitted, selected or shaped."""
    severities: tuple[float, float, float, float, float]
    """The amount at severities 1 to 5, in `unit`; inf is the rest of the episode."""
    unit: str
    summary: str
    nominal: float = 0.0
    """The amount at severity 0, which changes nothing."""
    needs: str = "something that is drawn"
    """What must be in view for the fault to show."""

    def amount(self, severity: int) -> float:
        """The amount of a severity from 0 (nominal) to 5.

        Raises:
            FaultError: there is no such severity.
        """
        if isinstance(severity, bool) or not isinstance(severity, Integral) or severity not in range(6):
            raise FaultError(f"{self.name}: expected a severity from 0 to 5, received {severity!r}")
        return self.severities[severity - 1] if severity else self.nominal


_ALL = (
    Fault(
        "light_level",
        "rendered",
        "DEV",
        (0.85, 0.70, 0.55, 0.40, 0.25),
        "x",
        "all lights, the camera's headlight too, times a factor",
        nominal=1.0,
        needs="something that a light shines on",
    ),
    Fault(
        "light_direction",
        "rendered",
        "TEST",
        (10, 20, 35, 50, 65),
        "deg",
        "every light swings about the point in the centre of the frame",
        needs="something that a light shines on",
    ),
    Fault(
        "camera_pose",
        "rendered",
        "DEV",
        (2.25, 4.5, 9, 18, 27),
        "deg",
        "the camera moves around the point it looks at, in azimuth and elevation",
    ),
    Fault(
        "colour_shift",
        "rendered",
        "TEST",
        (0.05, 0.1, 0.2, 0.3, 0.5),
        "of [0, 1]",
        "every colour of the scene's geoms and materials moves, each channel up or down",
    ),
    Fault(
        "texture",
        "rendered",
        "TEST",
        (0.1, 0.2, 0.4, 0.7, 1),
        "alpha",
        "a real photograph over floor and background",
        needs="a floor or a background",
    ),
    Fault(
        "distractors",
        "rendered",
        "TEST",
        (1, 2, 3, 5, 8),
        "objects",
        "coloured objects about the robot, moving at severities 4 and 5",
        needs="an open view of the robot",
    ),
    Fault(
        "occluder",
        "rendered",
        "TEST",
        (2, 5, 10, 20, 35),
        "% of image",
        "a plate before the camera",
        needs="a scene of another colour than the plate",
    ),
    Fault(
        "gaussian_noise",
        "sensor",
        "DEV",
        (0.04, 0.08, 0.12, 0.15, 0.18),
        "sigma of [0, 1]",
        "white noise, clipped",
    ),
    Fault(
        "defocus",
        "sensor",
        "TEST",
        (0.5, 0.75, 1, 1.25, 1.5),
        "sigma px at 64",
        "Gaussian blur",
        needs="a frame of more than one colour",
    ),
    Fault(
        "exposure",
        "sensor",
        "TEST",
        (0.25, 0.5, 1, 1.5, 2),
        "EV",
        "more or less light on the sensor, clipped",
        needs="pixels that are not black, nor all white",
    ),
    Fault(
        "jpeg",
        "sensor",
        "TEST",
        (65, 58, 50, 40, 25),
        "quality",
        "JPEG compression",
        nominal=math.inf,
        needs="a frame of more than one colour",
    ),
    Fault(
        "dead_rows",
        "sensor",
        "TEST",
        (1, 2, 4, 8, 16),
        "rows of 64",
        "rows of the sensor that give 0, 255 or their last value",
    ),
    Fault(
        "freeze",
        "timing",
        "DEV",
        (2, 5, 10, 25, math.inf),
        "steps",
        "the last frame before the onset is held",
    ),
    Fault(
        "delay",
        "timing",
        "TEST",
        (1, 2, 3, 5, 8),
        "steps",
        "every frame comes late by the same number of steps",
    ),
)

FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ALL}
"""Every fault by its name."""


def find_fault(name: str) -> Fault:
    """The fault of a name.

    Raises:
        FaultError: there is none; the nearest names are given.
    """
    if name not in FAULTS:
        near = difflib.get_close_matches(name, FAULTS, n=3, cutoff=0.5)
        raise FaultError(
            f"no fault {name!r}; {'nearest' if near else 'expected one of'}: {', '.join(near or FAULTS)}"
        )
    return FAULTS[name]
