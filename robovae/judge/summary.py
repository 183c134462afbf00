"""From cells to the few numbers that are quoted, and to a table of episodes.

Timing faults stand apart in every figure: a frozen frame is a nominal frame, which no score of single frames
can tell.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robovae.judge.cells import SAME_PHYSICS
from robovae.judge.metrics import LEVELS, level_name, rms, spearman, spearman_ceiling
from robovae.judge.resample import Resampled, Sample, auroc_by_episode
from robovae.records import write_text

Row = Mapping[str, Any]

SEVERE = 3
"""Means are over severities from this on."""


def summarise(rows: Sequence[Row], nominal: Mapping[str, Any], *, draws: int, seed: int) -> dict[str, Any]:
    """What the cells say together.

    Args:
        rows: of `judge`, all of one table.
        nominal: of `Nominal.facts`.
        draws: resamples.
        seed: of the resampling, and of the ceilings.

    Returns:
        "means": mean AUROC by group ("TEST", "DEV", "timing TEST", "timing DEV") and score, over severities
        3-5; "severity": Spearman of severity and the score's mean in each episode, by fault and score;
        "truth": sigma of "total" and "raw" by kind and split, see `truth_of`; "harm": see `harm_of`, over
        rendered and sensor faults of TEST; "shuffled": how many of the control intervals hold 0.5.
    """
    groups = _grouped(rows, _group)
    return {
        "means": {
            name: _means([row for row in some if row["severity"] >= SEVERE]) for name, some in groups.items()
        },
        "severity": {name: _severity(some) for name, some in _grouped(rows, lambda r: r["fault"]).items()},
        "truth": {name: truth_of(some, seed=seed) for name, some in _grouped(rows, _kind_and_split).items()},
        "harm": harm_of(groups.get("TEST", []), nominal, draws=draws, seed=seed),
        "shuffled": _shuffled(rows),
    }


def truth_of(rows: Sequence[Row], *, seed: int) -> dict[str, Any]:
    """Sigma over several cells.

    Args:
        rows: of `judge`.
        seed: of the ceilings.

    Returns:
        For "total" and "raw": "coverage" by level, "nll" and "rms_error", means over cells; "sigma_ratio",
        their median; "cells", how many. Over the pairs of all cells together "spearman" of sigma and |error|:
        is this latent of this frame worse than that one? "spearman_frames", of the root mean squares over the
        active latents of a frame, which average the chance of single errors: is this frame worse than that
        one? "spearman_ceiling" and "spearman_frames_ceiling": what the same sigmas would score if they were
        exactly true, see `robovae.judge.metrics.spearman_ceiling`; the errors of a frame's latents are then
        independent, as the belief has them. A figure is None where one side does not vary.
    """
    return {which: _truth([row["truth"][which] for row in rows], seed) for which in ("total", "raw")}


def harm_of(rows: Sequence[Row], nominal: Mapping[str, Any], *, draws: int, seed: int) -> dict[str, Any]:
    """Harmful cells against nominal, rare and harmless ones, by the mean score of each episode.

    Returns:
        "cells": names by class; "auroc" by score with an interval by episode, None without a harmful cell;
        "log_sigma": mean AUROC of mean log sigma over the harmful cells, frame by frame.
    """
    classes = _grouped([row for row in rows if row["harm"]["class"]], lambda row: str(row["harm"]["class"]))
    names = {name: [f"{row['fault']} {row['severity']}" for row in some] for name, some in classes.items()}
    harmful = classes.get("harmful", [])
    if not harmful:
        return {"cells": names, "auroc": None, "log_sigma": None}
    table = {}
    for score in harmful[0]["scores"]:
        positive = _stacked([row["scores"][score]["episode_mean"] for row in harmful], together=True)
        others = [side[score]["episode_mean"] for side in nominal.values()]
        others += [row["scores"][score]["episode_mean"] for row in classes.get("harmless", [])]
        negative = _stacked(others, together=False)
        table[score] = auroc_by_episode(positive, negative, draws=draws, seed=seed).facts()
    return {"cells": names, "auroc": table, "log_sigma": _means(harmful)["log_sigma"]}


def to_csv(result: Mapping[str, Any], path: Path) -> Path:
    """Write mean and maximum of every score in every episode: a line an episode and score.

    Args:
        result: of `judge`.
        path: the file. Episode i of a cell has the seed first_seed + i and the clean twin i.

    Returns:
        `path`.
    """
    text = io.StringIO(newline="")
    out = csv.writer(text)
    out.writerow(("fault", "severity", "kind", "split", "psnr", "score", "episode", "mean", "max"))
    for side, scores in result["nominal"].items():
        _write(out, ("", 0, side, "", ""), scores)
    for row in result["cells"]:
        facts = tuple(row[name] for name in ("fault", "severity", "kind", "split", "psnr"))
        _write(out, facts, row["scores"])
    return write_text(path, text.getvalue())


def _write(out: Any, facts: tuple[Any, ...], scores: Mapping[str, Any]) -> None:
    for name, one in scores.items():
        pairs = zip(one["episode_mean"], one["episode_max"], strict=True)
        out.writerows((*facts, name, episode, *pair) for episode, pair in enumerate(pairs))


def _group(row: Row) -> str:
    return str(row["split"]) if row["kind"] in SAME_PHYSICS else f"{row['kind']} {row['split']}"


def _kind_and_split(row: Row) -> str:
    return f"{row['kind']} {row['split']}"


def _grouped(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _means(rows: Sequence[Row]) -> dict[str, Any]:
    """Mean AUROC by score; its draws share their episodes over cells, so their mean is a draw of the mean."""
    if not rows:
        return {}
    table = {}
    for score in rows[0]["scores"]:
        found = [row["scores"][score] for row in rows]
        value = float(np.mean([one["auroc"]["value"] for one in found]))
        resampled = Resampled(value, np.mean([one["draws"] for one in found], axis=0))
        table[score] = {**resampled.facts(), "cells": len(rows)}
    return table


def _severity(rows: Sequence[Row]) -> dict[str, float | None]:
    table = {}
    for score in rows[0]["scores"]:
        pairs = [
            (row["severity"], mean)
            for row in rows
            for mean in row["scores"][score]["episode_mean"]
            if mean is not None
        ]
        table[score] = spearman(*zip(*pairs, strict=True))
    return table


def _truth(found: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    sigma, error = np.concatenate([one["pairs"] for one in found]).T
    frames = np.concatenate([one["by_frame"] for one in found])
    rng = np.random.default_rng(seed)
    names = [level_name(level) for level in LEVELS]
    return {
        "cells": len(found),
        "coverage": {name: mean_coverage(found, name) for name in names},
        "nll": float(np.mean([one["nll"]["value"] for one in found])),
        "rms_error": float(np.mean([one["rms_error"]["value"] for one in found])),
        "sigma_ratio": float(np.median([one["sigma_ratio"] for one in found])),
        "spearman": spearman(sigma, error),
        "spearman_ceiling": spearman_ceiling(sigma, rng),
        "spearman_frames": spearman(rms(frames[:, 1:]), frames[:, 0]),
        "spearman_frames_ceiling": spearman_ceiling(frames[:, 1:], rng),
    }


def mean_coverage(found: Sequence[Mapping[str, Any]], level: str) -> float:
    """Mean over cells of the share that intervals of a level ("90") hold; of `Reference.compare` each."""
    return float(np.mean([one["coverage"][level]["value"] for one in found]))


def _shuffled(rows: Sequence[Row]) -> dict[str, Any]:
    found = [one["shuffled"] for row in rows for one in row["scores"].values()]
    inside = sum(one["low"] <= 0.5 <= one["high"] for one in found)
    return {"inside": inside, "of": len(found), "mean": float(np.mean([one["value"] for one in found]))}


def _stacked(means: Sequence[Sequence[float | None]], *, together: bool) -> Sample:
    """Episodes of several lists; with `together`, those of one number (one seed) are drawn together."""
    counted = []
    for place, some in enumerate(means):
        start = 0 if together else sum(len(one) for one in means[:place])
        counted += [(start + index, value) for index, value in enumerate(some) if value is not None]
    counted.sort(key=lambda pair: pair[0])
    number, values = zip(*counted, strict=True)
    episodes = max(len(one) for one in means) if together else sum(len(one) for one in means)
    return Sample(np.array(values), np.array(number), episodes)
