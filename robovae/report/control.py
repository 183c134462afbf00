"""The policies of a run: how they learnt, and what is left of their returns when the camera fails."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup

from robovae.closed_loop import BLIND
from robovae.closed_loop.summary import ALL
from robovae.evaluate.intervals import interval, mean
from robovae.policy.saving import read_record
from robovae.records import read_lines
from robovae.report import plots
from robovae.report.findings import read_findings
from robovae.run.files import policy_places

Row = Mapping[str, Any]

SEES = {"filtered": "filtered beliefs", "mu": "μ", "mu_sigma": "μ and σ", "state": "the true state"}
ARMS = {
    "nominal": "the policy as everybody has it, on each frame’s belief",
    "augmented": "the same, but some of its training frames were corrupted",
    "filter": "a policy on filtered beliefs: a frame counts for what its σ says",
    "guard": "nominal under the guard, which falls back on frames that it does not trust",
    "both": "filter under the guard, which first coasts on the prediction",
    "oracle": "both, but told which frames are bad: a gate that never errs",
    "constant sigma": "filter, but every frame counts alike: what σ is worth",
    "state": "a policy on the true state, with no camera to fail",
    "zero": "no action at all",
    "random": "any action",
    "fallback": "what the guard falls back on, all the time",
}
"""What each arm of the closed loop is."""
MANY = 50
"""Episodes an arm and condition from which a judgement is no quick look."""
MOST_BYTES = 24 << 20
"""Of a film that is put into the page."""


@dataclass(frozen=True)
class Film:
    """A moving picture within the page."""

    uri: str
    alt: str
    size: tuple[int, int]
    """(width, height) in pixels."""


@dataclass(frozen=True)
class Control:
    """The section's material."""

    figures: dict[str, Any] | None
    """None where the run has no policy and was not judged with one."""
    curves: list[Markup] = field(default_factory=list)
    """Learning curves, a few policies a chart."""
    bursts: Markup = field(default_factory=Markup)
    """Score against the share of bursts; empty where nothing was judged."""
    film: Film | None = None


def gather(run: Path) -> Control:
    """Read what `robovae policy` and `robovae bench control` left in a run.

    Raises:
        ReportError: what was judged is damaged, or of an older version.
    """
    policies = [policy_facts(run / place) for place in policy_places(run)]
    loop = read_findings(run / "control" / "control.json", condense, f"robovae bench control {run}")
    if not policies and loop is None:
        return Control(None)
    film = load_film(run / "control" / "film.webp")
    figures = {"policies": policies, "loop": loop, "missing": missing(policies, loop, film)}
    return Control(figures, plots.learning(policies), plots.bursts(loop) if loop else Markup(), film)


def policy_facts(where: Path) -> dict[str, Any]:
    """What is told of a policy.

    Args:
        where: RUN/policy or RUN/policy-NAME.

    Returns:
        JSON-able: "place", "label" (short), "sees" (in words), "algo", "taught_by", "steps", "seconds",
        "kept_step", "return": mean over the held-out episodes as {"value", "low", "high", "of"}, "curve":
        rows of "step" and "mean"; "finished". What is not known is None.
    """
    record = read_record(where) or {}
    kept: Row = record.get("kept") or {}
    rows = [row for row in read_lines(where / "progress.jsonl") if {"step", "mean"} <= set(row)]
    return {
        "place": where.name,
        "label": where.name.removeprefix("policy-"),
        "observation": record.get("observation"),
        "features": record.get("features"),
        "sees": sees(record),
        **{key: record.get(key) for key in ("algo", "steps", "seconds")},
        "taught_by": (record.get("config") or {}).get("teacher") if record.get("algo") == "dagger" else None,
        "kept_step": kept.get("step"),
        "return": _mean_return((record.get("evaluation") or {}).get("returns")),
        "curve": [{key: row[key] for key in ("step", "mean")} for row in rows],
        "episodes": len(rows[-1].get("returns", ())) if rows else None,
        "finished": bool(record),
    }


def sees(record: Row) -> str | None:
    """What a policy sees, in words."""
    known = SEES.get(record.get("features") or "")
    if known is None:
        return None
    stack, config = record.get("stack") or 1, record.get("config") or {}
    known += f", {stack} at once" if stack > 1 else ""
    if record.get("features") == "state":
        return known
    shares = [
        (config.get(key), what) for key, what in (("drop_share", "lost"), ("corrupt_share", "corrupted"))
    ]
    failing = " and ".join(f"{share:.0%} of the frames {what}" for share, what in shares if share)
    return known + (f"; {failing} in training" if failing else "")


