"""The charts of the page: which numbers go into which chart."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from robovae.report import charts
from robovae.report.charts import Labels, Series
from robovae.report.words import is_number

Rows = Sequence[Mapping[str, Any]]
_MOST_BARS = 64
_MOST_LINES = 4
_LONGEST = 9
"""Letters of a line's name in the legend."""
_COMPARED = ("nominal", "filter", "both", "oracle", "guard")
"""Arms of the closed loop that are drawn, as many as fit."""


def training(rows: Rows) -> dict[str, Markup]:
    """Curves of held-out figures over training, by heading; one without a number is left out."""
    wanted = {
        "Explained variance": ({"EV": "ev"}, "EV"),
        "Evidence lower bound": ({"ELBO": "elbo"}, "nats a frame"),
        "Kullback-Leibler divergence": ({"grid": "local_kl", "global belief": "global_kl"}, "nats a frame"),
        "Information": ({"information": "information"}, "nats a frame"),
        "Active dimensions": ({"active": "active_dims"}, "dimensions"),
        "Prediction error": ({"ratio": "prediction_ratio"}, "of holding the last belief"),
        "Reward told by latents": ({"R²": "reward_r2"}, "of its variance"),
    }
    have = {key for row in rows for key, value in row.items() if is_number(value)}
    return {
        heading: curves(rows, lines, unit)
        for heading, (lines, unit) in wanted.items()
        if have & set(lines.values())
    }


def curves(rows: Rows, lines: Mapping[str, str], unit: str) -> Markup:
    """Figures over seconds of training, the steep beginning cut off.

    Args:
        rows: of metrics.jsonl.
        lines: name in the legend -> key in a row.
        unit: of all lines.
    """
    series = []
    for name, key in lines.items():
        points = [(row["seconds"], row[key]) for row in rows if is_number(row.get(key)) and "seconds" in row]
        series.append(Series(name, [x for x, _ in points], [y for _, y in points]))
    labels = Labels(", ".join(lines) + " over training", "seconds of training", unit)
    return Markup(charts.line_chart(series, labels, y_range=_steady(series), marks=phases(rows)))


def phases(rows: Rows) -> list[tuple[float, str]]:
    """Where a later phase of training begins."""
    return [
        (float(before["seconds"]), f"{row['phase']} level")
        for before, row in itertools.pairwise(rows)
        if "phase" in row and row["phase"] != before.get("phase") and is_number(before.get("seconds"))
    ]


def parts_over_training(rows: Rows) -> Markup:
    """Spring and capacity, each summed over the dimensions."""
    both = ("spring", "capacity")
    sums = [
        {"seconds": row.get("seconds"), **{part: sum(row[part]) for part in both}}
        for row in rows
        if all(row.get(part) for part in both)
    ]
    return curves(sums, {part: part for part in both}, "nats a frame")


def by_dimension(dimensions: Rows) -> Markup:
    """Spring and capacity of each dimension, the most informative first."""
    some = dimensions[:_MOST_BARS]
    stacks = {part: [one[part] for one in some] for part in ("spring", "capacity")}
    title = "Information by latent dimension: spring and capacity"
    labels = Labels(title, "dimension, the most informative first", "nats a frame")
    return Markup(charts.bar_chart([str(one["dim"]) for one in some], stacks, labels))


def realism(holes: Mapping[str, Any]) -> Markup:
    """Distance to the nearest real frame along the walks between frames, beside the controls."""
    series = []
    for name, key in (("VAE", "vae"), ("plain", "plain")):
        inner = holes[key]["walk"]
        end = holes[key]["ends"]["rmse"]
        places = [0.0, *(one["share"] for one in inner), 1.0]
        series.append(Series(name, places, [end, *(one["rmse"] for one in inner), end]))
    for name, control in (("real", "held-out frames"), ("faded", "two frames faded")):
        level = holes["controls"][control]["rmse"]
        series.append(Series(name, [0.0, 1.0], [level, level]))
    labels = Labels("Distance to the nearest real frame along the walks", "place on the way", "RMSE")
    return Markup(charts.line_chart(series, labels))


def covered(coverage: Mapping[str, Any]) -> Markup:
    """Observed coverage against nominal, of calibrated and raw beliefs, with the diagonal."""
    levels = coverage["levels"]
    nominal = [100.0 * one["level"] for one in levels]
    series = [
        Series(name, nominal, [100.0 * one[which]["value"] for one in levels])
        for name, which in (("calibrated", "total"), ("raw", "raw"))
    ]
    series.append(Series("true", [0.0, 100.0], [0.0, 100.0]))
    labels = Labels("Observed coverage against nominal", "nominal, %", "observed, %")
    return Markup(charts.line_chart(series, labels, y_range=(0.0, 100.0)))


def learning(policies: Rows) -> list[Markup]:
    """Mean return against steps, a line a policy, their steep beginnings cut off; a few lines a chart."""
    learnt = [one for one in policies if one["curve"]]
    return [_learning(learnt[first : first + _MOST_LINES]) for first in range(0, len(learnt), _MOST_LINES)]


def _learning(policies: Rows) -> Markup:
    series = [
        Series(
            name,
            [row["step"] for row in one["curve"]],
            [row["mean"] for row in one["curve"]],
        )
        for name, one in zip(_short([one["label"] for one in policies]), policies, strict=True)
    ]
    labels = Labels("Mean return over training", "steps", "return")
    return Markup(charts.line_chart(series, labels, y_range=_steady(series)))


def _short(labels: Sequence[str]) -> list[str]:
    """Names as long as the legend has room for: their beginnings, or, where those are alike, ends too."""
    cut = [label[:_LONGEST] for label in labels]
    if len(set(cut)) == len(set(labels)):
        return cut
    half = _LONGEST // 2
    return [label if len(label) <= _LONGEST else f"{label[:half]}…{label[-half:]}" for label in labels]


def bursts(loop: Mapping[str, Any]) -> Markup:
    """Score against the share of the steps in bursts, 0 being clean, with 95 % intervals."""
    if not loop["shares"]:
        return Markup()
    arms = {one["arm"]: one for one in loop["arms"]}
    shares = [0.0, *(100.0 * share for share in loop["shares"])]
    series, ends = [], list[float]()
    for name in [name for name in _COMPARED if name in arms][:_MOST_LINES]:
        scores = [arms[name]["clean"], *(one["score"] for one in arms[name]["bursts"])]
        value, low, high = ([score[key] for score in scores] for key in ("value", "low", "high"))
        series.append(Series(name, shares, value, (low, high)))
        ends += [*low, *high]
    labels = Labels("Score against the share of steps in bursts", "% of the steps in bursts", "score")
    return Markup(charts.line_chart(series, labels, y_range=(min(ends), max(ends))))


def _steady(series: Sequence[Series]) -> tuple[float, float] | None:
    """The range of all lines without their steep beginnings."""
    known = [end for one in series for end in charts.steady_range(one.y) or ()]
    return (min(known), max(known)) if len(set(known)) > 1 else None
