"""How the dynamics of the belief filter are trained."""

from dataclasses import dataclass

from robovae.config import check_least
from robovae.errors import RobovaeError


@dataclass(frozen=True)
class FilterConfig:
    """Settings of the filter's dynamics, the last part of `robovae calibrate`.

    Raises:
        RobovaeError: a value is out of range.
    """

    nominal: int = 40_000
    """Training frames at most, whole episodes, each encoded once."""
    corrupted: int = 15_000
    """How many of them are encoded once more, each corrupted in one of our own ways."""
    hidden: int = 128
    """Units of the GRU; where the VAE's own temporal prior has as many, training starts from it."""
    steps: int = 400
    """Updates."""
    batch: int = 128
    """Windows in one."""
    window: int = 50
    """Consecutive frames in a window, at most."""
    lr: float = 2e-2
    """Top of the schedule."""
    share: float = 0.4
    """Share of the frames that fail, in bursts: coasting has to be trained."""
    longest: int = 12
    """Frames in the longest burst."""
    silent: float = 1 / 3
    """Share of the bursts whose frames say nothing; in the others they are corrupted."""
    mean_weight: float = 10.0
    """Weight of the prediction's squared error, in deviations of each latent, beside its likelihood."""
    posterior_weight: float = 0.1
    """Weight of the posterior's likelihood beside the prediction's."""
    seed: int = 0
    """Of choices, corruptions, bursts and first weights."""

    def __post_init__(self) -> None:
        counts = ("nominal", "corrupted", "hidden", "steps", "batch", "longest")
        check_least(self, RobovaeError, window=2, **dict.fromkeys(counts, 1))
        for name, most in (("share", 0.5), ("silent", 1.0)):
            if not 0.0 <= (value := getattr(self, name)) <= most:
                raise RobovaeError(f"{name}: expected a share from 0 to {most:g}, received {value:g}")
        for name in ("mean_weight", "posterior_weight"):
            if (value := getattr(self, name)) < 0.0:
                raise RobovaeError(f"{name}: expected a weight of at least 0, received {value:g}")
        if not self.lr > 0.0:
            raise RobovaeError(f"lr: expected more than 0, received {self.lr:g}")

    @classmethod
    def tiny(cls) -> "FilterConfig":
        """Seconds, for tests."""
        return cls(nominal=200, corrupted=100, hidden=16, steps=20, batch=8, window=10, longest=4)
