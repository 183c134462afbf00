"""What the judge found, condensed to the figures of the page: strangeness, coverage, alarms and failures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robovae.belief import Perceiver
from robovae.judge.cells import SAME_PHYSICS
from robovae.judge.metrics import LEVELS, level_name
from robovae.judge.targets import COMBINED, TEMPORAL
from robovae.report import filmchart
from robovae.report.films import load_films
from robovae.report.findings import read_findings
from robovae.report.shortfalls import rivals, worst_cells
from robovae.uncertainty import FrameMonitor

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Findings:
    """The section's material."""

    figures: dict[str, Any] | None
    """None where the run was not evaluated."""
    films: list[filmchart.Watched] = field(default_factory=list)
    """In the order of figures["films"]."""


def gather(run: Path) -> Findings:
    """Read what `robovae evaluate` left in `run/judge/`, and let the monitor watch its films.

    Raises:
        ReportError: the judgement is damaged, or of an older version.
        FilmError: the films are damaged.
        MonitorError: the monitor is of other weights.
    """
    figures = read_findings(run / "judge" / "judge.json", condense, f"robovae evaluate {run}")
    if figures is None:
        return Findings(None)
    kinds = {line["fault"]: line["kind"] for lines in figures["maps"].values() for line in lines}
    films = sorted(watch_films(run), key=lambda one: kinds.get(one.film.fault, ""))
    told = [{**one.facts(), "kind": kinds.get(one.film.fault, "")} for one in films]
    return Findings({**figures, "films": told}, films)


def watch_films(run: Path) -> list[filmchart.Watched]:
    """Every film that was kept, under the run's monitor; none where either is missing."""
    films = load_films(run / "judge" / "films.safetensors")
    if not films or not (run / "monitor.json").is_file():
        return []
    monitor, perceiver = FrameMonitor.load(run), Perceiver.load(run)
    return [filmchart.watch(monitor, perceiver, film) for film in films]


