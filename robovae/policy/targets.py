"""What policies on beliefs should reach, task by task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robovae.judge.targets import Target

BELIEFS = ("filtered", "taught", "mu_sigma", "mu")
"""Arms on beliefs of the run, the best known first."""
TIMES = 20.0
"""Less wall-clock than `CnnPolicy` to the same return."""


@dataclass(frozen=True)
class Task:
    """How long a task is learnt, and what should come out."""

    steps: int = 50_000
    least: float | None = None
    """Return."""
    behind: float | None = None
    """Return short of the true state's, at most."""
    share: float | None = None
    """Of the way from zero action to the true state, at least."""


TASKS = {
    "InvertedPendulum-v5": Task(30_000, least=950.0),
    "Reacher-v5": Task(50_000, least=-6.0, behind=1.0),
    "Pusher-v5": Task(100_000, share=0.85),
    "HalfCheetah-v5": Task(100_000, share=0.85),
}


def targets(one: Mapping[str, Any]) -> list[Target]:
    """What arms on beliefs should reach, and what they do: those on filtered ones, or else the first."""
    rows, task = {row["arm"]: row for row in one["arms"]}, one["task"]
    held = [arm for arm in BELIEFS if arm in rows]
    leads = [arm for arm in ("filtered", "taught") if arm in held] or held[:1]
    return [target for arm in leads for target in _of_arm(rows[arm], task, len(one["seeds"]))]


def _of_arm(row: Mapping[str, Any], task: Mapping[str, Any], seeds: int) -> list[Target]:
    name, steps, clock = row["arm"], f"{row['steps']} steps", row.get("clock") or {}
    reached = f"{clock['reached']} of {seeds} seeds reached the return" if clock else ""
    kinds = (
        (f"return of {name}, {steps}", row["held_out"], "least", task["least"], ""),
        (f"true state's return less that of {name}", row["behind"], "most", task["behind"], ""),
        (f"share of the way to the true state, {name}, {steps}", row["share"], "least", task["share"], ""),
        (f"times faster than CnnPolicy, extrapolated, {name}", clock.get("times"), "least", TIMES, reached),
    )
    found = []
    for title, facts, bound, wanted, more in kinds:
        if wanted is not None:
            words = [f"{facts['low']:.4g} to {facts['high']:.4g}", more] if facts else []
            note = "; ".join(word for word in words if word)
            found.append(Target(title, facts and facts["value"], **{bound: wanted}, note=note))
    return found
