"""What the filter makes of faults that come in bursts: errors of every arm, in latents and in joints."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robovae.control.bursts import Bursts
from robovae.dynamics import TemporalPrior
from robovae.evaluate.probe import Probe, ProbeConfig
from robovae.filter.beliefs import Beliefs, Ruler
from robovae.filter.judging import Sums, arm_sums, arms
from robovae.judge.cells import Faulted, Twins
from robovae.judge.footage import Footage
from robovae.judge.reader import READABLE, joint_values
from robovae.uncertainty.scoring import Scorer

Squares = Callable[[Tensor], Tensor]
"""Means (E, L, D) -> squared errors (E, L)."""


class Failing:
    """Clean episodes, and the same ones in which frames fail in bursts.

    Args:
        dynamics: of the filter.
        scorer: gives the beliefs.
        twins: the episodes.
        bursts: when frames fail.
        nominal: beliefs of training footage.
        train: that footage.
        joints: as the episodes' metadata give them; none if they do not.
        probe: of what reads the joints.
    """

    def __init__(
        self,
        dynamics: TemporalPrior,
        scorer: Scorer,
        twins: Twins,
        bursts: Bursts,
        nominal: Beliefs,
        train: Footage,
        joints: Sequence[Mapping[str, Any]],
        probe: ProbeConfig,
    ) -> None:
        self._dynamics, self._scorer = dynamics, scorer
        clean = self._clean = Beliefs.of(scorer, twins.clean)
        rng, (episodes, length) = np.random.default_rng(0), clean.here.shape
        drawn = np.stack([bursts.draw(length, rng) for _ in range(episodes)])
        self._lost = torch.from_numpy(drawn) & clean.here
        self._constant = nominal.total.sigma[nominal.here].median(0).values
        ruler = Ruler(nominal.raw.mu[nominal.here])
        self._measures: dict[str, Squares] = {"latents": lambda mu: ruler.squares(mu - clean.raw.mu)}
        if joints and train.qpos is not None and twins.clean.qpos is not None:
            reader = Probe(nominal.raw.mu[nominal.here].numpy(), joint_values(train.qpos, joints), probe)
            truth = torch.from_numpy(joint_values(twins.clean.qpos, joints))
            squares = _joint_squares(reader, clean, truth)
            self._measures |= {} if squares is None else {"joints": squares}

    def sums(self, faulted: Faulted) -> dict[str, Sums]:
        """Squared errors of one cell.

        Returns:
            By "latents, failing", "latents, others" and the same of "joints" where they can be read: the
            frames in a burst that the fault changed, and the frames outside of bursts.
        """
        bad = Beliefs.of(self._scorer, faulted.footage)
        changed = torch.zeros_like(self._lost)
        changed[self._clean.here] = torch.from_numpy(faulted.changed)
        return self._compared(bad, self._lost, {"failing": changed & self._lost, "others": ~self._lost})

    def nominal(self) -> dict[str, Sums]:
        """The same of the clean episodes, where every frame is one of the others."""
        nowhere = torch.zeros_like(self._lost)
        return self._compared(self._clean, nowhere, {"others": ~nowhere})

    def _compared(self, bad: Beliefs, lost: Tensor, sides: Mapping[str, Tensor]) -> dict[str, Sums]:
        means = arms(self._dynamics, self._clean, bad, lost, self._constant)
        return {
            f"{name}, {side}": arm_sums(means, squares, counts & self._clean.here)
            for name, squares in self._measures.items()
            for side, counts in sides.items()
        }


def _joint_squares(reader: Probe, clean: Beliefs, values: Tensor) -> Squares | None:
    """Errors in deviations of each value (N, k) that the encoder's mu tells; None where it tells none."""

    def read(mu: Tensor) -> Tensor:
        told: Tensor = torch.from_numpy(reader(mu.flatten(0, 1).numpy()))
        return told.reshape(*mu.shape[:2], -1)

    truth = torch.zeros(*clean.here.shape, values.shape[1], dtype=values.dtype)
    truth[clean.here] = values
    variance = values.var(0) + 1e-12
    error = (read(clean.raw.mu) - truth)[clean.here].square().mean(0) / variance
    readable = error <= 1.0 - READABLE
    if not readable.any():
        return None

    def squares(mu: Tensor) -> Tensor:
        error: Tensor = (read(mu) - truth).square() / variance
        return error[..., readable].mean(-1)

    return squares
