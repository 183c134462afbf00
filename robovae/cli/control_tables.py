"""The closed loop as tables for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from robovae.cli.verdicts import titled
from robovae.closed_loop.summary import ALL, POOLS

Record = dict[str, Any]
Found = Mapping[str, Any]


def loop_tables(found: Found) -> list[RenderableType]:
    """Targets, policies, clean episodes, bursts pooled and by fault, faults that stay.

    Args:
        found: of `looped`, with or without its episodes.
    """
    reference, config = found["reference"], found["config"]
    one = f"1 = {reference['arm']} ({reference['return']:.4g})"
    scale = f"0 = zero action ({reference['zero_return']:.4g}), {one}"
    much = f"{config['episodes']} episodes of at most {config['steps']} steps an arm and condition"
    return [
        *titled(found["targets"], f"targets; {much}"),
        *titled(
            found.get("policies", ()),
            "how the policies learnt; drop_share, corrupt_share: of frames lost and spoilt on purpose",
        ),
        *titled([_clean(row) for row in found["clean"]], f"clean episodes; score: IQM, {scale}"),
        *titled(
            pooled(found["pooled"]),
            "bursts, TEST faults from severity 3 on; kept: of its own clean score, and of the unguarded's",
        ),
        *titled(by_fault(found["bursts"]), "score (IQM) by fault, severity and share of steps in bursts"),
        *titled(
            [_lasting(row) for row in found["lasting"]],
            "faults that stay from a random step on; short: of the better of nominal and fallback, mean",
        ),
    ]


def by_fault(rows: Sequence[Found]) -> list[Record]:
    """A row a fault, severity and share, with a column an arm."""
    table: dict[tuple[Any, ...], Record] = {}
    for row in rows:
        place = table.setdefault(
            (row["fault"], row["severity"], row["share"]),
            {"fault": row["fault"], "severity": row["severity"], "bursts": f"{row['share']:.0%}"},
        )
        place[row["arm"]] = round(row["score"]["value"], 3)
    return list(table.values())


def _clean(row: Found) -> Record:
    return {
        "arm": row["arm"],
        "return": row["return"],
        "score": _interval(row["score"]),
        "mean": round(row["mean"], 3),
        "worst 10%": round(row["worst"], 3),
        "of unguarded": _interval(row["kept_plain"]),
        "interventions": f"{row['interventions']:.1%}",
    }


def pooled(rows: Sequence[Found]) -> list[Record]:
    """A row a share and arm: over all faults of TEST, and the score of each kind of them."""
    kinds = [name for name in POOLS if name != ALL]
    scores = {(row["share"], row["arm"], row["pool"]): row["score"]["value"] for row in rows}
    table = []
    for row in (one for one in rows if one["pool"] == ALL):
        own = {kind: scores.get((row["share"], row["arm"], kind)) for kind in kinds}
        table.append(
            {
                "bursts": f"{row['share']:.0%}",
                "arm": row["arm"],
                "score": _interval(row["score"]),
                "mean": round(row["mean"], 3),
                "worst 10%": round(row["worst"], 3),
                **{kind: round(score, 3) for kind, score in own.items() if score is not None},
                "kept": _interval(row["kept"]),
                "of unguarded": _interval(row["kept_plain"]),
                "coast": f"{row['coast']:.1%}",
                "fallback": f"{row['fallback']:.1%}",
            }
        )
    return table


def _lasting(row: Found) -> Record:
    told = {"fault", "severity", "kind", "split", "share", "shortfall", "alarms", "harm", "class"}
    alarms = row.get("alarms")
    return {
        "fault": row["fault"],
        "severity": row["severity"],
        **{name: round(value, 3) for name, value in row.items() if name not in told},
        "short": _interval(row.get("shortfall")),
        "harm": "" if row["harm"] is None else f"{row['harm']:.0%} {row['class']}",
        "alarms": "" if alarms is None else f"{alarms['value']:.0%} of {alarms['of']}",
    }


def _interval(one: Mapping[str, float] | None) -> str:
    return "" if one is None else f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
