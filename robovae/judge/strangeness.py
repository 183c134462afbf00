"""Is this frame strange? The scores of faulted frames against those of nominal ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from robovae.judge.alarms import rate
from robovae.judge.detector import Scores
from robovae.judge.footage import Doubles, Footage
from robovae.judge.metrics import fpr_at_tpr
from robovae.judge.resample import Sample, auroc_by_episode, shuffled
from robovae.monitor.conformal import episodes_needed, threshold

ALPHAS = {"5%": 0.05, "1%": 0.01}
"""False alarms an episode for which limits are set."""


@dataclass(frozen=True, eq=False)
class Ground:
    """Nominal footage that a fault must be told from; no frame of it was fitted on."""

    test: Footage
    """Other seeds."""
    rare: Footage | None = None
    """Unusual but valid states."""
    calibration: Footage | None = None
    """Nominal episodes for the limits, as long as those of the cells; limits are left out without it."""

    @property
    def sides(self) -> dict[str, Footage]:
        """What a fault must be told from, by name: "test", and "rare" where there is some."""
        return {"test": self.test} if self.rare is None else {"test": self.test, "rare": self.rare}


@dataclass(frozen=True, eq=False)
class Nominal:
    """The ground, scored."""

    sides: dict[str, dict[str, Sample]]
    """By side ("test", "rare") and score."""
    limits: dict[str, dict[str, float]]
    """By score and alpha: what the maximum of a nominal episode exceeds with probability <= alpha."""

    @classmethod
    def of(cls, ground: Ground, score: Callable[[Footage], Scores]) -> Self:
        """Score what there is."""
        sides = {name: _samples(score(side), side.lengths) for name, side in ground.sides.items()}
        limits = {}
        if ground.calibration is not None:
            known = _samples(score(ground.calibration), ground.calibration.lengths)
            limits = {name: _limits(sample.maxima()) for name, sample in known.items()}
        return cls(sides, limits)

    def facts(self) -> dict[str, Any]:
        """JSON-able: by side and score the false alarms an episode, and mean and maximum of each episode."""
        return {
            side: {
                name: {
                    "alarms": self._alarms(name, sample),
                    "episode_mean": plain(sample.means()),
                    "episode_max": plain(sample.maxima()),
                }
                for name, sample in scores.items()
            }
            for side, scores in self.sides.items()
        }

    def row(
        self,
        scores: Scores,
        lengths: NDArray[np.int64],
        changed: NDArray[np.bool_],
        *,
        draws: int,
        seed: int,
    ) -> dict[str, Any]:
        """What each score makes of a cell.

        Args:
            scores: (N,) by name, of the cell's frames.
            lengths: (E,) of its episodes.
            changed: (N,) the frames that count, at least one.
            draws: resamples of the episodes.
            seed: of the resampling.

        Returns:
            By score: "auroc", the lower of "auroc_test" and "auroc_rare", each {"value", "low", "high"};
            "against", the side it was the lower on; "fpr95", the higher of both sides; "alarms", episodes
            whose maximum exceeds the limit, by alpha; "shuffled", the AUROC when episodes draw their labels,
            a control; "episode_mean", "episode_max"; "draws" of "auroc".
        """
        return {
            name: self._facts(name, sample, draws, seed)
            for name, sample in _samples(scores, lengths, changed).items()
        }

    def _facts(self, name: str, sample: Sample, draws: int, seed: int) -> dict[str, Any]:
        sides = {side: samples[name] for side, samples in self.sides.items()}
        found = {
            side: auroc_by_episode(sample, other, draws=draws, seed=seed) for side, other in sides.items()
        }
        weakest = min(found, key=lambda side: found[side].value)
        own = crc32(sample.values.tobytes())  # one permutation for all would make one draw of many controls
        mixed = shuffled(sample, sides["test"], np.random.default_rng([seed, 2, own]))
        return {
            "auroc": found[weakest].facts(),
            "against": weakest,
            **{f"auroc_{side}": one.facts() for side, one in found.items()},
            "fpr95": max(fpr_at_tpr(sample.values, other.values) for other in sides.values()),
            "alarms": self._alarms(name, sample),
            "shuffled": auroc_by_episode(*mixed, draws=draws, seed=seed).facts(),
            "episode_mean": plain(sample.means()),
            "episode_max": plain(sample.maxima()),
            "draws": found[weakest].draws.round(4).tolist(),
        }

    def _alarms(self, name: str, sample: Sample) -> dict[str, dict[str, float] | None]:
        maxima = sample.maxima()
        maxima = maxima[~np.isnan(maxima)]
        return {
            alpha: rate(int((maxima > limit).sum()), len(maxima))
            for alpha, limit in self.limits.get(name, {}).items()
        }


def plain(values: Doubles) -> list[float | None]:
    """Floats to six digits as JSON takes them, None for NaN."""
    return [None if np.isnan(value) else float(f"{value:.6g}") for value in values]


def _samples(
    scores: Mapping[str, Doubles], lengths: NDArray[np.int64], keep: NDArray[np.bool_] | None = None
) -> dict[str, Sample]:
    return {name: Sample.of(values, lengths, keep) for name, values in scores.items()}


def _limits(maxima: Doubles) -> dict[str, float]:
    return {
        name: threshold(maxima, alpha)
        for name, alpha in ALPHAS.items()
        if len(maxima) >= episodes_needed(alpha)
    }