def condense(found: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of the page, without the draws and episodes behind them.

    Args:
        found: judge.json: what `robovae.judge.judge` returns, on its own or as "judge" beside "battery" and
            "sanity"; any may be missing.

    Returns:
        JSON-able: "config"; "maps", see `heat_map`; "mean", of the AUROC over TEST faults at severities from
        3 on; "coverage", see `coverage`; "widening" of nominal frames, as the judge has it; "false_alarms";
        "delays"; "sanity"; "worst" and "rivals", see `shortfalls`; "controls". Parts that were not measured
        are None or empty.
    """
    judged: Mapping[str, Any] = found if "cells" in found else found.get("judge") or {}
    cells: Sequence[Row] = judged.get("cells") or []
    lone = [row for row in cells if row["kind"] in SAME_PHYSICS]
    timing = [row for row in cells if row["kind"] not in SAME_PHYSICS]
    means = ((judged.get("summary") or {}).get("means") or {}).get("TEST") or {}
    battery: Mapping[str, Any] = found.get("battery") or {}
    return {
        "config": {key: (judged.get("config") or {}).get(key) for key in ("episodes", "steps", "policy")},
        "severities": sorted({row["severity"] for row in cells}),
        "maps": {
            "lone": heat_map(lone, (COMBINED,)),
            "timing": heat_map(timing, (COMBINED, *TEMPORAL)),
        },
        "mean": means.get(COMBINED),
        "coverage": coverage([row for row in lone if row["split"] == "TEST"]),
        "widening": judged.get("widening") or {},
        "false_alarms": false_alarms(battery),
        "delays": delays(battery),
        "watched_severities": sorted({row["severity"] for row in battery.get("cells") or []}),
        "longest": battery.get("longest"),
        "sanity": found.get("sanity") or [],
        "worst": worst_cells(lone, COMBINED),
        "rivals": rivals(lone, means, COMBINED),
        "controls": controls(judged),
    }


def heat_map(cells: Sequence[Row], names: Sequence[str]) -> list[dict[str, Any]]:
    """AUROC of some scores: a row a fault and score, a cell a severity.

    Returns:
        "fault", "kind", "split", "score", and "cells" by severity, each with "value", "low", "high",
        "against", "psnr", "changed", "alarms" by alpha. Scores that were not judged have no row.
    """
    table: dict[tuple[str, str], dict[str, Any]] = {}
    for row in cells:
        for name in names:
            if name not in row["scores"]:
                continue
            facts = {key: row[key] for key in ("fault", "kind", "split")}
            line = table.setdefault((row["fault"], name), {**facts, "score": name, "cells": {}})
            score = row["scores"][name]
            line["cells"][str(row["severity"])] = {
                **score["auroc"],
                "against": score.get("against"),
                "psnr": row.get("psnr"),
                "changed": row.get("changed"),
                "alarms": score.get("alarms") or {},
            }
    return list(table.values())


def coverage(cells: Sequence[Row]) -> dict[str, Any] | None:
    """How much the intervals of the beliefs hold, over the frames of several cells, every cell alike.

    Returns:
        "cells"; "levels": for each nominal level, "total" (calibrated) and "raw" with the mean over cells
        and its lowest and highest cell; "nll", nats a latent; "worst", the cell whose 90 % intervals of
        "total" hold least. None without a cell.
    """
    known = [row for row in cells if row.get("truth")]
    if not known:
        return None
    levels = [
        {"level": level, **{which: _spread(known, which, level) for which in ("total", "raw")}}
        for level in LEVELS
    ]
    worst = min(known, key=lambda row: _covered(row, "total", 0.9))
    nll = {
        which: float(np.mean([row["truth"][which]["nll"]["value"] for row in known]))
        for which in ("total", "raw")
    }
    least = {"fault": worst["fault"], "severity": worst["severity"], "value": _covered(worst, "total", 0.9)}
    return {"cells": len(known), "levels": levels, "nll": nll, "worst": least}


def false_alarms(battery: Mapping[str, Any]) -> list[dict[str, Any]]:
    """False alarms on nominal episodes: a row a policy.

    Args:
        battery: of `robovae.judge.battery.battery`, or empty.
    """
    keys = ("false_alarms_an_episode", "false_alarms_an_hour", "untrusted")
    return [
        {"policy": policy, "alpha": battery.get("alpha"), **{key: one.get(key) for key in keys}}
        for policy, one in (battery.get("nominal") or {}).items()
        if one.get("false_alarms_an_episode")
    ]


def delays(battery: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Detection and its delay: a row a fault, with "tpr" and "delay" of each severity in "cells".

    Args:
        battery: of `robovae.judge.battery.battery`, or empty.
    """
    table: dict[str, dict[str, Any]] = {}
    for row in battery.get("cells") or []:
        if (row.get("alarm") or {}).get("delay"):
            facts = {key: row[key] for key in ("fault", "kind", "split")}
            line = table.setdefault(row["fault"], {**facts, "cells": {}})
            line["cells"][str(row["severity"])] = {key: row["alarm"][key] for key in ("tpr", "delay")}
    return list(table.values())


def controls(judged: Mapping[str, Any]) -> dict[str, Any]:
    """AUROC of severity 0, its range over faults, and how many intervals of shuffled labels hold 0.5."""
    same = list(((judged.get("controls") or {}).get("severity_0") or {}).values())
    return {
        "faults": len(same),
        "low": min(same, default=None),
        "high": max(same, default=None),
        "shuffled": (judged.get("summary") or {}).get("shuffled"),
    }


def _covered(row: Row, which: str, level: float) -> float:
    return float(row["truth"][which]["coverage"][level_name(level)]["value"])


def _spread(cells: Sequence[Row], which: str, level: float) -> dict[str, float]:
    values = [_covered(row, which, level) for row in cells]
    return {"value": float(np.mean(values)), "low": min(values), "high": max(values)}
