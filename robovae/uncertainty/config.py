"""How a run is calibrated, and what a listener hears of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from robovae.config import check_least
from robovae.errors import RobovaeError
from robovae.filter.config import FilterConfig
from robovae.monitor import MonitorConfig


@dataclass(frozen=True)
class CalibrateConfig:
    """Settings of `robovae calibrate`.

    Raises:
        RobovaeError: a number is below 1, or no share.
    """

    nominal: int = 16_000
    """Training frames at most that tell what nominal is."""
    corrupted: int = 32_000
    """Training frames, each corrupted in one of our own ways, that trust is learnt from, and as many others
    that the denoising encoder is; those are held in memory, 400 MB of them at 64x64."""
    denoising_steps: int = 1000
    """Updates of the denoising encoder, which sees through corruption; 0 leaves it as the VAE's own is."""
    steps: int = 2500
    """Updates of trust: whose belief counts, and with how much noise."""
    batch: int = 256
    """Nominal frames in an update of trust, and as many corrupted ones."""
    failing: float = 0.03
    """Share of frames that are taken to fail: a corrupted frame that looks nominal is a reason to doubt
    nominal ones, and a better one the more often frames fail."""
    lr: float = 3e-3
    """Top of trust's one-cycle schedule."""
    fitting: int = 200
    """Episodes that set the scales of the scores: half of them from the calibrate split, as far as the limits
    can spare them, the others from the train split. A model finds less surprise in what it was trained on."""
    seed: int = 0
    """Of choices, corruptions and first weights."""
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    """Rates of false alarms, and when trust returns."""
    filter: FilterConfig = field(default_factory=FilterConfig)
    """How the dynamics of the belief filter are trained."""

    def __post_init__(self) -> None:
        check_least(
            self, RobovaeError, nominal=2, corrupted=1, steps=1, batch=1, fitting=1, denoising_steps=0, seed=0
        )
        if not 0.0 < self.lr < inf:
            raise RobovaeError(f"lr: expected more than 0, received {self.lr:g}")
        if not 0.0 < self.failing < 1.0:
            raise RobovaeError(f"failing: expected a share between 0 and 1, received {self.failing:g}")

    @classmethod
    def tiny(cls) -> "CalibrateConfig":
        """Seconds, for tests."""
        monitor = MonitorConfig(alpha=0.2, alpha_gate=0.2, tail=0.2)
        sizes = {
            "nominal": 200,
            "corrupted": 300,
            "steps": 60,
            "batch": 64,
            "fitting": 10,
            "denoising_steps": 20,
        }
        return cls(**sizes, monitor=monitor, filter=FilterConfig.tiny())


@dataclass(frozen=True)
class CalibrateEvent:
    """What a listener hears."""

    part: str
    """ "scores of frames", "corrupt", "denoising", "features", "encode", "encode corrupted", "encode clean",
    "trust", "filter, encode", "filter", "scores"."""
    done: int
    total: int


OnCalibrate = Callable[[CalibrateEvent], None]