def condense(found: Row) -> dict[str, Any]:
    """Figures of the page, without the episodes behind them.

    Args:
        found: control.json: what `robovae.closed_loop.judge_loop` returns.

    Returns:
        JSON-able: "reference", "config", "shares" of bursts; "arms", a row each: "arm", "what", "return",
        "clean" (score), "lost" (share of the plain policy's clean mean score), "interventions" on clean
        episodes, and "bursts", by share; "guarded" and "plain", indices of the arm that stands for robovae
        and of the policy as everybody has it; "conditions" behind a share; "targets".
    """
    clean, pooled = found["clean"], [row for row in found["pooled"] if row["pool"] == ALL]
    shares = sorted({row["share"] for row in pooled})
    at = {(row["share"], row["arm"]): row for row in pooled}
    names = [row["arm"] for row in clean]
    plain, guarded = _first(names, "nominal", "filter"), _first(names, "both", "guard")
    whole = clean[plain]["mean"] if plain is not None else None
    kept = ("score", "kept", "interventions", "worst")
    return {
        "reference": found["reference"],
        "config": {key: found["config"][key] for key in ("episodes", "steps", "longest")},
        "quick": found["config"]["episodes"] < MANY,
        "shares": shares,
        "conditions": max((row["conditions"] for row in pooled), default=0),
        "plain": plain,
        "guarded": guarded,
        "arms": [
            {
                "arm": row["arm"],
                "what": ARMS.get(row["arm"], ""),
                "return": row["return"],
                "clean": row["score"],
                "lost": 1 - row["mean"] / whole if whole and whole > 0 and row["arm"] not in BLIND else None,
                "interventions": row["interventions"],
                "bursts": [{key: at[share, row["arm"]][key] for key in kept} for share in shares],
            }
            for row in clean
        ],
        "targets": [target(row) for row in found["targets"]],
    }


def target(row: Row) -> dict[str, Any]:
    """A target with its verdict apart from its note.

    Args:
        row: of `robovae.judge.targets.Target.facts`.

    Returns:
        "target", "wanted", "reached", "note", and "verdict": "met", "missed", "not measured", or "" for a
        number that only stands beside.
    """
    said = row[""]
    verdict = next((word for word in ("missed", "not measured") if said.startswith(word)), "")
    facts = {key: row[key] for key in ("target", "wanted", "reached")}
    note = said.removeprefix(verdict).strip()
    return {**facts, "note": note, "verdict": verdict or ("met" if row["wanted"] else "")}


def missing(policies: Sequence[Row], loop: Row | None, film: Film | None) -> list[dict[str, str]]:
    """What the section lacks, and the command that makes it."""
    done = [one for one in policies if one["finished"]]
    kinds = {"state" if one["observation"] == "state" else one["features"] for one in done}
    wanted = (
        ("a policy on filtered beliefs", "robovae policy RUN", "filtered" in kinds),
        (
            "a policy on beliefs as they come",
            "robovae policy RUN --features mu --stack 3 --name mu",
            bool(kinds & {"mu", "mu_sigma"}),
        ),
        (
            "a policy on the true state, to measure by",
            "robovae policy RUN --observation state --name state",
            "state" in kinds,
        ),
        ("the closed loop", "robovae bench control RUN", loop is not None),
        ("its film", "robovae bench control RUN", loop is None or film is not None),
    )
    unfinished = [
        {"what": f"the rest of {one['place']}", "command": "robovae policy RUN, as it was begun"}
        for one in policies
        if not one["finished"]
    ]
    return unfinished + [{"what": what, "command": how} for what, how, there in wanted if not there]


def load_film(path: Path) -> Film | None:
    """A film as the page shows it; None if there is none, or it is damaged or too large."""
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        return None
    data = path.read_bytes()
    first = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if first is None:
        return None
    alt = "Film: the same episode without a fault, under a fault in bursts, and under it with the guard"
    uri = "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
    return Film(uri, alt, (first.shape[1], first.shape[0]))


def _mean_return(returns: Sequence[float] | None) -> dict[str, Any] | None:
    """Mean of an episode's return, with what it could have been with other episodes."""
    if not returns:
        return None
    sums = np.stack([np.asarray(returns, np.float64), np.ones(len(returns))], axis=1)
    low, high = interval(sums, mean)
    return {"value": float(np.mean(returns)), "low": low, "high": high, "of": len(returns)}


def _first(names: Sequence[str], *wanted: str) -> int | None:
    """Index of the first of these names that is there."""
    return next((names.index(name) for name in wanted if name in names), None)
