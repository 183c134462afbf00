"""The few numbers that decide whether the loop holds, each beside what it should reach."""

from collections.abc import Mapping, Sequence
from typing import Any

from robovae.closed_loop.book import Book
from robovae.closed_loop.condition import CLEAN, Condition
from robovae.closed_loop.scores import Yardstick, less, mean
from robovae.closed_loop.summary import ALL, POOLS, alarms, guarded_arm, harmful, plain_arm
from robovae.judge.resample import Resampled
from robovae.judge.summary import SEVERE
from robovae.judge.targets import Target

KEPT = {0.25: 0.95, 0.50: 0.85}
"""Of the clean score, by share of bursts."""
COST = 0.01
"""Of clean score and of clean steps, at most."""
SHORT = 0.03
"""Behind the better of nominal policy and fallback under a fault that stays, at most."""
ALARMED = 0.99
"""Of the episodes under a harmful fault that stays."""


def targets(
    book: Book,
    yardstick: Yardstick,
    conditions: Sequence[Condition],
    lasting: Sequence[Mapping[str, Any]],
    changed: int | None,
) -> list[Target]:
    """Of what was played.

    Args:
        book: the episodes.
        yardstick: of their scores.
        conditions: that were played.
        lasting: of `lasting_rows`.
        changed: returns that severity 0 changed; None if none was played.
    """
    same = None if changed is None else float(changed)
    found = [Target("returns that severity 0 changed", same, most=0.0)]
    for share, least in KEPT.items():
        found += _kept(book, yardstick, pooled(conditions, share), share, least)
    return [
        *found,
        *_sigma(book, yardstick, pooled(conditions, 0.25)),
        *_clean(book, yardstick),
        *_lasting(book, lasting, [one for one in conditions if one.stays]),
    ]


def pooled(conditions: Sequence[Condition], share: float) -> list[Condition]:
    """The conditions that targets are about: all TEST faults from severity 3 on, bursts of a share."""
    return [
        one
        for one in conditions
        if POOLS[ALL](one) and one.severity >= SEVERE and one.share == share and not one.stays
    ]


def _kept(
    book: Book, yardstick: Yardstick, some: Sequence[Condition], share: float, least: float
) -> list[Target]:
    guarded, plain = guarded_arm(book.arms), plain_arm(book.arms)
    if guarded is None or not some:
        return []
    at = f"bursts {share:.0%}"
    pairs = [(guarded, guarded, least), (guarded, plain, least), (plain, plain, None)]
    found = []
    for arm, reference, wanted in dict.fromkeys(pairs):
        kept = yardstick.kept(book.returns(arm, some), book.returns(reference, [CLEAN]))
        of = "its" if arm == reference else f"{reference}'s"
        found.append(_target(f"{arm} keeps of {of} clean score, {at}", kept, least=wanted))
    return found


def _sigma(book: Book, yardstick: Yardstick, some: Sequence[Condition]) -> list[Target]:
    if "constant sigma" not in book.arms or "filter" not in book.arms or not some:
        return []
    own, constant = (yardstick.score(book.returns(arm, some)) for arm in ("filter", "constant sigma"))
    return [
        _target("filter's score less that with a constant sigma, bursts 25%", less(own, constant), least=0.0)
    ]


def _clean(book: Book, yardstick: Yardstick) -> list[Target]:
    guarded = guarded_arm(book.arms)
    if guarded is None:
        return []
    found = []
    own = "filter" if guarded == "both" else "nominal"
    for reference in dict.fromkeys((own, plain_arm(book.arms))):
        # Of the mean: an interquartile mean would not see what a few interventions cost.
        kept = yardstick.kept(book.returns(guarded, [CLEAN]), book.returns(reference, [CLEAN]), mean)
        lost = None if kept is None else Resampled(1 - kept.value, 1 - kept.draws)
        found.append(_target(f"clean mean score that {guarded} loses against {reference}", lost, most=COST))
    rows = book.rows(guarded, CLEAN)
    acted = sum(row["coast"] + row["fallback"] for row in rows) / sum(row["steps"] for row in rows)
    return [*found, Target(f"clean steps at which {guarded} intervenes", acted, most=COST)]


def _lasting(book: Book, rows: Sequence[Mapping[str, Any]], stays: Sequence[Condition]) -> list[Target]:
    guarded = guarded_arm(book.arms)
    if guarded is None or not rows:
        return []
    last = max(rows, key=lambda row: row["shortfall"]["value"])
    short, place = last["shortfall"], f"{last['fault']} {last['severity']}"
    note = f"{place}, {short['low']:.3f} to {short['high']:.3f}"
    bad = {(row["fault"], row["severity"]) for row in harmful(rows)}
    seen = alarms(book, guarded, [one for one in stays if (one.fault, one.severity) in bad])
    told = "no fault is harmful" if not bad else f"{len(bad)} faults and severities"
    told = told if seen is None else f"{told}, {seen['low']:.3f} to {seen['high']:.3f}"
    return [
        Target(
            f"worst shortfall of {guarded} under a fault that stays", short["value"], most=SHORT, note=note
        ),
        Target(
            "alarms, harmful faults that stay", None if seen is None else seen["value"], ALARMED, note=told
        ),
    ]


def _target(
    name: str, found: Resampled | None, *, least: float | None = None, most: float | None = None
) -> Target:
    if found is None:
        return Target(name, None, note="no clean score to compare with")
    low, high = found.interval()
    bounds = {key: bound for key, bound in (("least", least), ("most", most)) if bound is not None}
    return Target(name, found.value, **bounds, note=f"{low:.3f} to {high:.3f}")
