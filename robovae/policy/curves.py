"""Trained policies beside one another: learning curves over seeds, when a goal was reached, and intervals.

Intervals are percentile bootstraps in which seeds of training and seeds of evaluation episodes are drawn
again independently (Owen 2007, "The pigeonhole bootstrap"): all policies play the same episodes. With three
seeds, that of the seeds comes out narrow; so the seeds' own means are told as well.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from robovae.evaluate.intervals import DRAWS, interval, mean
from robovae.judge.resample import Resampled
from robovae.policy.checkpoint import ROWS
from robovae.policy.config import PolicyError
from robovae.policy.saving import read_record

Row = Mapping[str, Any]
INTERVALS = "95 % percentile bootstrap over training seeds and evaluation episodes, drawn independently"


class Reached(NamedTuple):
    """The first evaluation that a goal was reached in, or the last one of all."""

    step: int
    seconds: float
    """Of training until then."""
    there: bool
    """Whether it was."""


@dataclass(frozen=True, eq=False)
class Trained:
    """One policy: how it learnt, and what it was worth in the end."""

    rows: Sequence[Row]
    """Of progress.jsonl."""
    record: Row
    """policy.json."""

    @classmethod
    def read(cls, where: Path) -> Self:
        """The finished policy in RUN/policy-NAME.

        Raises:
            PolicyError: there is none.
        """
        record = read_record(where)
        if record is None or not (where / ROWS).is_file():
            raise PolicyError(f"{where}: expected a finished policy with its {ROWS}, received none; train it")
        lines = (where / ROWS).read_text(encoding="utf-8").splitlines()
        return cls([json.loads(line) for line in lines], record)

    @property
    def returns(self) -> list[float]:
        """Of the held-out episodes."""
        found: list[float] = self.record["evaluation"]["returns"]
        return found

    def at(self, step: int) -> list[float] | None:
        """Returns of the evaluation next to a step; None where the curve has none near it."""
        near = min(self.rows, key=lambda row: abs(row["step"] - step))
        return near["returns"] if 2 * abs(near["step"] - step) < self.record["config"]["eval_every"] else None

    def reached(self, goal: float | None) -> Reached:
        """When the mean of an evaluation on the way first was at least the goal; None is never."""
        for row in self.rows:
            if goal is not None and row["mean"] >= goal:
                return Reached(row["step"], row["seconds"], True)
        return Reached(self.rows[-1]["step"], self.rows[-1]["seconds"], False)

    def facts(self) -> dict[str, Any]:
        """What a table of results keeps of it, JSON-able."""
        curve = [{name: row[name] for name in ("step", "seconds", "mean", "returns")} for row in self.rows]
        return {name: self.record[name] for name in ("seed", "seconds", "evaluation")} | {"curve": curve}


def over_seeds(returns: ArrayLike) -> Resampled:
    """Mean of returns (S, E) of S policies in the same E episodes.

    Equal shapes are drawn alike, so that draws of several may be compared one by one; policies of one seed,
    which begin their training with the same episodes, are then paired.
    """
    values = np.asarray(returns, np.float64)
    seeds, episodes = values.shape
    which = np.random.default_rng([seeds, 0]).integers(seeds, size=(DRAWS, seeds, 1))
    played = np.random.default_rng([episodes, 1]).integers(episodes, size=(DRAWS, 1, episodes))
    return Resampled(float(values.mean()), values[which, played].mean(axis=(1, 2)))


def less(a: Resampled, b: Resampled) -> Resampled:
    """The difference, draw by draw."""
    return Resampled(a.value - b.value, a.draws - b.draws)


def share_of_way(some: Resampled, floor: Resampled, roof: Resampled) -> Resampled | None:
    """How far from a floor to a roof, draw by draw; None where the roof is not above the floor."""
    way = less(roof, floor)
    usable = way.draws > 0
    if way.value <= 0 or not usable.any():
        return None
    gained = less(some, floor)
    return Resampled(gained.value / way.value, gained.draws[usable] / way.draws[usable])


def curve_facts(policies: Sequence[Trained], marks: Sequence[int]) -> dict[str, Any]:
    """Of one kind of policy over its seeds: mean return at these steps, and of the held-out episodes."""
    at: dict[str, Any] = {}
    for mark in marks:
        found = [returns for one in policies if (returns := one.at(mark)) is not None]
        if len(found) == len(policies):
            at[str(mark)] = over_seeds(found).facts()
    means = [float(np.mean(one.returns)) for one in policies]
    held_out = {**over_seeds([one.returns for one in policies]).facts(), "seeds": means}
    return {"at": at, "held_out": held_out, "policies": [one.facts() for one in policies]}


def faster(
    policies: Sequence[Trained], goal: float | None, before: float, speed: float, free: int
) -> dict[str, Any]:
    """Wall-clock to a goal against a learner that is granted as many steps, of which only the speed is known.

    Args:
        policies: of several seeds; one that misses the goal counts with all its steps.
        goal: mean return of an evaluation.
        before: seconds that had to be spent before training.
        speed: of the other learner, steps/s.
        free: first steps, which cost it nothing.

    Returns:
        "steps" and "seconds" (means over seeds), those of the other as "their_seconds", "reached" (how many
        seeds), and "times" with the interval over seeds.
    """
    ends = [one.reached(goal) for one in policies]
    ours = [before + end.seconds for end in ends]
    theirs = [max(end.step - free, 0) / speed for end in ends]
    sums = np.array([theirs, ours]).T
    low, high = interval(sums, mean)
    return {
        "goal": goal,
        "reached": sum(end.there for end in ends),
        "steps": float(np.mean([end.step for end in ends])),
        "seconds": float(np.mean(ours)),
        "their_seconds": float(np.mean(theirs)),
        "times": {"value": float(mean(sums.sum(axis=0)[None])[0]), "low": low, "high": high},
    }
