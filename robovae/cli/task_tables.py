"""Runs of one task over their seeds, as tables for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from robovae.cli.console import number
from robovae.cli.verdicts import titled

Record = dict[str, Any]


def task_tables(tasks: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """Figures, a column a task; then false alarms, a row a task and policy.

    Args:
        tasks: of `robovae.judge.tasks.by_task`.
    """
    alarms = [row for one in tasks for row in alarm_rows(one)]
    return [
        *titled(figure_rows(tasks), "by task over seeds: mean (least to most)"),
        *titled(
            alarms,
            "false alarms by task, pooled over seeds, which watch the same episodes; alpha lies within "
            "the exact interval, below it (more alarms than promised) or above",
        ),
    ]


def figure_rows(tasks: Sequence[Mapping[str, Any]]) -> list[Record]:
    """A row a figure, with a column for each task that tells its runs."""
    names = [f"{one['env_id']} ({', '.join(one['runs'])})" for one in tasks]
    return [
        {
            "target": same[0]["target"],
            "wanted": same[0]["wanted"],
            **{name: _words(figure) for name, figure in zip(names, same, strict=True)},
        }
        for same in zip(*(one["figures"] for one in tasks), strict=True)
    ]


def alarm_rows(one: Mapping[str, Any]) -> list[Record]:
    """A row a policy; the target is missed where that of the calibration alarms more often than promised."""
    return [
        {
            "task": one["env_id"],
            "policy": row["policy"],
            "seen": "yes" if row["seen"] else "no",
            "alarms": row["alarms"],
            "episodes": row["episodes"],
            "alarms/episode": f"{number(row['value'])} ({number(row['low'])} to {number(row['high'])})",
            "alpha": row["alpha"],
            "alpha lies": row["alpha_lies"],
            "runs": " ".join(one["runs"]),
            "": "missed" if row["seen"] and row["alpha_lies"] == "below" else "",
        }
        for row in one["false_alarms"]
    ]


def _words(figure: Mapping[str, Any]) -> str:
    if figure["mean"] is None:
        return ""
    spread = f" ({figure['low']:.3f} to {figure['high']:.3f})" if figure["of"] > 1 else ""
    return f"{figure['mean']:.3f}{spread}"
