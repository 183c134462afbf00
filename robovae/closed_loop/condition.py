"""Conditions: which fault, how severe, and when in an episode the camera fails."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from robovae.closed_loop.config import LoopConfig
from robovae.control.bursts import Bursts
from robovae.judge.cells import FaultFacts, plan

Windows = tuple[tuple[int, int], ...]
"""(onset, duration) in steps, one after the other; the reset's frame is step 0."""
PERSISTENT = 1.0
"""The share of a fault that stays, from a random onset in the first half of the episode."""


@dataclass(frozen=True)
class Condition:
    """What happens to the camera in an episode."""

    fault: str | None
    """None in clean episodes."""
    severity: int
    """1 to 5; 0 is the identity through the same code path."""
    kind: str
    split: str
    share: float
    """Of the steps that bursts cover; `PERSISTENT` comes once and stays."""

    def __str__(self) -> str:
        if self.fault is None:
            return "clean"
        return f"{self.fault} {self.severity} {'to the end' if self.stays else f'bursts {self.share:.0%}'}"

    @property
    def stays(self) -> bool:
        """Whether the fault lasts to the end of the episode."""
        return self.fault is not None and self.share == PERSISTENT

    def windows(self, seed: int, steps: int, longest: int) -> Windows:
        """When the fault is there in the episode of a seed: the same for all faults and severities.

        Args:
            seed: of the episode.
            steps: on which a frame is acted upon.
            longest: steps in the longest burst.
        """
        rng = np.random.default_rng([seed, round(1000 * self.share)])
        if self.fault is None:
            return ()
        if self.stays:
            onset = int(rng.integers(1, steps // 2 + 1))
            return ((onset, steps - onset + 1),)
        return spans(Bursts(self.share, longest).draw(steps, rng))


CLEAN = Condition(None, 0, "", "", 0.0)


def spans(flags: ArrayLike) -> Windows:
    """The runs of True among flags (T,)."""
    padded = np.concatenate([[False], np.asarray(flags, np.bool_), [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2)
    return tuple((int(first), int(end - first)) for first, end in edges)


def conditions(faults: Mapping[str, FaultFacts], config: LoopConfig) -> list[Condition]:
    """All that is judged but clean episodes: bursts by share, then faults that stay.

    Raises:
        JudgeError: there is no such fault.
    """
    shares = (*config.shares, PERSISTENT) if config.persistent else config.shares
    return [one for share in shares for one in _of_share(faults, config, config.severities, share)]


def controls(faults: Mapping[str, FaultFacts], config: LoopConfig) -> list[Condition]:
    """Severity 0 of every fault, which must change nothing.

    Raises:
        JudgeError: there is no such fault.
    """
    return list(_of_share(faults, config, (0,), config.shares[0]))


def _of_share(
    faults: Mapping[str, FaultFacts], config: LoopConfig, severities: Sequence[int], share: float
) -> Iterator[Condition]:
    tested = [name for name, facts in faults.items() if facts.split == "TEST"]
    for cell in plan(faults, config.faults or tested, severities):
        yield Condition(cell.fault, cell.severity, cell.kind, cell.split, share)
