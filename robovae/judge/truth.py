"""Is sigma true? Does the belief of a faulted frame hold what the clean twin's says? Does it stay narrow?

The reference is mu of the clean twin, by the same model. Only active latents count: a latent that never moves
is covered by any sigma, and would flatter every figure.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from robovae.belief import Belief
from robovae.evaluate.intervals import by_episode, interval, mean
from robovae.evaluate.measure import ACTIVE_VARIANCE
from robovae.judge.errors import JudgeError
from robovae.judge.footage import Doubles
from robovae.judge.metrics import LEVELS, covered, level_name, nll_terms, ranks, rms, spearman

PAIRS = 256
"""Pairs of sigma and error that are kept of a cell, for figures over many cells."""
FRAMES = 128
"""Frames whose sigma and error are kept for the same; each needs the sigma of all its latents."""
SPREAD_SEED = 0
"""Of the choice of pairs and frames."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What the clean twins say."""

    mu: Doubles
    """(N, D), active latents only."""
    sigma: Doubles
    """(N, D)."""
    scale: Doubles
    """(D,) standard deviation of mu over nominal frames."""
    active: NDArray[np.bool_]
    """Which of all latents these are."""
    episode: NDArray[np.int64]
    """(N,) number of each frame's episode."""

    @classmethod
    def of(cls, belief: Belief, episode: NDArray[np.int64]) -> Self:
        """From the beliefs of the clean twins.

        Raises:
            JudgeError: no latent is active.
        """
        mu, sigma = belief.mu.astype(np.float64), belief.sigma.astype(np.float64)
        active = mu.var(axis=0) > ACTIVE_VARIANCE
        if not active.any():
            raise JudgeError(
                f"expected a latent whose mu has a variance above {ACTIVE_VARIANCE} over nominal frames, "
                "received none; the model has collapsed, train it anew"
            )
        return cls(mu[:, active], sigma[:, active], mu[:, active].std(axis=0), active, episode)

    def compare(self, belief: Belief, changed: NDArray[np.bool_]) -> dict[str, Any]:
        """What a cell's beliefs are worth.

        Args:
            belief: of all N frames of the cell, in the order of the clean twins.
            changed: (N,) the frames that count, at least one.

        Returns:
            JSON-able, with 95 % intervals by episode: "coverage" by level; "nll", nats a latent; "rms_error"
            of mu in nominal deviations of each latent; "spearman" of sigma and |error| over frames and
            latents (the interval holds the ranks fixed); "sigma" and "sigma_nominal", medians; "sigma_ratio",
            median of sigma over the clean twin's; "active", how many latents count; "pairs" of sigma and
            |error|, of evenly spread frames and latents; "by_frame", of evenly spread frames the root mean
            square error over latents, and then sigma of each latent.
        """
        sigma = belief.sigma[changed][:, self.active].astype(np.float64)
        error = self.mu[changed] - belief.mu[changed][:, self.active]
        lengths = np.unique(self.episode[changed], return_counts=True)[1]
        shares = covered(error, sigma).mean(axis=1)
        squares = np.square(error / self.scale).mean(axis=1)
        return {
            "active": int(self.active.sum()),
            "coverage": {
                level_name(level): _mean(shares[:, place], lengths) for place, level in enumerate(LEVELS)
            },
            "nll": _mean(nll_terms(error, sigma).mean(axis=1), lengths),
            "rms_error": _root(_mean(squares, lengths)),
            "spearman": _rank_correlation(sigma, np.abs(error), lengths),
            "sigma": float(np.median(sigma)),
            "sigma_nominal": float(np.median(self.sigma)),
            "sigma_ratio": float(np.median(sigma / self.sigma[changed])),
            "pairs": _kept(np.stack([sigma.ravel(), np.abs(error).ravel()], axis=1), PAIRS),
            "by_frame": _kept(np.column_stack([rms(error), sigma]), FRAMES),
        }


def widening(total: Belief, raw: Belief, active: NDArray[np.bool_]) -> float:
    """How much wider calibration makes frames: the median of total over raw sigma.

    Args:
        total: calibrated beliefs of some frames.
        raw: the encoder's own, of the same ones.
        active: (D,) the latents that count, at least one.
    """
    return float(np.median(total.sigma[:, active] / raw.sigma[:, active]))


def _mean(values: Doubles, lengths: NDArray[np.int64]) -> dict[str, float]:
    sums = by_episode(np.stack([values, np.ones_like(values)], axis=1), lengths)
    low, high = interval(sums, mean)
    return {"value": float(values.mean()), "low": low, "high": high}


def _root(facts: dict[str, float]) -> dict[str, float]:
    return {name: float(np.sqrt(value)) for name, value in facts.items()}


def _rank_correlation(a: Doubles, b: Doubles, lengths: NDArray[np.int64]) -> dict[str, float | None]:
    """Spearman over all elements of (N, D), with an interval by episode."""
    x, y = (ranks(part).reshape(part.shape) / part.size for part in (a, b))
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1).sum(axis=1)
    low, high = interval(by_episode(terms, lengths), _correlation)
    return {"value": spearman(a, b), "low": low, "high": high}


def _correlation(sums: Doubles) -> Doubles:
    """Sums of 1, x, y, x², y², xy, (draws, 6) -> correlations (draws,); 0 where one does not vary."""
    count, x, y, xx, yy, xy = sums.T
    variances = (xx - x * x / count) * (yy - y * y / count)
    varied = variances > 1e-12
    return np.where(varied, (xy - x * y / count) / np.sqrt(np.where(varied, variances, 1.0)), 0.0)


def _kept(table: Doubles, most: int) -> list[list[float]]:
    """Evenly spread rows of a table, to four digits."""
    chosen = spread_out(len(table), most, np.random.default_rng(SPREAD_SEED))
    return [[float(f"{value:.4g}") for value in row] for row in table[chosen]]


def spread_out(size: int, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """At most so many rising places below `size`: one by chance in each of as many equal stretches.

    Equal steps would fall in with the rhythm of the elements: with 24 latents and 51 frames an episode,
    nearly all pairs would be of one latent.
    """
    edges = np.linspace(0, size, min(most, size) + 1).astype(np.int64)
    chosen: NDArray[np.int64] = rng.integers(edges[:-1], edges[1:])
    return chosen
