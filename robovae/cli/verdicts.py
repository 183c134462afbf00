"""What was judged, as small rows for a file and as tables for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from robovae.cli.console import number, table_of
from robovae.judge.cells import SAME_PHYSICS
from robovae.judge.sanity import SILENT
from robovae.judge.summary import SEVERE, Row, truth_of
from robovae.judge.targets import COMBINED, TEMPORAL, by_fault, targets

Record = dict[str, Any]
NOMINAL = "nominal frames"
SILENCE = f"no robot frames: the prior's sigma is 1; information below {SILENT:g} nats wanted"
"""The sanity row that shows what is usual."""


def brief(result: Mapping[str, Any]) -> Record:
    """A judgement without the lists behind its figures.

    Args:
        result: of `robovae.cli.evaluate.judged`.

    Returns:
        JSON-able: rows of "targets", "headline", "timing", "sigma", "scores", "skipped" and "controls";
        "harm" (see `harm_of`), "config", "seconds".
    """
    still = [row for row in result["cells"] if row["kind"] in SAME_PHYSICS]
    timing = [row for row in result["cells"] if row["kind"] not in SAME_PHYSICS]
    ranks = result["summary"]["severity"]
    return {
        "targets": [one.facts() for one in targets(result)],
        "headline": headline(still, ranks),
        "timing": [row for score in (*TEMPORAL, COMBINED) for row in headline(timing, ranks, score)],
        "sigma": sigma_rows(still, seed=result["config"]["seed"]),
        "scores": score_rows(result),
        "skipped": [{"baseline": name, "why": why} for name, why in result["skipped"].items()],
        "controls": control_rows(result),
        "harm": result["summary"]["harm"],
        "config": result["config"],
        "seconds": result["seconds"],
    }


def titled(rows: Sequence[Mapping[str, Any]], title: str) -> list[RenderableType]:
    """A table under its title, which a narrow table would fold; nothing without rows."""
    return ["", title, table_of(rows)] if rows else []


def judge_tables(found: Mapping[str, Any]) -> list[RenderableType]:
    """Targets, the headline by fault and severity, timing faults apart, sigma, scores, and the controls.

    Args:
        found: of `brief`.
    """
    titles = {
        "targets": "targets, over rendered and sensor faults of TEST",
        "headline": "AUROC by severity, the lower of test and rare; rank: Spearman of severity and score",
        "timing": "timing faults by severity: only the temporal score can see them",
        "sigma": "is sigma true? means over severities; raw: the encoder's own; ceiling: of Spearman, were "
        "these sigmas exactly true; by frame: of root mean squares over latents",
        "scores": f"mean AUROC of scores, severities {SEVERE} to 5; harmful: against nominal and harmless; "
        "ms: a frame on one thread",
        "skipped": "baselines that are not in the table",
        "controls": "negative controls",
    }
    return [item for name, title in titles.items() for item in titled(found[name], title)]


def headline(rows: Sequence[Row], ranks: Mapping[str, Any], score: str = COMBINED) -> list[Record]:
    """A row a fault: AUROC of a score by severity, the lower of against test and against rare.

    Args:
        rows: cells.
        ranks: Spearman of severity and score, by fault and score.
        score: its name.
    """
    table = []
    for name, some in by_fault(rows).items():
        found = [row["scores"][score] for row in some]
        table.append(
            {
                "fault": name,
                "kind": some[0]["kind"],
                "split": some[0]["split"],
                "score": score,
                **{str(row["severity"]): _short(row["scores"][score]["auroc"]["value"]) for row in some},
                "rank": ranks[name][score],
                "against": "/".join(dict.fromkeys(one["against"] for one in found)),
                "harm": " ".join(row["harm"]["class"] or "?" for row in some),
            }
        )
    return table


def sigma_rows(rows: Sequence[Row], *, seed: int) -> list[Record]:
    """A row a fault: coverage, NLL, Spearman and error of the calibrated belief, and of the raw one.

    Args:
        rows: cells.
        seed: of the ceilings of Spearman, see `truth_of`.
    """
    table = []
    for name, some in by_fault(rows).items():
        total, raw = (truth_of(some, seed=seed)[which] for which in ("total", "raw"))
        table.append(
            {
                "fault": name,
                "split": some[0]["split"],
                **{f"{level}%": _short(total["coverage"][level]) for level in ("50", "90")},
                "raw 90%": _short(raw["coverage"]["90"]),
                "NLL": total["nll"],
                "raw NLL": raw["nll"],
                "Spearman": total["spearman"],
                "ceiling": total["spearman_ceiling"],
                "by frame": total["spearman_frames"],
                "its ceiling": total["spearman_frames_ceiling"],
                "error": total["rms_error"],
                "raw error": raw["rms_error"],
                "sigma/nominal": total["sigma_ratio"],
            }
        )
    return table


def score_rows(result: Mapping[str, Any]) -> list[Record]:
    """A row a score: mean AUROC by group of faults, its interval on TEST, of harmful faults, and its cost."""
    means, harm = result["summary"]["means"], result["summary"]["harm"]["auroc"] or {}
    rows: list[Record] = []
    for name in next(iter(means.values()), {}):
        row: Record = {"score": name}
        for group, found in means.items():
            if name in found:
                row[group] = _short(found[name]["value"])
            if name in found and group == "TEST":
                row |= {side: _short(found[name][side]) for side in ("low", "high")}
        if name in harm:
            row["harmful"] = _short(harm[name]["value"])
        rows.append({**row, "ms": result["ms"][name]})
    return sorted(rows, key=lambda row: -row.get("TEST", 0.0))


def control_rows(result: Mapping[str, Any]) -> list[Record]:
    """What must come out at 0.5."""
    mixed, means = result["summary"]["shuffled"], result["summary"]["means"]
    identities = result["controls"]["severity_0"]
    note = f"{mixed['inside']} of {mixed['of']} intervals hold 0.5"
    rows: list[Record] = [
        {"control": "severity 0", "AUROC": max(identities.values()), "": f"of {len(identities)} faults"},
        {"control": "shuffled labels", "AUROC": _short(mixed["mean"]), "": note},
    ]
    for group, found in means.items():
        if one := found.get("chance"):
            note = f"{one['low']:.3f} to {one['high']:.3f}"
            rows.append({"control": f"random score, {group}", "AUROC": _short(one["value"]), "": note})
    return rows


def battery_tables(found: Mapping[str, Any]) -> list[RenderableType]:
    """False alarms by policy; detection and its delay by fault and severity, of alarm and gate.

    Args:
        found: of `battery`.
    """
    promise = f"alpha {found['alpha']:g} an episode like calibration's (at most {found['longest']} frames)"
    return [
        *titled(nominal_rows(found), f"false alarms: {promise}, gate {found['alpha_gate']:g} of frames"),
        *titled(
            _by_severity(found["cells"], _alarm_words),
            "alarm: share of faulted episodes detected, median delay in steps (mean, undetected = horizon)",
        ),
        *titled(
            _by_severity(found["cells"], _gate_words),
            "gate: share of faulted frames shut out, median delay of the first in steps (mean)",
        ),
    ]


def nominal_rows(found: Mapping[str, Any]) -> list[Record]:
    """A row a policy, with exact intervals; the first policy is that of the calibration."""
    rows = []
    for place, (policy, one) in enumerate(found["nominal"].items()):
        episode, hour, shut = (
            one[name] for name in ("false_alarms_an_episode", "false_alarms_an_hour", "untrusted")
        )
        above = episode["low"] > found["alpha"]
        rows.append(
            {
                "policy": policy,
                "seen": "no" if place else "yes",
                "episodes": one["episodes"],
                "alarms/episode": _with_interval(episode),
                "alarms/hour": _with_interval(hour),
                "untrusted": _with_interval(shut),
                "": "missed" if above and not place else "above alpha" if above else "",
            }
        )
    return rows


def silence_rows(found: Sequence[Mapping[str, Any]]) -> list[Record]:
    """Rows of `sanity`, with those that say too much though they are no robot frames."""
    return [
        {**row, "": "missed" if row["picture"] != NOMINAL and row["information"] >= SILENT else ""}
        for row in found
    ]


def cost_rows(found: Mapping[str, Mapping[str, Any]]) -> list[Record]:
    """Results of `watching_cost` by what encodes; the first must reach the target."""
    rows = []
    for place, (name, one) in enumerate(found.items()):
        times = {
            f"{what} {part}": one[f"{what}_ms"][part]
            for what in ("encode", "update")
            for part in ("p50", "p99")
        }
        verdict = "missed" if one["share"] > one["target"] and not place else ""
        wanted = "" if place else f"<= {one['target']:.0%}"
        rows.append({"beside": name, **times, "added": f"{one['share']:.0%}", "wanted": wanted, "": verdict})
    return rows


def _by_severity(rows: Sequence[Row], words: Any) -> list[Record]:
    return [
        {"fault": name, "kind": some[0]["kind"], **{str(row["severity"]): words(row) for row in some}}
        for name, some in by_fault(rows).items()
    ]


def _alarm_words(row: Row) -> str:
    alarm = row["alarm"]
    return _share_and_delay(alarm["tpr"], alarm["delay"])


def _gate_words(row: Row) -> str:
    return "-" if row["gate"] is None else _share_and_delay(row["gate"]["untrusted"], row["gate"]["delay"])


def _share_and_delay(share: Mapping[str, Any] | None, delay: Mapping[str, Any] | None) -> str:
    if share is None or delay is None:
        return "-"
    median = "-" if delay["median"] is None else f"{delay['median']:g}"
    return f"{share['value']:.0%}, {median} ({delay['restricted_mean']:.1f})"


def _with_interval(one: Mapping[str, float]) -> str:
    return f"{number(one['value'])} ({number(one['low'])} to {number(one['high'])})"


def _short(value: float) -> float:
    """To three digits, but never up to 1, which is for scores that erred not once."""
    return min(round(value, 3), 0.999) if value < 1 else value
