"""Bootstrap intervals: the unit that is drawn again is the episode, since its frames are alike."""

from collections.abc import Callable
from typing import Any

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


def paired_interval(
    values: Doubles, units: NDArray[np.integer[Any]], *, draws: int = DRAWS, seed: int = 0
) -> list[float]:
    """Percentile bootstrap interval of a mean over values that several episodes have a part in.

    Args:
        values: (P,).
        units: (P, k), the numbers of the k episodes that each value is of. A value counts as often as all of
            them were drawn together; each resample draws every episode anew.
        draws: resamples; those that draw no value are left out.
        seed: of the resampling.

    Returns:
        [low, high] at 95 %.
    """
    known, places = np.unique(units, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(
        len(known), np.full(len(known), 1 / len(known)), size=draws
    )
    weights = drawn[:, places.reshape(units.shape)].prod(axis=2)
    sums, counts = weights @ values, weights.sum(axis=1)
    return percentiles(sums[counts > 0] / counts[counts > 0])


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
