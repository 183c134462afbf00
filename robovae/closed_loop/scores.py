"""Scores of returns, and their intervals: episodes are drawn again, the same ones in all conditions."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robovae.closed_loop.errors import ClosedLoopError
from robovae.judge.resample import Resampled

Doubles = NDArray[np.float64]
Statistic = Callable[[Doubles], Doubles]
"""Over the last axis: (..., N) -> (...)."""
WORST = 0.10


def iqm(values: Doubles) -> Doubles:
    """Interquartile mean: a quarter is cut off at each end (Agarwal et al. 2108.13264)."""
    cut = values.shape[-1] // 4
    middle: Doubles = np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(axis=-1)
    return middle


def mean(values: Doubles) -> Doubles:
    """Mean of all."""
    result: Doubles = values.mean(axis=-1)
    return result


def worst(values: Doubles) -> Doubles:
    """Mean of the lowest tenth (conditional value at risk), at least of one."""
    count = math.ceil(WORST * values.shape[-1] - 1e-9)
    low: Doubles = np.sort(values, axis=-1)[..., :count].mean(axis=-1)
    return low


@dataclass(frozen=True, eq=False)
class Yardstick:
    """Where 0 and 1 are, and which episodes each resample holds.

    Zero and one are means over the very seeds that are scored, and constants of the task: they are not drawn
    again. A resample draws seeds; every condition then holds those, so that conditions stay equally many and
    comparisons stay paired.
    """

    zero: float
    """Mean return of zero action."""
    one: float
    """Mean return of the policy on the true state."""
    chosen: NDArray[np.int64]
    """(draws, E) numbers of the episodes."""

    @classmethod
    def of(cls, zero: ArrayLike, one: ArrayLike, *, draws: int, seed: int) -> Self:
        """From returns of E clean episodes each.

        Raises:
            ClosedLoopError: the second are no better than the first.
        """
        floor, roof = np.ravel(zero), np.ravel(one)
        low, high = float(floor.mean()), float(roof.mean())
        if not high > low:
            raise ClosedLoopError(
                f"expected a reference that returns more than zero action ({low:.4g}), received {high:.4g}; "
                "train the policy longer"
            )
        chosen = np.random.default_rng(seed).integers(0, len(floor), (draws, len(floor)))
        return cls(low, high, chosen)

    def score(self, returns: Doubles, statistic: Statistic = iqm) -> Resampled:
        """Of returns (C, E) of the same E seeds in C conditions: 0 is zero action, 1 is the true state."""
        drawn = np.moveaxis(returns[:, self.chosen], 1, 0).reshape(len(self.chosen), -1)
        value = (float(statistic(returns.ravel())) - self.zero) / (self.one - self.zero)
        return Resampled(value, (statistic(drawn) - self.zero) / (self.one - self.zero))

    def kept(self, returns: Doubles, reference: Doubles, statistic: Statistic = iqm) -> Resampled | None:
        """Score of returns (C, E) as a share of that of others (C', E); None if that is not above 0."""
        some, whole = self.score(returns, statistic), self.score(reference, statistic)
        usable = whole.draws > 0
        if whole.value <= 0 or not usable.any():
            return None
        return Resampled(some.value / whole.value, some.draws[usable] / whole.draws[usable])


def less(a: Resampled, b: Resampled) -> Resampled:
    """The difference of two scores of one yardstick, draw by draw."""
    return Resampled(a.value - b.value, a.draws - b.draws)


def higher(a: Resampled, b: Resampled) -> Resampled:
    """The higher of two scores of one yardstick, draw by draw."""
    return Resampled(max(a.value, b.value), np.maximum(a.draws, b.draws))
