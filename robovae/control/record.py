"""What a guard did, step by step and in sum."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robovae.monitor import Verdict

Mode = Literal["policy", "coast", "fallback"]
"""Who acts: the policy on a frame, the policy on a belief that coasts, or the fallback."""


@dataclass(frozen=True, eq=False)
class GuardStep:
    """One step of a guard."""

    step: int
    """Number within the episode, from 0."""
    verdict: Verdict
    """Of the monitor."""
    mode: Mode
    """Who acted."""
    action: Any
    """What was done, as the environment takes it."""
    trusted: bool
    """Whether the frame was: by the gate, or by the caller in its place."""
    coasted: int
    """Frames in a row that the belief went on without, this one included; one that is weighed for what its
    sigma says, trusted or not, ends the row."""
    mu: NDArray[np.float32]
    """Mean of the belief that the features were built on, (D,)."""
    sigma: float
    """Mean of its standard deviations."""
    problem: str = ""
    """What was wrong with the action of the policy or the fallback, and what was done instead."""

    @property
    def alarm(self) -> bool:
        """Whether a person should look: an alarm of the monitor, or an action that could not be used."""
        return self.verdict.alarm or bool(self.problem)

    @property
    def intervened(self) -> bool:
        """Whether the robot did anything else than what the policy does on this frame."""
        return self.mode != "policy" or bool(self.problem)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "step": self.step,
            "mode": self.mode,
            "action": np.asarray(self.action).tolist(),
            "trusted": self.trusted,
            "coasted": self.coasted,
            "mu": self.mu.tolist(),
            "sigma": self.sigma,
            "problem": self.problem,
            "verdict": self.verdict.to_dict(),
        }


def summary_of(steps: Sequence[GuardStep]) -> dict[str, Any]:
    """Counts over the steps of an episode, JSON-able.

    Returns:
        "steps"; of these "policy", "coast" and "fallback" by who acted, "untrusted" frames, "problems" and
        "interventions" (see `GuardStep`); "longest", the most frames in a row that the belief went on
        without; and "alarm", whether any step had one.
    """
    modes = [step.mode for step in steps]
    return {
        "steps": len(steps),
        "policy": modes.count("policy"),
        "coast": modes.count("coast"),
        "fallback": modes.count("fallback"),
        "untrusted": sum(not step.trusted for step in steps),
        "problems": sum(bool(step.problem) for step in steps),
        "interventions": sum(step.intervened for step in steps),
        "longest": max((step.coasted for step in steps), default=0),
        "alarm": any(step.alarm for step in steps),
    }
