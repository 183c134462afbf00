"""Exact intervals of counts, from tail sums in closed form and bisection."""

import math
from collections.abc import Callable

from robovae.evaluate.intervals import LEVEL
from robovae.judge.errors import JudgeError


def binomial_interval(hits: int, trials: int, level: float = LEVEL) -> list[float]:
    """Interval of a probability that was seen `hits` times in `trials` (Clopper & Pearson 1934).

    Returns:
        [low, high]; covers with at least `level`, whatever the probability.

    Raises:
        JudgeError: hits are not from 0 to trials, or there was no trial.
    """
    if not 0 <= hits <= trials or trials < 1:
        raise JudgeError(f"expected 0 <= hits <= trials and a trial, received {hits} of {trials}")
    tail = (1 - level) / 2

    def at_most(count: int) -> Callable[[float], float]:
        return lambda p: sum(_binomial(i, trials, p) for i in range(count + 1))

    low = 0.0 if hits == 0 else _falling_root(at_most(hits - 1), 1 - tail, 0.0, 1.0)
    high = 1.0 if hits == trials else _falling_root(at_most(hits), tail, 0.0, 1.0)
    return [low, high]


def poisson_interval(count: int, exposure: float = 1.0, level: float = LEVEL) -> list[float]:
    """Interval of a rate of which `count` events were seen over `exposure` (Garwood 1936).

    Returns:
        [low, high], events in a unit of exposure.

    Raises:
        JudgeError: a negative count, or no exposure.
    """
    if count < 0 or exposure <= 0:
        raise JudgeError(f"expected a count from 0 and an exposure above 0, received {count} in {exposure:g}")
    tail = (1 - level) / 2
    ceiling = count + 10 * math.sqrt(count + 1) - 4 * math.log(tail)

    def at_most(most: int) -> Callable[[float], float]:
        return lambda rate: sum(_poisson(i, rate) for i in range(most + 1))

    low = 0.0 if count == 0 else _falling_root(at_most(count - 1), 1 - tail, 0.0, ceiling)
    return [low / exposure, _falling_root(at_most(count), tail, 0.0, ceiling) / exposure]


def _binomial(hits: int, trials: int, p: float) -> float:
    if p in (0.0, 1.0):
        return float(hits == round(p) * trials)
    ways = math.lgamma(trials + 1) - math.lgamma(hits + 1) - math.lgamma(trials - hits + 1)
    return math.exp(ways + hits * math.log(p) + (trials - hits) * math.log1p(-p))


def _poisson(count: int, rate: float) -> float:
    if rate == 0.0:
        return float(count == 0)
    return math.exp(count * math.log(rate) - rate - math.lgamma(count + 1))


def _falling_root(function: Callable[[float], float], value: float, low: float, high: float) -> float:
    """Where a falling function takes a value, by bisection to the last bits."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > value else (low, middle)
    return (low + high) / 2
