"""From episodes to the figures that are quoted: every arm in every condition, and pooled."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from robovae.closed_loop.book import Book
from robovae.closed_loop.condition import CLEAN, Condition
from robovae.closed_loop.scores import Yardstick, higher, less, mean, worst
from robovae.judge.alarms import rate
from robovae.judge.reader import HARMFUL, harm_class
from robovae.judge.resample import Resampled
from robovae.judge.summary import SEVERE

Row = dict[str, Any]
ALL = "TEST"
POOLS: dict[str, Callable[[Condition], bool]] = {
    ALL: lambda one: one.split == "TEST",
    "rendered": lambda one: one.split == "TEST" and one.kind == "rendered",
    "sensor": lambda one: one.split == "TEST" and one.kind == "sensor",
    "timing": lambda one: one.split == "TEST" and one.kind == "timing",
}
"""Which conditions are pooled, from severity `SEVERE` on. "TEST" is all of its faults, timing included."""


def figures(book: Book, yardstick: Yardstick, arm: str, conditions: Sequence[Condition]) -> Row:
    """What an arm is worth in some conditions together.

    Returns:
        "score" (IQM) and "kept", its share of the arm's own clean score, and "kept_plain", of the unguarded
        policy's, each {"value", "low", "high"}, the last two None where there is no such score; "mean";
        "worst", mean of the lowest tenth; "interventions", "coast" and "fallback", shares of the steps.
    """
    returns, clean = book.returns(arm, conditions), book.returns(arm, [CLEAN])
    plain = book.returns(plain_arm(book.arms), [CLEAN]) if plain_arm(book.arms) in book.arms else None
    score = yardstick.score(returns)
    played = [row for one in conditions for row in book.rows(arm, one)]
    steps = sum(row["steps"] for row in played)
    coast, fallback = (sum(row[name] for row in played) / steps for name in ("coast", "fallback"))
    return {
        "arm": arm,
        "score": score.facts(),
        "mean": yardstick.score(returns, mean).value,
        "worst": yardstick.score(returns, worst).value,
        "kept": _facts(yardstick.kept(returns, clean)),
        "kept_plain": None if plain is None else _facts(yardstick.kept(returns, plain)),
        "interventions": coast + fallback,
        "coast": coast,
        "fallback": fallback,
        "episodes": len(played),
    }


def clean_rows(book: Book, yardstick: Yardstick) -> list[Row]:
    """A row an arm on clean episodes, with its mean return."""
    return [
        {**figures(book, yardstick, arm, [CLEAN]), "return": float(book.returns(arm, [CLEAN]).mean())}
        for arm in book.arms
    ]


def burst_rows(book: Book, yardstick: Yardstick, conditions: Sequence[Condition]) -> list[Row]:
    """A row for every condition of bursts and arm that plays it."""
    return [
        {**_where(one), **figures(book, yardstick, arm, [one])}
        for one in conditions
        if not one.stays
        for arm in book.players(one)
    ]


def pooled_rows(book: Book, yardstick: Yardstick, conditions: Sequence[Condition]) -> list[Row]:
    """A row for every share of bursts, pool and arm, those that look at no frame included."""
    severe = [one for one in conditions if not one.stays and one.severity >= SEVERE]
    rows = []
    for share in dict.fromkeys(one.share for one in severe):
        for pool, belongs in POOLS.items():
            some = [one for one in severe if one.share == share and belongs(one)]
            if some:
                where = {"share": share, "pool": pool, "conditions": len(some)}
                rows += [{**where, **figures(book, yardstick, arm, some)} for arm in book.arms]
    return rows


def lasting_rows(book: Book, yardstick: Yardstick, conditions: Sequence[Condition]) -> list[Row]:
    """A row for every fault that stays.

    Returns:
        Mean score by arm; "shortfall" of the guarded arm behind the better of nominal policy and fallback;
        "harm", "class": what the nominal policy loses of its clean score; "alarms" of the guarded arm.
    """
    guarded, plain = guarded_arm(book.arms), plain_arm(book.arms)
    rows = []
    for one in (some for some in conditions if some.stays):
        scores = {
            arm: yardstick.score(book.returns(arm, [one]), mean) for arm in (*book.players(one), "fallback")
        }
        row: Row = {**_where(one), **{arm: score.value for arm, score in scores.items()}}
        kept = yardstick.kept(book.returns(plain, [one]), book.returns(plain, [CLEAN]), mean)
        harm = None if kept is None else 1 - kept.value
        row |= {"harm": harm, "class": harm_class(harm)}
        if guarded:
            better = higher(scores[plain], scores["fallback"])
            row["shortfall"] = less(better, scores[guarded]).facts()
            row["alarms"] = alarms(book, guarded, [one])
        rows.append(row)
    return rows


def alarms(book: Book, arm: str, conditions: Sequence[Condition]) -> Row | None:
    """The share of episodes in which an arm's alarm comes at the onset or later, with its 95 % interval.

    Episodes that end before the onset, or alarm before it, tell nothing and are left out. Conditions share
    their seeds, so that only seeds are independent: the interval reaches from the exact one of the seeds that
    alarm under all conditions to the exact one of those that alarm under any, which holds the share however
    alike the conditions are. For one condition it is the exact one.
    """
    seeds: dict[int, list[bool]] = {}
    for row in (row for one in conditions for row in book.rows(arm, one)):
        if row["onset"] is not None and (row["alarm"] is None or row["alarm"] >= row["onset"]):
            seeds.setdefault(row["seed"], []).append(row["alarm"] is not None)
    every, any_ = (rate(sum(map(how, seeds.values())), len(seeds)) for how in (all, any))
    if every is None or any_ is None:
        return None
    told = [alarmed for each in seeds.values() for alarmed in each]
    return {"value": sum(told) / len(told), "low": every["low"], "high": any_["high"], "of": len(told)}


def harmful(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of `lasting_rows`, those that cost the nominal policy a fifth of its score or more."""
    return [row for row in rows if row["harm"] is not None and row["harm"] >= HARMFUL]


def control_rows(book: Book, conditions: Sequence[Condition]) -> list[Row]:
    """A row for every fault at severity 0: returns that are not those of clean episodes to the bit."""
    rows = []
    for one in conditions:
        pairs = [
            (row["total"], book.ledger[book.key(arm, CLEAN, row["seed"])]["total"])
            for arm in book.players(one)
            for row in book.rows(arm, one)
        ]
        rows.append({**_where(one), "episodes": len(pairs), "changed": sum(a != b for a, b in pairs)})
    return rows


def guarded_arm(arms: Collection[str]) -> str | None:
    """The arm that stands for robovae: filter and guard, or the guard alone without a filtered policy."""
    return next((name for name in ("both", "guard") if name in arms), None)


def plain_arm(arms: Collection[str]) -> str:
    """The arm that stands for a policy as everybody has it."""
    return "nominal" if "nominal" in arms else "filter"


def _where(one: Condition) -> Row:
    return {name: getattr(one, name) for name in ("fault", "severity", "kind", "split", "share")}


def _facts(found: Resampled | None) -> Row | None:
    return None if found is None else found.facts()
