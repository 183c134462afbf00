"""Where the monitor fails: its worst cells, and the baselines that tell faults better than it does."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robovae.evaluate.intervals import percentiles
from robovae.uncertainty import SCORES, TEMPORAL

Row = Mapping[str, Any]

OWN = ("monitor", *SCORES, *TEMPORAL, "log_sigma")
"""Scores of robovae; all others are baselines."""
CHANCE = "chance"
"""The baseline that knows nothing, a control."""
WORST = 5
"""Cells that are told of."""


def worst_cells(cells: Sequence[Row], score: str) -> list[dict[str, Any]]:
    """The cells that a score tells least, the lowest AUROC first.

    Returns:
        "fault", "severity", "kind", "split", "psnr"; "value", "low", "high", "against"; "harm", the class,
        and "rms_error" of mu in nominal deviations, None where it is not known; "best": the baseline that
        tells the cell best, {"name", "value"}, None without one.
    """
    known = [row for row in cells if score in row["scores"]]
    lowest = sorted(known, key=lambda row: float(row["scores"][score]["auroc"]["value"]))[:WORST]
    return [
        {
            **{key: row.get(key) for key in ("fault", "severity", "kind", "split", "psnr")},
            **row["scores"][score]["auroc"],
            "against": row["scores"][score].get("against"),
            "harm": (row.get("harm") or {}).get("class"),
            "rms_error": (row.get("harm") or {}).get("rms_error"),
            "best": _best(row),
        }
        for row in lowest
    ]


def rivals(cells: Sequence[Row], means: Mapping[str, Any], score: str) -> list[dict[str, Any]]:
    """A score among all baselines, the best on average first.

    Args:
        cells: in which they are compared.
        means: by score, the mean AUROC that ranks them.
        score: that they are compared with.

    Returns:
        A row each: "name"; "mean" of `means`, None where it is not there; "cells", in how many both were
        judged; "better", in how many of them the baseline's lead is above 0 with its whole interval; "lead":
        the cell of these where it is largest, {"fault", "severity", "value", "low", "high", "theirs",
        "ours"}, None without one. Empty without a baseline.
    """
    names = {name: None for row in cells for name in row["scores"] if name not in OWN}
    if not names:
        return []
    table = [_rival(name, cells, means.get(name), score) for name in (score, *names)]
    return sorted(table, key=lambda one: -(one["mean"] or {"value": 0.0})["value"])


def _rival(name: str, cells: Sequence[Row], mean: Any, score: str) -> dict[str, Any]:
    both = [row for row in cells if {name, score} <= set(row["scores"])]
    leads = [_lead(row, name, score) for row in both]
    won = [lead for lead in leads if lead["low"] > 0]
    largest = max(won, key=lambda lead: float(lead["value"]), default=None)
    return {"name": name, "mean": mean, "cells": len(both), "better": len(won), "lead": largest}


def _lead(row: Row, name: str, score: str) -> dict[str, Any]:
    """By how much a baseline is better in a cell; the draws of both weigh the same episodes, so they pair."""
    theirs, ours = row["scores"][name], row["scores"][score]
    low, high = percentiles(np.subtract(theirs["draws"], ours["draws"]))
    return {
        "fault": row["fault"],
        "severity": row["severity"],
        "value": theirs["auroc"]["value"] - ours["auroc"]["value"],
        "low": low,
        "high": high,
        "theirs": theirs["auroc"]["value"],
        "ours": ours["auroc"]["value"],
    }


def _best(row: Row) -> dict[str, Any] | None:
    others = {
        name: one["auroc"]["value"] for name, one in row["scores"].items() if name not in (*OWN, CHANCE)
    }
    if not others:
        return None
    name = max(others, key=lambda key: float(others[key]))
    return {"name": name, "value": others[name]}
