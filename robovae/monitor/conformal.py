"""Split conformal thresholds and p-values: exact for exchangeable episodes, whatever the score is.

The unit is the episode. Frames of one episode are alike, so a thousand of them are no thousand samples.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robovae.errors import RobovaeError

Doubles = NDArray[np.float64]

_KNOTS = 256
"""Most values that a `FrameTail` keeps; they crowd where scores are high."""


class MonitorError(RobovaeError):
    """Scores or settings that a monitor cannot work with."""


class CalibrationError(MonitorError):
    """Calibration episodes that are too few, or whose scores are no numbers."""


def episodes_needed(alpha: float) -> int:
    """The fewest calibration episodes from which a false-alarm rate `alpha` can be promised: 1/alpha - 1.

    Args:
        alpha: in (0, 1).

    Raises:
        MonitorError: alpha is no such rate.
    """
    return ceil(1 / _rate(alpha)) - 1


def check_episodes(episodes: int, alpha: float) -> None:
    """Refuse fewer calibration episodes than a rate needs.

    Raises:
        CalibrationError: naming how many are needed.
    """
    if episodes < episodes_needed(alpha):
        raise CalibrationError(
            f"expected at least {episodes_needed(alpha)} calibration episodes for alpha {alpha}, received "
            f"{episodes}; collect more or allow a larger alpha"
        )


def threshold(maxima: ArrayLike, alpha: float) -> float:
    """The limit that a new nominal episode exceeds with probability <= alpha.

    The ceil((n + 1)(1 - alpha))-th smallest of n values (Vovk et al. 2005; Lei et al. 2018, section 2.2). The
    probability is over calibration and new episode together, and is 1 - rank/(n + 1) if there are no ties.

    Args:
        maxima: (n,), one value an episode: the running maximum of whatever is thresholded.
        alpha: in (0, 1).

    Returns:
        The limit; an alarm is a value strictly above it.

    Raises:
        CalibrationError: there are fewer than `episodes_needed(alpha)`, or a value is not finite.
    """
    values = _finite(maxima)
    check_episodes(len(values), alpha)
    return float(np.sort(values)[len(values) - rank_from_above(len(values), alpha)])


def rank_from_above(episodes: int, alpha: float) -> int:
    """Which of n calibration values, counted from the highest, is the limit: floor((n + 1) alpha); 0 if none.

    Raises:
        MonitorError: alpha is no rate.
    """
    return floor((episodes + 1) * _rate(alpha))


def p_values(calibration: ArrayLike, scores: ArrayLike) -> Doubles:
    """Conformal p-values: (1 + how many calibration values are >= the score) / (n + 1).

    P(p <= a) <= a for every a if the score is exchangeable with the calibration values; ties make it larger.

    Args:
        calibration: (n,), one value an episode.
        scores: any shape.

    Returns:
        In [1 / (n + 1), 1], the shape of `scores`.

    Raises:
        CalibrationError: there is no calibration value, or a number is not finite.
    """
    known = np.sort(_finite(calibration))
    if not np.isfinite(scores).all():
        raise CalibrationError("scores: expected finite numbers, received NaN or infinity; mend the score")
    below = np.searchsorted(known, np.asarray(scores, np.float64), side="left")
    result: Doubles = (1 + len(known) - below) / (len(known) + 1)
    return result


@dataclass(frozen=True)
class FrameTail:
    """How often the frames of a nominal episode score high: p-values of frames.

    Each of n calibration episodes weighs 1/(n + 1), spread over its frames, and 1/(n + 1) stays with infinity
    (hierarchical conformal prediction, Lee, Barber & Willett 2023). So p is valid for a frame drawn from a
    new episode however alike the frames of one episode are, and the limit at alpha is exceeded on a share of
    nominal frames that is <= alpha on average. Only some values are kept; p is rounded up to theirs.

    Raises:
        CalibrationError: there are no knots, not as many shares, or not in their order.
    """

    knots: tuple[float, ...]
    """Scores of frames, ascending, the highest of all frames last."""
    shares: tuple[float, ...]
    """Mean over episodes of the share of frames that score above the knot, in [0, 1)."""
    episodes: int
    """n."""

    def __post_init__(self) -> None:
        if not self.knots or len(self.knots) != len(self.shares):
            raise CalibrationError(
                f"expected a share for each knot, received {len(self.shares)} for {len(self.knots)}"
            )
        knots, shares = np.asarray(self.knots), np.asarray(self.shares)
        ordered = (np.diff(knots) > 0).all() and (np.diff(shares) <= 0).all()
        if not (np.isfinite(knots).all() and ordered and (shares >= 0).all() and (shares < 1).all()):
            raise CalibrationError(
                "expected rising knots, and falling shares from 0 to 1, received others; "
                "run `robovae calibrate`"
            )

    @classmethod
    def fit(cls, episodes: Sequence[ArrayLike]) -> Self:
        """From the scores of nominal episodes, n of (T,).

        Raises:
            CalibrationError: there is none, or a score is not finite.
        """
        series = [_finite(scores) for scores in episodes]
        scores = _finite(np.concatenate(series) if series else [])
        weights = np.concatenate([np.full(len(one), 1 / (len(one) * len(series))) for one in series])
        falling = np.argsort(-scores, kind="stable")
        counted = np.cumsum(weights[falling])
        firsts = np.append(True, np.diff(scores[falling]) < 0).nonzero()[0]
        above = np.append(0.0, counted)[firsts]
        kept = np.arange(len(firsts))[::-1]
        if len(kept) > _KNOTS:
            kept = np.unique(np.geomspace(1, len(firsts), _KNOTS).round().astype(int) - 1)[::-1]
        return cls(tuple(scores[falling][firsts][kept].tolist()), tuple(above[kept].tolist()), len(series))

    def p_value(self, score: float) -> float:
        """P-value of one frame, in [1 / (n + 1), 1]."""
        below = bisect_left(self.knots, score)
        share = self.shares[below - 1] if below else 1.0
        return (1 + self.episodes * share) / (self.episodes + 1)

    def limit(self, alpha: float) -> float:
        """The score above which p-values are <= alpha.

        Raises:
            CalibrationError: there are fewer than `episodes_needed(alpha)` episodes.
        """
        check_episodes(self.episodes, alpha)
        rare = (1 + self.episodes * np.asarray(self.shares)) / (self.episodes + 1) <= alpha
        return self.knots[int(rare.argmax())]


def _rate(alpha: float) -> Fraction:
    """Alpha as it is written: in floats 0.29 * 100 is below 29, which would move the rank."""
    if not 0 < alpha < 1:
        raise MonitorError(f"alpha: expected a rate between 0 and 1, received {alpha}")
    return Fraction(str(float(alpha)))


def _finite(values: ArrayLike) -> Doubles:
    """Values as (n,) doubles, n >= 1."""
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not array.size:
        raise CalibrationError(f"expected one score after another, received the shape {array.shape}")
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise CalibrationError(
            f"expected finite scores, received NaN or infinity in {count} of {array.size}; mend the score"
        )
    return array
