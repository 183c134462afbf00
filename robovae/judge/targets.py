"""The few numbers that decide whether scores and sigma are good enough, each beside what it should reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from robovae.judge.cells import SAME_PHYSICS
from robovae.judge.summary import Row, mean_coverage, truth_of

COMBINED = "monitor"
"""Name of the score that alarms rest on."""
TEMPORAL = ("innovation", "stillness")
"""Names of the scores that need the frames before: for timing faults."""
BRIEFLY = (
    "AUROC",
    "coverage",
    "least",
    "widening",
    "on rare",
    "sigma AUROC",
    "Spearman",
    "ceiling",
    "by frame",
    "its ceiling",
)
"""Short names of `targets`, in their order, for wide tables."""
CEILING = "what the same sigmas would score, were they exactly true"


@dataclass(frozen=True)
class Target:
    """A number and the range it should lie in."""

    name: str
    reached: float | None
    """None where nothing was measured."""
    least: float = -inf
    most: float = inf
    note: str = ""

    @property
    def wanted(self) -> str:
        """The range in words; "" where there is none."""
        if self.least > -inf and self.most < inf:
            return f"{self.least:g} to {self.most:g}"
        return f">= {self.least:g}" if self.least > -inf else f"<= {self.most:g}" if self.most < inf else ""

    @property
    def missed(self) -> bool:
        """Whether it was measured and lies outside."""
        return self.reached is not None and not self.least <= self.reached <= self.most

    def facts(self) -> dict[str, Any]:
        """JSON-able; the last word is for people."""
        verdict = "not measured" if self.reached is None else "missed" if self.missed else ""
        return {
            "target": self.name,
            "wanted": self.wanted,
            "reached": self.reached,
            "": " ".join(part for part in (verdict, self.note) if part),
        }


def targets(result: Mapping[str, Any]) -> list[Target]:
    """Of a judgement: over rendered and sensor faults of TEST; timing faults stand apart.

    The last three have no range: the ceiling of Spearman, and both figures frame by frame, see `truth_of`.

    Args:
        result: of `judge`, with the score "monitor" among them.
    """
    rows = tested(result["cells"])
    summary = result["summary"]
    means, harm = summary["means"].get("TEST", {}), summary["harm"]
    pooled = truth_of(rows, seed=result["config"]["seed"])["total"] if rows else None
    worst, least = least_covered(rows)
    harmful = harm["log_sigma"]
    return [
        Target("mean AUROC, severities 3 to 5", _value(means.get(COMBINED)), 0.99),
        Target("coverage of 90 % intervals", pooled and pooled["coverage"]["90"], 0.85, 0.97),
        Target("least coverage of a fault", least, 0.75, note=worst),
        Target("sigma of test frames, of the encoder's own", result["widening"]["test"], most=1.25),
        Target("the same of rare frames", result["widening"].get("rare"), most=2.0),
        Target("AUROC of log sigma, harmful faults", _value(harmful), 0.95, note=_count(harmful)),
        Target("Spearman of sigma and |error|", pooled and pooled["spearman"], 0.7, note=_below(pooled)),
        Target("ceiling of this Spearman", pooled and pooled["spearman_ceiling"], note=CEILING),
        Target("Spearman of a frame's sigma and error", pooled and pooled["spearman_frames"]),
        Target("ceiling of this, by frame", pooled and pooled["spearman_frames_ceiling"], note=CEILING),
    ]


def tested(rows: Sequence[Row]) -> list[Row]:
    """The cells that targets are about: rendered and sensor faults of TEST."""
    return [row for row in rows if row["split"] == "TEST" and row["kind"] in SAME_PHYSICS]


def least_covered(rows: Sequence[Row]) -> tuple[str, float | None]:
    """The fault whose 90 % intervals cover least, mean over its severities, and how much."""
    covered = {
        name: mean_coverage([row["truth"]["total"] for row in some], "90")
        for name, some in by_fault(rows).items()
    }
    return min(covered.items(), key=lambda pair: pair[1]) if covered else ("", None)


def by_fault(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of each fault, in their order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["fault"], []).append(row)
    return groups


def _value(found: Mapping[str, Any] | None) -> float | None:
    return None if found is None else float(found["value"])


def _below(pooled: Mapping[str, Any] | None) -> str:
    """What the rank correlation can reach at all."""
    ceiling = pooled and pooled["spearman_ceiling"]
    return f"(ceiling {ceiling:.3f})" if ceiling is not None else ""


def _count(found: Mapping[str, Any] | None) -> str:
    return "no fault is harmful" if found is None else f"{found['cells']} cells"
