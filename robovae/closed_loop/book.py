"""The book: who plays what, and what came of it, by arm, condition and seed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from robovae import __version__
from robovae.closed_loop.arms import BLIND
from robovae.closed_loop.condition import CLEAN, Condition
from robovae.closed_loop.config import LoopConfig
from robovae.closed_loop.crew import Job
from robovae.closed_loop.ledger import Ledger, Row
from robovae.closed_loop.scores import Doubles
from robovae.config import to_plain
from robovae.records import digest

FORMAT = 1
"""Of a row; raise it when a figure changes its meaning."""
PLAIN = ("nominal", "filter", "guard", "both")
"""Arms that play faults that stay, and severity 0: the others are comparisons for bursts."""


class Book:
    """What is played, and what was.

    Args:
        arms: by name, JSON-able data that decides what it does (digests of its files, settings).
        config: how much is played.
        ledger: what was played before.
    """

    def __init__(self, arms: Mapping[str, Any], config: LoopConfig, ledger: Ledger) -> None:
        self.arms, self.config, self.ledger = tuple(arms), config, ledger
        self._known = {name: digest(facts) for name, facts in arms.items()}

    def key(self, arm: str, condition: Condition, seed: int) -> str:
        """Digest of all that an episode follows from."""
        how = [FORMAT, __version__, self.config.steps, self.config.longest, seed]
        return digest([*how, arm, self._known[arm], to_plain(condition)])

    def players(self, condition: Condition) -> list[str]:
        """The arms that play a condition."""
        if condition == CLEAN:
            return list(self.arms)
        if condition.stays or condition.severity == 0:
            return [name for name in self.arms if name in PLAIN]
        return [name for name in self.arms if name not in BLIND]

    def seeds(self, condition: Condition) -> tuple[int, ...]:
        """The episodes of a condition."""
        controls = condition != CLEAN and condition.severity == 0
        return self.config.seeds[: self.config.controls] if controls else self.config.seeds

    def jobs(self, conditions: Iterable[Condition]) -> list[Job]:
        """What was not played yet."""
        found = []
        for condition in conditions:
            for seed in self.seeds(condition):
                open_ = [
                    name
                    for name in self.players(condition)
                    if self.key(name, condition, seed) not in self.ledger
                ]
                if open_:
                    windows = condition.windows(seed, self.config.steps, self.config.longest)
                    found.append(Job(condition, seed, windows, tuple(open_)))
        return found

    def enter(self, job: Job, played: Mapping[str, Mapping[str, Any]]) -> None:
        """Write down what came of a job."""
        where = {name: getattr(job.condition, name) for name in ("fault", "severity", "share")}
        self.ledger.add(
            [
                {
                    "key": self.key(arm, job.condition, job.seed),
                    "arm": arm,
                    **where,
                    "seed": job.seed,
                    **facts,
                }
                for arm, facts in played.items()
            ]
        )

    def rows(self, arm: str, condition: Condition) -> list[Mapping[str, Any]]:
        """The episodes of an arm in a condition, by seed; for who looks at no frame all are clean."""
        played = CLEAN if arm in BLIND else condition
        return [self.ledger[self.key(arm, played, seed)] for seed in self.seeds(condition)]

    def returns(self, arm: str, conditions: Sequence[Condition]) -> Doubles:
        """Returns of an arm, (C, E)."""
        return np.array([[row["total"] for row in self.rows(arm, one)] for one in conditions], np.float64)

    def export(self, conditions: Iterable[Condition]) -> list[Row]:
        """Every episode of these conditions as a flat row."""
        return [
            {"arm": arm, "condition": str(one), **{name: row[name] for name in row if name != "key"}}
            for one in conditions
            for arm in self.players(one)
            for row in self.rows(arm, one)
        ]
