"""Bootstrap intervals: the unit that is drawn again is the episode, since its frames are alike."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Doubles = NDArray[np.float64]

DRAWS = 1000
LEVEL = 0.95


def interval(
    sums: Doubles, statistic: Callable[[Doubles], Doubles], *, draws: int = DRAWS, seed: int = 0
) -> list[float]:
    """Percentile bootstrap interval of a statistic of sums.

    Args:
        sums: (E, k), what each of E units adds to k sums.
        statistic: from sums (draws, k) to values (draws,).
        draws: resamples.
        seed: of the resampling.

    Returns:
        [low, high] at 95 %.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=draws)
    return percentiles(statistic(chosen @ sums))


def percentiles(draws: ArrayLike) -> list[float]:
    """[low, high] that hold 95 % of draws (N,)."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.asarray(draws), [tail, 1 - tail])
    return [float(low), float(high)]


def by_episode(values: Doubles, lengths: NDArray[np.int64]) -> Doubles:
    """Sums over the frames of each episode, (N, ...) -> (E, ...)."""
    result: Doubles = np.add.reduceat(values, np.cumsum(lengths) - lengths, axis=0)
    return result


def mean(sums: Doubles) -> Doubles:
    """Sum over count, for `interval`: (draws, 2) -> (draws,)."""
    ratio: Doubles = sums[:, 0] / sums[:, 1]
    return ratio


def share_explained(sums: Doubles) -> Doubles:
    """1 - squared error over variation, for `interval`: (draws, 2) -> (draws,)."""
    ratio: Doubles = 1 - sums[:, 0] / sums[:, 1]
    return ratio
