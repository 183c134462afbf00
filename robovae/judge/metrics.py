"""Closed-form measures of scores and beliefs. Every score is higher = stranger; faults are the positives."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robovae.judge.errors import JudgeError

Doubles = NDArray[np.float64]

CEILING_DRAWS = 32
"""Imagined errors behind a ceiling: it is then known to about a fifth of what one draw of them varies by."""
LEVELS = (0.50, 0.68, 0.90, 0.95)
"""Central intervals whose coverage is reported."""


def auroc(positive: ArrayLike, negative: ArrayLike) -> float:
    """P(a positive scores above a negative), ties counting one half (Mann & Whitney 1947).

    The sum is of integers, so that identical arrays give 0.5 to the bit.

    Args:
        positive: (P,) scores of faulted frames.
        negative: (M,) scores of the others.

    Raises:
        JudgeError: one of them is empty or holds NaN.
    """
    above, below = _numbers(positive, "positive"), np.sort(_numbers(negative, "negative"))
    twice = np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")
    return int(twice.sum()) / (2 * len(above) * len(below))


def fpr_at_tpr(positive: ArrayLike, negative: ArrayLike, tpr: float = 0.95) -> float:
    """Share of negatives at or above the highest threshold that `tpr` of the positives reach.

    Raises:
        JudgeError: one of them is empty or holds NaN.
    """
    falling = np.sort(_numbers(positive, "positive"))[::-1]
    reached = max(1, math.ceil(tpr * len(falling) - 1e-9))
    return float((_numbers(negative, "negative") >= falling[reached - 1]).mean())


def ranks(values: ArrayLike) -> Doubles:
    """Ranks from 1, (N,); ties share the mean of theirs."""
    _, place, count = np.unique(_numbers(values, "values"), return_inverse=True, return_counts=True)
    shared: Doubles = (np.cumsum(count) - (count - 1) / 2)[place]
    return shared


def spearman(a: ArrayLike, b: ArrayLike) -> float | None:
    """Correlation of ranks, ties averaged (Spearman 1904); None where one of them does not vary.

    Raises:
        JudgeError: they are empty, hold NaN, or differ in length.
    """
    x, y = ranks(a), ranks(b)
    if len(x) != len(y):
        raise JudgeError(f"spearman: expected two arrays of one length, received {len(x)} and {len(y)}")
    x, y = x - x.mean(), y - y.mean()
    size = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / size if size > 0 else None


def spearman_ceiling(sigma: ArrayLike, rng: np.random.Generator, draws: int = CEILING_DRAWS) -> float | None:
    """What `spearman` of sigma and |error| comes to if sigma is exactly true: less than 1.

    The mean over draws of spearman(sigma, sigma |eps|), eps standard normal. An error is a draw of its sigma,
    so that where sigma hardly varies the draw decides the ranks: the ceiling is then near 0, and near 1 where
    sigma varies over many orders of magnitude. Of several sigma together, root mean squares over them are
    ranked, of sigma and of sigma eps with independent eps; their chance averages, and the ceiling is higher.

    Args:
        sigma: (N,) standard deviations, or (N, D).
        rng: of eps.
        draws: of all eps.

    Returns:
        None where sigma does not vary, as `spearman` has it.

    Raises:
        JudgeError: there is no sigma, or one is NaN.
    """
    table = _numbers(sigma, "sigma").reshape(np.shape(sigma)[0], -1)
    size = rms(table)
    found = [spearman(size, rms(table * rng.standard_normal(table.shape))) for _ in range(draws)]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


def rms(values: Doubles) -> Doubles:
    """Root mean square over the last axis, (N, D) -> (N,)."""
    root: Doubles = np.sqrt(np.square(values).mean(axis=-1))
    return root


def covered(error: Doubles, sigma: Doubles, levels: Sequence[float] = LEVELS) -> Doubles:
    """Whether central intervals of N(0, sigma^2) hold the error: (..., len(levels)) of 0 and 1.

    Args:
        error: reference less mean, any shape.
        sigma: standard deviations, the same shape.
        levels: probabilities of the intervals.
    """
    wide = np.array([NormalDist().inv_cdf((1 + level) / 2) for level in levels])
    inside: Doubles = (np.abs(error / sigma)[..., None] <= wide).astype(np.float64)
    return inside


def level_name(level: float) -> str:
    """The name of a level in tables: 0.9 is "90"."""
    return f"{100 * level:g}"


def nll_terms(error: Doubles, sigma: Doubles) -> Doubles:
    """-log N(error; 0, sigma^2) in nats, element by element."""
    terms: Doubles = 0.5 * np.square(error / sigma) + np.log(sigma) + 0.5 * math.log(2 * math.pi)
    return terms


def delay_statistics(delay: ArrayLike, horizon: ArrayLike) -> dict[str, Any]:
    """How long detection takes.

    Args:
        delay: (F,) steps from onset to alarm; infinity where there was none.
        horizon: (F,) steps from onset to the end of the episode.

    Returns:
        "median" (None where half or more go undetected) and "restricted_mean", for which undetected =
        horizon (Royston & Parmar 2013), in steps.

    Raises:
        JudgeError: there are none, or one is NaN.
    """
    steps = _numbers(delay, "delay")
    middle = float(np.sort(steps)[len(steps) // 2])
    restricted = np.minimum(steps, _numbers(horizon, "horizon"))
    return {
        "median": float(np.median(steps)) if math.isfinite(middle) else None,
        "restricted_mean": float(restricted.mean()),
    }


def _numbers(values: ArrayLike, name: str) -> Doubles:
    array = np.asarray(values, np.float64).ravel()
    if not array.size or np.isnan(array).any():
        what = "NaN" if array.size else "none"
        raise JudgeError(f"{name}: expected at least one number, received {what}; mend what computed them")
    return array
