"""What policies on beliefs should reach, task by task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robovae.judge.targets import Target

BELIEFS = ("filtered", "taught", "mu_sigma", "mu")
"""Arms on beliefs of the run; the first that is there is held against the targets."""
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
    """What the first arm on beliefs should reach, and what it does."""
    rows, task, found = {row["arm"]: row for row in one["arms"]}, one["task"], []
    lead = next((rows[arm] for arm in BELIEFS if arm in rows), None)
    if lead is None:
        return []
    name, steps, clock = lead["arm"], f"{one['steps']} steps", lead.get("clock") or {}
    reached = f"{clock['reached']} of {len(one['seeds'])} seeds reached the return" if clock else ""
    kinds = (
        (f"return of {name}, {steps}", lead["held_out"], "least", task["least"], ""),
        (f"true state's return less that of {name}", lead["behind"], "most", task["behind"], ""),
        (f"share of the way to the true state, {name}, {steps}", lead["share"], "least", task["share"], ""),
        ("times faster than CnnPolicy, extrapolated", clock.get("times"), "least", TIMES, reached),
    )
    for title, facts, bound, wanted, more in kinds:
        if wanted is not None:
            words = [f"{facts['low']:.4g} to {facts['high']:.4g}", more] if facts else []
            note = "; ".join(word for word in words if word)
            found.append(Target(title, facts and facts["value"], **{bound: wanted}, note=note))
    return found
