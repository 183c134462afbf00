"""Several scores on one scale, frame by frame and averaged over the last frames.

Every score is standardised on *fitting* episodes: its level is 0 at the median of their frames and 1 at the
limit that a few of their running maxima exceed. Limits from maxima, and not from frames, give a score that is
noisy within episodes and one that differs between them the same share of the false alarms.

Beside its level, each score has a fading mean of levels (exponentially weighted, Roberts 1959): it sees what
lasts but is too weak for a single frame. A CUSUM would not do: a score that is constant within a nominal
episode, as many are, adds up to any size, and the threshold with it.

Levels and means become strengths of evidence in units of their own tails: 1 at the limit of their maxima,
proportional below it, and 1 more for every mean excess over it (peaks over a threshold with an exponential
tail, Davison & Smith 1990). So a strength of 1 + s is as rare in every column: exp(-s) of those above 1. On a
scale without tails, the one column in which nominal episodes go far astray sets the threshold of all.

All this is fixed before the first calibration episode is seen, hence the conformal guarantee holds for the
maximum over levels and means, whatever they are: a poor combination costs power, never validity. It would be
lost if fitting and calibration shared episodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, nan
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from robovae.monitor.conformal import CalibrationError, Doubles, MonitorError, episodes_needed

Scores = Mapping[str, ArrayLike]
"""Name -> the scores of one episode, (T,)."""

CAP = 2.0
"""Levels are cut here, both ways, before they enter a mean: it is for what lasts, a spike has its level."""
LEAST_EXCESS = 0.03
"""Mean excess at least, as a share of the limit: a score that has never passed it is not infinitely sure."""


@dataclass(frozen=True)
class Evidence:
    """How K scores become levels and means.

    Raises:
        MonitorError: a number is missing or too many, or none that a score can be measured by.
    """

    scores: tuple[str, ...]
    """Names, in the order of all arrays here."""
    centre: tuple[float, ...]
    """(K,), the score at level 0: its median over the frames of the fitting episodes."""
    limit: tuple[float, ...]
    """(K,), the score at level 1."""
    memory: float
    """Frames that a mean reaches back."""
    ceiling: tuple[float, ...]
    """(2 K,), the level, then the fading mean of levels, that has the strength 1."""
    excess: tuple[float, ...]
    """(2 K,), by how much more each has the strength 2, > 0."""

    def __post_init__(self) -> None:
        single = {len(values) for values in (self.scores, self.centre, self.limit)}
        double = {len(values) for values in (self.ceiling, self.excess)}
        if single != {len(self.scores)} or double != {2 * len(self.scores)}:
            raise MonitorError(
                f"expected centre and limit for each of {len(self.scores)} scores, ceiling and excess for "
                "its level and its mean, received others"
            )
        numbers = (*self.centre, *self.limit, self.memory, *self.ceiling, *self.excess)
        rising = all(low < high for low, high in zip(self.centre, self.limit, strict=True))
        if not (all(map(isfinite, numbers)) and rising and min(*self.ceiling, *self.excess) > 0):
            raise MonitorError(
                "expected finite scales, limits above their centres, and ceilings and excesses above 0, "
                "received others; run `robovae calibrate`"
            )

    @classmethod
    def fit(cls, episodes: Sequence[Scores], tail: float, memory: float) -> Self:
        """Scales from nominal episodes that calibration does not see.

        Args:
            episodes: name -> (T,) each, one set of names.
            tail: share of episodes whose running maximum is above 1, for each level and each strength.
            memory: frames that a mean reaches back, >= 1.

        Raises:
            CalibrationError: episodes are too few for the tail, or a score hardly ever leaves its median.
            MonitorError: names or lengths differ, or a score is not finite.
        """
        if len(episodes) < episodes_needed(tail):
            raise CalibrationError(
                f"expected at least {episodes_needed(tail)} fitting episodes for tail {tail}, received "
                f"{len(episodes)}; collect more, or have more of them set the scales (--fitting)"
            )
        names = tuple(sorted(episodes[0]))
        series = [stack(scores, names) for scores in episodes]
        centre = np.median(np.concatenate(series), axis=0)
        limit = np.quantile([one.max(axis=0) for one in series], 1 - tail, axis=0)
        _check_spread(names, centre, limit)
        levels = [(one - centre) / (limit - centre) for one in series]
        peaks = np.stack([_both(one, fading_mean(one, memory)).max(axis=0) for one in levels])
        ceiling = np.maximum(np.quantile(peaks, 1 - tail, axis=0), 1 / memory)
        excess = np.maximum(_mean_excess(peaks, ceiling), LEAST_EXCESS * ceiling)
        return cls(names, _plain(centre), _plain(limit), memory, _plain(ceiling), _plain(excess))

    def levels(self, scores: Doubles) -> Doubles:
        """Standardised scores, (..., K) -> (..., K)."""
        centre, width, _, _ = self._arrays
        result: Doubles = (scores - centre) / width
        return result

    def means(self, levels: Doubles, before: ArrayLike = 0.0) -> Doubles:
        """Fading means of levels (T, K), from those of the frame before, (K,); 0 starts an episode."""
        return fading_mean(levels, self.memory, before)

    def strengths(self, levels: Doubles, means: Doubles) -> Doubles:
        """All evidence on one scale, the K levels before the K means: two (..., K) -> (..., 2 K)."""
        return self._strong(_both(levels, means))

    def alone(self, levels: Doubles) -> Doubles:
        """The strengths of levels without means, (..., K) -> (..., K)."""
        return self._strong(levels)

    def held(self, levels: Doubles, frames: int) -> Doubles:
        """The strongest evidence of a frame, were it seen `frames` times in a row: (..., K) -> (...)."""
        share = 1 - (1 - 1 / self.memory) ** frames
        result: Doubles = self.strengths(levels, share * levels.clip(-CAP, CAP)).max(axis=-1)
        return result

    def one(self, scores: Mapping[str, float]) -> Doubles:
        """The scores of one frame in order, (K,); errors as those of `stack`."""
        values = [scores.get(name, nan) for name in self.scores]
        if len(scores) != len(values) or not all(map(isfinite, values)):
            stack({name: [value] for name, value in scores.items()}, self.scores)  # says what is wrong
        return np.array(values)

    @cached_property
    def _arrays(self) -> tuple[Doubles, Doubles, Doubles, Doubles]:
        """Centre, limit less centre, ceiling and excess: a frame has no time to make arrays of them."""
        centre = np.asarray(self.centre)
        return centre, np.asarray(self.limit) - centre, np.asarray(self.ceiling), np.asarray(self.excess)

    def _strong(self, columns: Doubles) -> Doubles:
        """The first columns of all, or all, as strengths."""
        count = columns.shape[-1]
        _, _, ceiling, excess = (array[:count] for array in self._arrays)
        above = 1 + (columns - ceiling) / excess
        result: Doubles = np.where(columns > ceiling, above, columns / ceiling)
        return result


def fading_mean(levels: Doubles, memory: float, before: ArrayLike = 0.0) -> Doubles:
    """M_t = M_(t-1) + (level_t - M_(t-1)) / memory from M = `before` (K,), for levels (T, K) cut at CAP."""
    mean = np.broadcast_to(np.asarray(before, np.float64), levels.shape[1:])
    result = np.empty_like(levels)
    for step, level in enumerate(np.minimum(np.maximum(levels, -CAP), CAP)):
        result[step] = mean = mean + (level - mean) / memory
    return result


def stack(scores: Scores, names: Sequence[str]) -> Doubles:
    """The scores of one episode as an array, (T, K).

    Raises:
        MonitorError: a name is missing or too many, lengths differ, or a score is not finite.
    """
    if set(scores) != set(names) or not names:
        raise MonitorError(
            f"scores: expected {', '.join(sorted(names)) or 'at least one'}, received "
            f"{', '.join(sorted(scores)) or 'none'}; calibrate and watch with the same scorers"
        )
    columns = [np.asarray(scores[name], np.float64) for name in names]
    for name, column in zip(names, columns, strict=True):
        if column.shape != columns[0].shape or column.ndim != 1 or not column.size:
            raise MonitorError(
                f"score {name!r}: expected one number a frame, received the shape {column.shape} beside "
                f"{columns[0].shape}"
            )
        if not np.isfinite(column).all():
            raise MonitorError(f"score {name!r}: expected finite numbers, received NaN or infinity")
    return np.stack(columns, axis=-1)


def _both(levels: Doubles, means: Doubles) -> Doubles:
    return np.concatenate([levels, means], axis=-1)


def _mean_excess(peaks: Doubles, ceiling: Doubles) -> Doubles:
    """How far the maxima (E, 2 K) above a ceiling (2 K,) are above it on average, (2 K,); 0 if none is."""
    above = np.maximum(peaks - ceiling, 0.0)
    result: Doubles = above.sum(axis=0) / np.maximum((above > 0).sum(axis=0), 1)
    return result


def _check_spread(names: Sequence[str], centre: Doubles, limit: Doubles) -> None:
    for name, low, high in zip(names, centre, limit, strict=True):
        if high <= low:
            raise CalibrationError(
                f"score {name!r}: expected values that vary over the fitting episodes, received {low:.3g} in "
                "nearly all of them; leave it out"
            )


def _plain(values: Doubles) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
