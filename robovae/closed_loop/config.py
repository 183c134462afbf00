"""How much of the closed loop is judged."""

from dataclasses import dataclass
from typing import Self

from robovae.closed_loop.errors import ClosedLoopError
from robovae.config import check_least
from robovae.episodes.episode import SPLITS


@dataclass(frozen=True)
class LoopConfig:
    """How much is played. All arms play the same seeds in every condition.

    Raises:
        ClosedLoopError: a value that cannot be judged with.
    """

    episodes: int = 50
    """Of every arm in every condition."""
    steps: int = 200
    """After how many an episode is cut."""
    faults: tuple[str, ...] | None = None
    """Names; all of TEST if None."""
    severities: tuple[int, ...] = (3, 4, 5)
    shares: tuple[float, ...] = (0.10, 0.25, 0.50)
    """Of the steps that bursts cover."""
    longest: int = 20
    """Steps in the longest burst."""
    persistent: bool = True
    """Whether faults that stay are judged too."""
    controls: int = 2
    """Episodes of each fault at severity 0, whose returns must be those of clean ones."""
    draws: int = 1000
    """Resamples."""
    seed: int = 0
    """Of the resampling."""
    first_seed: int = SPLITS["fault"][0]
    """Of the episodes, within the fault split."""

    def __post_init__(self) -> None:
        check_least(self, ClosedLoopError, episodes=2, steps=2, longest=1, controls=0, draws=2)
        if not self.shares or not all(0 < share < 1 for share in self.shares):
            raise ClosedLoopError(f"shares: expected some between 0 and 1, received {self.shares}")
        if not self.severities or not set(self.severities) <= set(range(1, 6)):
            raise ClosedLoopError(f"severities: expected some from 1 to 5, received {self.severities}")
        first, end = SPLITS["fault"]
        if not first <= self.first_seed <= self.first_seed + self.episodes <= end:
            raise ClosedLoopError(
                f"first_seed: expected seeds of the fault split ({first} to {end - 1}), received "
                f"{self.first_seed} to {self.first_seed + self.episodes - 1}"
            )

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the episodes."""
        return tuple(range(self.first_seed, self.first_seed + self.episodes))

    @classmethod
    def quick(cls) -> Self:
        """Minutes: the intervals are wide."""
        return cls(episodes=6, steps=50, severities=(3, 5), shares=(0.25, 0.50), controls=1)

    @classmethod
    def tiny(cls) -> Self:
        """Seconds, for tests."""
        return cls(episodes=3, steps=12, severities=(5,), shares=(0.25, 0.5), controls=1, draws=20)
