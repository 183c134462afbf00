"""What the filter makes of faults that come in bursts: errors of every arm, in latents and in joints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robovae.control.bursts import Bursts
from robovae.dynamics import FilterDynamics
from robovae.evaluate.probe import Probe, ProbeConfig
from robovae.filter.beliefs import Beliefs, Ruler, follow
from robovae.filter.judging import FILTERED, Sums, arms, summed
from robovae.judge.cells import Faulted, Twins
from robovae.judge.footage import Doubles, Footage
from robovae.judge.reader import READABLE, joint_values
from robovae.uncertainty.scoring import Scorer


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
        probe: of what reads the joints, for each arm a probe of its own.
    """

    def __init__(
        self,
        dynamics: FilterDynamics,
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
        self._ruler = Ruler(nominal.raw.mu[nominal.here])
        self._joints: _Joints | None = None
        if joints and train.qpos is not None and twins.clean.qpos is not None:
            values = joint_values(train.qpos, joints), joint_values(twins.clean.qpos, joints)
            self._joints = _Joints.read(_means(dynamics, nominal), nominal, clean, values, probe)

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
        clean = self._clean
        means = arms(self._dynamics, clean, bad, lost, self._constant)
        errors = {"latents": {name: self._ruler.squares(mu - clean.raw.mu) for name, mu in means.items()}}
        if self._joints is not None:
            errors["joints"] = {name: self._joints.squares(name, mu) for name, mu in means.items()}
        return {
            f"{what}, {side}": {name: summed(each, counts & clean.here) for name, each in by_arm.items()}
            for what, by_arm in errors.items()
            for side, counts in sides.items()
        }


@dataclass(frozen=True, eq=False)
class _Joints:
    """Reads joints off the means of every arm, by a probe that was fitted to such means of nominal frames."""

    probes: Mapping[str, Probe]
    truth: Tensor
    """(E, L, k)."""
    variance: Tensor
    """(k,) of the truth."""
    readable: Tensor
    """(k,) which of the values the encoder's mu tells."""

    @classmethod
    def read(
        cls,
        means: Mapping[str, Tensor],
        nominal: Beliefs,
        clean: Beliefs,
        values: tuple[Doubles, Doubles],
        config: ProbeConfig,
    ) -> "_Joints | None":
        """Fit the probes on nominal means and values (N, k); None where the clean frames tell no value."""
        probes = {name: Probe(mu[nominal.here].numpy(), values[0], config) for name, mu in means.items()}
        known = torch.from_numpy(values[1])
        truth = torch.zeros(*clean.here.shape, known.shape[1], dtype=known.dtype)
        truth[clean.here] = known
        variance = known.var(0) + 1e-12
        found = cls(probes, truth, variance, torch.ones(known.shape[1], dtype=torch.bool))
        readable = found.errors("raw", clean.raw.mu)[clean.here].mean(0) <= 1.0 - READABLE
        return replace(found, readable=readable) if readable.any() else None

    def squares(self, arm: str, mu: Tensor) -> Tensor:
        """Means (E, L, D) -> squared errors (E, L), in variances of each value."""
        return self.errors(arm, mu)[..., self.readable].mean(-1)

    def errors(self, arm: str, mu: Tensor) -> Tensor:
        """The same of every value, (E, L, k)."""
        probe = self.probes["filtered" if arm in FILTERED else arm]
        read = torch.from_numpy(probe(mu.flatten(0, 1).numpy())).unflatten(0, mu.shape[:2])
        error: Tensor = (read - self.truth).square() / self.variance
        return error


def _means(dynamics: FilterDynamics, nominal: Beliefs) -> dict[str, Tensor]:
    filtered = follow(dynamics, nominal.total, nominal.action).posterior.mu
    return {"raw": nominal.raw.mu, "calibrated": nominal.total.mu, "filtered": filtered}
