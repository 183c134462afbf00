"""How the dynamics of the belief filter are trained."""

from dataclasses import dataclass
from math import inf
from typing import Annotated, Any

import tyro

from robovae.config import check_least
from robovae.errors import RobovaeError


def _flag(name: str) -> Any:
    """The option of a field: calibration has fields of the same names."""
    return tyro.conf.arg(name=f"filter-{name.replace('_', '-')}")


@dataclass(frozen=True)
class FilterConfig:
    """Settings of the filter's dynamics, the last part of `robovae calibrate`.

    Raises:
        RobovaeError: a value is out of range.
    """

    nominal: Annotated[int, _flag("nominal")] = 80_000
    """Training frames at most, whole episodes, each encoded once."""
    corrupted: Annotated[int, _flag("corrupted")] = 15_000
    """How many of them, single frames drawn at random, are encoded once more, corrupted in a way of ours."""
    hidden: Annotated[int, _flag("hidden")] = 128
    """Units of the GRU; where the VAE's own temporal prior has as many, training starts from it."""
    steps: Annotated[int, _flag("steps")] = 1600
    """Updates."""
    batch: Annotated[int, _flag("batch")] = 128
    """Windows in one."""
    window: Annotated[int, _flag("window")] = 50
    """Consecutive frames in a window, at most."""
    lr: Annotated[float, _flag("lr")] = 2e-2
    """Top of the schedule."""
    share: Annotated[float, _flag("share")] = 0.4
    """Share of the frames that fail, in bursts: coasting has to be trained."""
    longest: Annotated[int, _flag("longest")] = 12
    """Frames in the longest burst."""
    silent: Annotated[float, _flag("silent")] = 1 / 3
    """Share of the bursts in which no frame says anything. In the others only the frames that were drawn to
    be corrupted say something: of 15 000 among 80 000, 0.88 of all lost frames say nothing."""
    mean_weight: Annotated[float, _flag("mean_weight")] = 10.0
    """Weight of the prediction's squared error, in deviations of each latent, beside its likelihood."""
    fading: Annotated[float, _flag("fading")] = 2.0
    """How many times as wide a belief is gone on from after each frame, at least 1: the filter keeps looking
    at frames where its dynamics err without knowing, as they do where a policy goes that nobody has seen."""
    persistence: Annotated[float, _flag("persistence")] = 12.0
    """How many frames err alike where a camera fails, at least 1: what makes frames less sure than nominal
    ones counts once for so many of them, and is no other error in each."""
    seed: Annotated[int, _flag("seed")] = 0
    """Of choices, corruptions, bursts and first weights."""

    def __post_init__(self) -> None:
        counts = ("nominal", "corrupted", "hidden", "steps", "batch", "longest")
        check_least(self, RobovaeError, window=2, seed=0, **dict.fromkeys(counts, 1))
        for name, most in (("share", 0.5), ("silent", 1.0)):
            if not 0.0 <= (value := getattr(self, name)) <= most:
                raise RobovaeError(f"{name}: expected a share from 0 to {most:g}, received {value:g}")
        for name in ("fading", "persistence"):
            if not 1.0 <= (value := getattr(self, name)) < inf:
                raise RobovaeError(f"{name}: expected at least 1, received {value:g}")
        if self.mean_weight < 0.0:
            raise RobovaeError(f"mean_weight: expected at least 0, received {self.mean_weight:g}")
        if not 0.0 < self.lr < inf:
            raise RobovaeError(f"lr: expected more than 0, received {self.lr:g}")

    @classmethod
    def tiny(cls) -> "FilterConfig":
        """Seconds, for tests."""
        return cls(nominal=200, corrupted=100, hidden=16, steps=20, batch=8, window=10, longest=4)
