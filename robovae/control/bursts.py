"""When frames fail: bursts of steps, for training under loss and for the closed-loop benchmark."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, repeat

import numpy as np
from numpy.typing import NDArray

from robovae.control.errors import ControlError


@dataclass(frozen=True)
class Bursts:
    """An alternating renewal process (Cox 1962, chapter 7): bursts of failing steps, and gaps between them.

    Burst lengths are uniform, gaps geometric, at least one step each. It is in equilibrium from the start, so
    that short episodes fail as often as long ones; only step 0, the first sight of an episode, never fails.

    Raises:
        ControlError: a length below 1, or a share that bursts with gaps between them cannot cover.
    """

    share: float = 0.25
    """Expected share of the steps that fail, of all after step 0."""
    longest: int = 20
    """Steps in the longest burst."""

    def __post_init__(self) -> None:
        if self.longest < 1:
            raise ControlError(f"longest: expected 1 step or more, received {self.longest}")
        most = self._mean / (self._mean + 1.0)
        if not 0.0 <= self.share <= most:
            raise ControlError(
                f"share: expected 0 to {most:.3g} with bursts of 1 to {self.longest} steps, "
                f"received {self.share:g}; lower it or allow longer bursts"
            )

    @property
    def _mean(self) -> float:
        """Mean length of a burst."""
        return (1 + self.longest) / 2

    def draw(self, steps: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Which steps of one episode fail, (steps,); never step 0."""
        return np.fromiter(islice(self.stream(rng), steps), np.bool_, steps)

    def stream(self, rng: np.random.Generator) -> Iterator[bool]:
        """Whether each step fails, without end; the first does not."""
        yield False
        onset = min(self.share / (1.0 - self.share) / self._mean, 1.0)  # rounding may exceed 1
        if onset == 0.0:
            yield from repeat(False)
        failing = bool(rng.random() < self.share)
        # What is left of the interval that step 0 fell into: a burst's end is nearer the more short ones
        # there are, a geometric gap does not know how old it is.
        ends = np.arange(self.longest, 0, -1) / (self.longest * self._mean)
        left = int(rng.choice(self.longest, p=ends)) if failing else int(rng.geometric(onset)) - 1
        while True:
            yield from repeat(failing, left)
            failing = not failing
            left = int(rng.integers(1, self.longest + 1) if failing else rng.geometric(onset))
