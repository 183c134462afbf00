"""AUROC with its bootstrap by episode: frames of an episode are alike, so episodes are what is drawn again.

The wins of every faulted episode over every nominal one are counted once; a resample then only weighs that
table, so that a thousand of them cost one matrix product.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robovae.evaluate.intervals import percentiles
from robovae.judge.metrics import auroc

Doubles = NDArray[np.float64]


class Sample(NamedTuple):
    """A score of frames that lie in episodes."""

    values: Doubles
    """(N,), one episode after the other."""
    episode: NDArray[np.int64]
    """(N,) rising numbers of the episodes, from 0."""
    episodes: int
    """How many there are, those without a frame included."""

    @classmethod
    def of(
        cls, values: Doubles, lengths: NDArray[np.int64], keep: NDArray[np.bool_] | None = None
    ) -> "Sample":
        """Scores (N,) of episodes of these lengths (E,), of which `keep` (N,) count; all if None."""
        episode = np.repeat(np.arange(len(lengths)), lengths)
        if keep is None:
            return cls(values, episode, len(lengths))
        return cls(values[keep], episode[keep], len(lengths))

    def sizes(self) -> NDArray[np.int64]:
        """Frames of each episode, (E,)."""
        return np.bincount(self.episode, minlength=self.episodes)

    def each(self, reduce: "np.ufunc") -> Doubles:
        """A reduction within each episode, (E,); NaN where there is no frame."""
        result = np.full(self.episodes, np.nan)
        if len(self.values):
            present, starts = np.unique(self.episode, return_index=True)
            result[present] = reduce.reduceat(self.values, starts)
        return result

    def means(self) -> Doubles:
        """Mean of each episode, (E,); NaN where there is no frame."""
        return self.each(np.add) / np.maximum(self.sizes(), 1)

    def maxima(self) -> Doubles:
        """Maximum of each episode, (E,); NaN where there is no frame."""
        return self.each(np.maximum)


class Resampled(NamedTuple):
    """A number, and what it would have been with other episodes."""

    value: float
    draws: Doubles
    """(draws,)."""

    def interval(self) -> list[float]:
        """[low, high] of the percentile bootstrap at 95 %."""
        return percentiles(self.draws)

    def facts(self) -> dict[str, Any]:
        """JSON-able value, low, high."""
        low, high = self.interval()
        return {"value": self.value, "low": low, "high": high}


def auroc_by_episode(positive: Sample, negative: Sample, *, draws: int, seed: int) -> Resampled:
    """AUROC over frames, with resamples of the episodes of both sides.

    The same seed weighs the same episodes alike in every call, so that draws of several cells that share
    their episodes may be averaged draw by draw.

    Raises:
        JudgeError: one of them is empty or holds NaN.
    """
    value = auroc(positive.values, negative.values)
    weights = [
        np.random.default_rng([seed, side]).multinomial(
            sample.episodes, np.full(sample.episodes, 1 / sample.episodes), size=draws
        )
        for side, sample in enumerate((positive, negative))
    ]
    won = np.einsum("de,de->d", weights[0] @ _wins(positive, negative), weights[1])
    pairs = (weights[0] @ positive.sizes()) * (weights[1] @ negative.sizes())
    return Resampled(value, np.where(pairs > 0, won / np.maximum(pairs, 1), value))


def shuffled(a: Sample, b: Sample, rng: np.random.Generator) -> tuple[Sample, Sample]:
    """The same episodes with their labels drawn anew: a negative control, AUROC 0.5 but for chance."""
    values = np.concatenate([a.values, b.values])
    episode = np.concatenate([a.episode, b.episode + a.episodes])
    present = rng.permutation(np.unique(episode))
    first = np.isin(episode, present[: (len(present) + 1) // 2])
    return _renumbered(values[first], episode[first]), _renumbered(values[~first], episode[~first])


def _renumbered(values: Doubles, episode: NDArray[np.int64]) -> Sample:
    present, number = np.unique(episode, return_inverse=True)
    return Sample(values, number, len(present))


def _wins(positive: Sample, negative: Sample) -> Doubles:
    """Pairs of frames that an episode wins against another, ties one half: (E of positive, E of negative)."""
    order = np.argsort(negative.values, kind="stable")
    below = np.zeros((len(order) + 1, negative.episodes), np.int32)
    below[np.arange(1, len(order) + 1), negative.episode[order]] = 1
    np.cumsum(below, axis=0, out=below)
    rising = negative.values[order]
    twice = below[np.searchsorted(rising, positive.values, "left")]
    twice += below[np.searchsorted(rising, positive.values, "right")]
    present, starts = np.unique(positive.episode, return_index=True)
    wins = np.zeros((positive.episodes, negative.episodes))
    wins[present] = np.add.reduceat(twice, starts, axis=0, dtype=np.int64) / 2
    return wins
