"""Runs of one task that differ in their seed, told together: figures over seeds, false alarms pooled."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robovae.judge.exact import binomial_interval
from robovae.records import digest

Record = dict[str, Any]


def task_of(env_id: str, render_spec: Any) -> str:
    """Digest of a task, which is an environment and a camera."""
    return digest([env_id, render_spec])


def by_task(runs: Sequence[Mapping[str, Any]]) -> list[Record]:
    """A record a task, see `task_of`, in the order of the runs.

    Args:
        runs: each with "run", its name; "env_id"; "render_spec"; "judge", whose "targets" are rows of
            `Target.facts`; and "battery", see `robovae.judge.battery.battery`.

    Returns:
        JSON-able: "env_id", "render_spec", "runs", "seeds", how many runs; "figures", see `over_seeds`;
        "false_alarms", see `pooled_alarms`.
    """
    tasks: dict[str, list[Mapping[str, Any]]] = {}
    for one in runs:
        tasks.setdefault(task_of(one["env_id"], one["render_spec"]), []).append(one)
    return [
        {
            "env_id": some[0]["env_id"],
            "render_spec": some[0]["render_spec"],
            "runs": [one["run"] for one in some],
            "seeds": len(some),
            "figures": over_seeds([one["judge"]["targets"] for one in some]),
            "false_alarms": pooled_alarms([one["battery"] for one in some]),
        }
        for some in tasks.values()
    ]


def over_seeds(tables: Sequence[Sequence[Mapping[str, Any]]]) -> list[Record]:
    """Each figure over the runs in which it was measured.

    Args:
        tables: "targets" of each run, the same ones in the same order.

    Returns:
        Rows of "target", "wanted", "mean", "low" and "high", None without a run (the range over runs, from
        least to most: no interval); "of", how many runs.
    """
    rows = []
    for same in zip(*tables, strict=True):
        known = [row["reached"] for row in same if row["reached"] is not None]
        rows.append(
            {
                "target": same[0]["target"],
                "wanted": same[0]["wanted"],
                "mean": float(np.mean(known)) if known else None,
                "low": min(known, default=None),
                "high": max(known, default=None),
                "of": len(known),
            }
        )
    return rows


def pooled_alarms(batteries: Sequence[Mapping[str, Any]]) -> list[Record]:
    """False alarms a nominal episode, counted over all runs: a row a policy and promised rate.

    The interval takes episodes as independent. The seeds of the VAE watch the same episodes, so that it is
    too narrow as far as their monitors err on the same ones.

    Args:
        batteries: of each run.

    Returns:
        Rows of "policy"; "seen", whether it is that of the calibration; "alpha", the promised rate;
        "alarms" and "episodes", counts; "value", "low" and "high", the rate and its exact 95 % interval;
        "alpha_lies" "within" this interval, "below" (more alarms than promised) or "above" (fewer).
    """
    counts: dict[tuple[str, bool, float], list[int]] = {}
    for found in batteries:
        for place, (policy, one) in enumerate(found["nominal"].items()):
            seen = one["false_alarms_an_episode"]
            count = counts.setdefault((policy, place == 0, found["alpha"]), [0, 0])
            count[0] += round(seen["value"] * seen["of"])
            count[1] += seen["of"]
    return [_alarms(*key, *count) for key, count in counts.items()]


def _alarms(policy: str, seen: bool, alpha: float, alarms: int, episodes: int) -> Record:
    low, high = binomial_interval(alarms, episodes)
    return {
        "policy": policy,
        "seen": seen,
        "alpha": alpha,
        "alarms": alarms,
        "episodes": episodes,
        "value": alarms / episodes,
        "low": low,
        "high": high,
        "alpha_lies": "below" if alpha < low else "above" if alpha > high else "within",
    }
