"""BeliefFilter: beliefs of frames in, beliefs of the sequences so far out. Numpy in, numpy out."""

import math
from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from robovae.belief import Belief, BeliefError
from robovae.dynamics import FilterDynamics
from robovae.filter.model import load_dynamics
from robovae.gaussian import LOG_SIGMA_RANGE, Gaussian
from robovae.run.directory import load_model
from robovae.tracker import Tracker

Floats = NDArray[np.float32]
_WIDEST = 1.0 - 1e-6
"""A sigma of 1 or more says nothing; this is nothing to float32, and keeps every precision positive."""
_SHARPEST = math.exp(LOG_SIGMA_RANGE[0])
"""What no model emits less than; much less, and precisions overflow."""
_LOUDEST = 1e6
"""Means and actions beyond are none, and overflow before long."""


class BeliefFilter:
    """Filters the beliefs of B robots, or of one, step by step.

    Prediction by the latent dynamics, update by precision: a frame of small sigma moves the belief, a frame
    of sigma 1 leaves the prediction as it is (`robovae.tracker`). What makes a belief wider than nominal
    frames' counts once for `dynamics.persistence` frames, the first one among them: the errors of a camera
    that fails are not independent (`FilterDynamics.heard`).

    Args:
        dynamics: p(z_t | z_<t, a_<t).
    """

    def __init__(self, dynamics: FilterDynamics) -> None:
        self.dynamics = dynamics
        self._tracker = Tracker(dynamics)

    @classmethod
    def load(cls, run: str | PathLike[str]) -> Self:
        """Read a run directory.

        Raises:
            NotCalibratedError: it has no dynamics, or those of other weights.
            RunError: it has no model, or one that cannot be read.
        """
        return cls(load_dynamics(Path(run), load_model(Path(run))))

    @property
    def latent_dim(self) -> int:
        """D."""
        return self.dynamics.head.out_features // 2

    @property
    def action_dim(self) -> int:
        """A."""
        return self.dynamics.action_scale.numel()

    @property
    def action_scale(self) -> Floats:
        """Usual size of each action, (A,)."""
        found: Floats = self.dynamics.action_scale.numpy().copy()
        return found

    @property
    def memory_dim(self) -> int:
        """M, width of `memory`."""
        return self.dynamics.cell.hidden_size

    @property
    def memory(self) -> Floats:
        """What is remembered of all before the last frame, (B, M) in [-1, 1]; the velocity is in it.

        Raises:
            BeliefError: nothing has been filtered since `reset`.
        """
        held = self._tracker.memory
        if held is None:
            raise BeliefError("memory: expected a filtered belief, received none; call update() first")
        found: Floats = held.numpy().copy()  # begin() writes into it
        return found

    def reset(self) -> None:
        """New sequences begin, of any number."""
        self._tracker.reset()

    def begin(self, belief: Belief, rows: ArrayLike) -> Belief:
        """Take in the first beliefs (R, D) of new sequences in the place of `rows` (R,); others go on.

        Raises:
            BeliefError: nothing has been filtered yet, or a belief of another width.
        """
        if self._tracker.memory is None:
            raise BeliefError("begin: expected sequences to replace, received none; call update() first")
        lone = self._checked(belief, len(np.atleast_1d(rows)))
        return _belief(self._tracker.begin(lone, torch.as_tensor(np.asarray(rows, np.int64))).posterior)

    def update(self, belief: Belief, action: ArrayLike | None = None) -> Belief:
        """Take in the beliefs of the next frames.

        Args:
            belief: of the frames on their own, (B, D); those of `silence` only predict.
            action: what led to these frames, (B, A); the first frames have none.

        Returns:
            The beliefs of the sequences, (B, D).

        Raises:
            BeliefError: another width or number than before, or numbers that are not finite.
        """
        memory = self._tracker.memory
        lone = self._checked(belief, None if memory is None else len(memory))
        step = self._tracker.update(lone, None if action is None else self._taken(action, len(belief)))
        return _belief(step.posterior)

    def silence(self, count: int = 1) -> Belief:
        """The beliefs of frames that say nothing, (count, D): `update` with them coasts on the dynamics."""
        return silent(count, self.latent_dim)

    def _checked(self, belief: Belief, count: int | None) -> Gaussian:
        wanted = (len(belief) if count is None else count, self.latent_dim)
        if belief.mu.shape != wanted:
            raise BeliefError(
                f"belief: expected mu {wanted}, received {belief.mu.shape}; reset() between runs"
            )
        if not (np.isfinite(belief.mu).all() and np.isfinite(belief.sigma).all()):
            raise BeliefError("belief: expected finite numbers, received NaN or infinity; pass silence()")
        mu, sigma = belief.mu.clip(-_LOUDEST, _LOUDEST), belief.sigma.clip(_SHARPEST, _WIDEST)
        return Gaussian(torch.from_numpy(mu), torch.from_numpy(np.log(sigma)))

    def _taken(self, action: ArrayLike, count: int) -> torch.Tensor:
        taken = np.asarray(action, np.float32)
        taken = taken.reshape(1, -1) if count == 1 and taken.ndim <= 1 else taken
        if taken.shape != (count, self.action_dim) or not np.isfinite(taken).all():
            raise BeliefError(
                f"action: expected finite numbers ({count}, {self.action_dim}), received {taken.shape}"
                f"{'' if np.isfinite(taken).all() else ' with NaN or infinity'}; pass what the robot did"
            )
        return torch.from_numpy(taken.clip(-_LOUDEST, _LOUDEST))


def silent(count: int, latent_dim: int) -> Belief:
    """What `BeliefFilter.silence` gives, for who has no filter: (count, D)."""
    shape = (count, latent_dim)
    return Belief(np.zeros(shape, np.float32), np.ones(shape, np.float32))


def _belief(gaussian: Gaussian) -> Belief:
    return Belief(gaussian.mu.numpy(), gaussian.sigma.numpy())
