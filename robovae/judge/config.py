"""How much the judge does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from robovae.config import check_least
from robovae.episodes import SPLITS
from robovae.judge.errors import JudgeError


@dataclass(frozen=True)
class JudgeConfig:
    """How much is judged.

    Raises:
        JudgeError: a number is too small, or a severity is not from 1 to 5.
    """

    episodes: int = 200
    """In a cell."""
    steps: int = 100
    """After how many an episode is cut. Two copies of all frames of a cell are held in memory."""
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    faults: tuple[str, ...] | None = None
    """Names; all there are if None."""
    policy: str = "random"
    """Who acts in the nominal episodes, as `robovae collect` names it."""
    first_seed: int = SPLITS["fault"][0]
    """Seed of the first episode; the others follow."""
    draws: int = 400
    """Resamples of the episodes behind an interval."""
    seed: int = 0
    """Of the resampling."""

    def __post_init__(self) -> None:
        check_least(self, JudgeError, episodes=2, steps=1, draws=2)
        check_severities(self.severities)

    @classmethod
    def quick(cls) -> Self:
        """Minutes instead of hours; the intervals are wide."""
        return cls(episodes=10, steps=50, severities=(1, 3, 5), draws=200)

    @classmethod
    def tiny(cls) -> Self:
        """Seconds, for tests; the numbers mean nothing."""
        return cls(episodes=4, steps=8, severities=(1, 5), draws=50)


def check_severities(severities: Sequence[int]) -> None:
    """Refuse none at all, and such as a fault does not have.

    Raises:
        JudgeError: there is none, or one is not from 1 to 5.
    """
    if not severities or not set(severities) <= {1, 2, 3, 4, 5}:
        raise JudgeError(f"severities: expected numbers from 1 to 5, received {severities}")
