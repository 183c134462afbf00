"""Whole episodes of beliefs: encoded, filtered side by side, and measured in deviations of each latent."""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robovae.dynamics import FilterDynamics
from robovae.evaluate.codes import EvaluateError
from robovae.evaluate.measure import ACTIVE_VARIANCE
from robovae.filter.fitting import silenced
from robovae.frames import batched
from robovae.gaussian import Gaussian
from robovae.tracker import Tracker
from robovae.uncertainty.scoring import Scorer, Sequences


@dataclass(frozen=True, eq=False)
class Beliefs:
    """Lone-frame beliefs of E episodes of at most L frames."""

    raw: Gaussian
    """The encoder's, (E, L, D)."""
    total: Gaussian
    """Calibrated, (E, L, D)."""
    action: Tensor
    """(E, L, A); action[:, t] leads from frame t to the next."""
    here: Tensor
    """(E, L), True where there is a frame; past an episode's end its last one repeats."""

    @classmethod
    def of(cls, scorer: Scorer, footage: Sequences) -> Self:
        """Encode footage.

        Raises:
            FrameError: frames of another shape or dtype than the run was trained on.
        """
        found = [scorer.insight(frames) for frames in batched(footage.frames)]
        lengths = np.asarray(footage.lengths)
        times, starts = np.arange(int(lengths.max())), np.cumsum(lengths) - lengths
        here = times < lengths[:, None]
        rows = torch.from_numpy(starts[:, None] + np.minimum(times, lengths[:, None] - 1))
        raw, total = (
            Gaussian.joined(beliefs).rows(rows)
            for beliefs in ([one.look.lone for one in found], [one.total for one in found])
        )
        action = torch.from_numpy(np.array(footage.action, np.float32))[rows]
        nowhere = torch.zeros(rows.shape, dtype=torch.bool)
        return cls(silenced(raw, nowhere), silenced(total, nowhere), action, torch.from_numpy(here))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(E,) frames of each episode."""
        lengths: NDArray[np.int64] = self.here.sum(1).numpy()
        return lengths


class Trace(NamedTuple):
    """What a filter made of E episodes."""

    prior: Gaussian
    """(E, L, D)."""
    posterior: Gaussian
    """(E, L, D)."""
    memory: Tensor
    """(E, L, M): of all before each frame."""


@torch.no_grad()
def follow(dynamics: FilterDynamics, lone: Gaussian, action: Tensor) -> Trace:
    """Filter episodes side by side: lone beliefs (E, L, D), actions (E, L, A) as in `Beliefs`."""
    tracker = Tracker(dynamics)
    priors, posteriors, memories = [], [], []
    for time in range(lone.mu.shape[1]):
        frame = Gaussian(lone.mu[:, time], lone.log_sigma[:, time])
        step = tracker.update(frame, action[:, time - 1] if time else None)
        assert tracker.memory is not None, "after an update there is one"
        priors.append(step.prior)
        posteriors.append(step.posterior)
        memories.append(tracker.memory)
    return Trace(Gaussian.stacked(priors), Gaussian.stacked(posteriors), torch.stack(memories, 1))


class Ruler:
    """Measures errors of latents; those that never move do not count.

    Args:
        mu: the encoder's, of nominal frames, (N, D).

    Raises:
        EvaluateError: no latent is active.
    """

    def __init__(self, mu: Tensor) -> None:
        self.active = mu.var(0) > ACTIVE_VARIANCE
        if not self.active.any():
            raise EvaluateError(
                f"expected a latent whose mu has a variance above {ACTIVE_VARIANCE} over nominal frames, "
                "received none; the model has collapsed, train it anew"
            )
        self.scale = mu.std(0)[self.active]

    def squares(self, error: Tensor) -> Tensor:
        """Errors (..., D) -> mean squares (...,), in squared deviations."""
        return (error[..., self.active] / self.scale).square().mean(-1)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the active latents, (..., D) -> (...,)."""
        return values[..., self.active].mean(-1)
