"""One `judge_loop()` for the command line and the benchmark."""

import csv
import time
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from robovae.closed_loop.book import Book
from robovae.closed_loop.condition import CLEAN, Condition, conditions, controls
from robovae.closed_loop.config import LoopConfig
from robovae.closed_loop.crew import Crew
from robovae.closed_loop.errors import ClosedLoopError
from robovae.closed_loop.ledger import Ledger
from robovae.closed_loop.scores import Yardstick
from robovae.closed_loop.summary import (
    burst_rows,
    clean_rows,
    control_rows,
    lasting_rows,
    plain_arm,
    pooled_rows,
)
from robovae.closed_loop.targets import targets
from robovae.config import to_plain
from robovae.judge.cells import FaultFacts
from robovae.records import write_text

OnPart = Callable[[int, int, str], None]
"""Told of episodes done, episodes in all, and the condition."""
NEEDED = ("zero", "fallback")


def judge_loop(
    crew: Crew,
    arms: Mapping[str, Any],
    faults: Mapping[str, FaultFacts],
    config: LoopConfig,
    ledger: Ledger,
    *,
    workers: int = 1,
    on_part: OnPart | None = None,
) -> dict[str, Any]:
    """Play what is not in the ledger yet, and say what came of it.

    Args:
        crew: makes arms and environments.
        arms: by name, JSON-able data that decides what it does. "zero" and "fallback" must be among them,
            and "nominal" or "filter". The score's 1 is "state", or the unguarded policy without it.
        faults: the suite.
        config: how much.
        ledger: what was played; everything new is written down at once.
        workers: processes.
        on_part: told of each job.

    Returns:
        JSON-able: "reference" and its and zero action's mean return, "clean", "bursts", "pooled",
        "lasting", "controls" (see `robovae.closed_loop.summary`), "targets", "episodes" (every one of them),
        "config", "seconds" of this call.

    Raises:
        ClosedLoopError: arms are missing, or the reference is no better than zero action.
        JudgeError: there is no such fault.
    """
    begin = time.monotonic()
    _check(arms)
    book = Book(arms, config, ledger)
    judged, identities = conditions(faults, config), controls(faults, config)
    _play(crew, book, [CLEAN, *identities, *judged], workers, on_part)
    reference = "state" if "state" in arms else plain_arm(book.arms)
    returns = {name: book.returns(name, [CLEAN]) for name in ("zero", reference)}
    yardstick = Yardstick.of(returns["zero"], returns[reference], draws=config.draws, seed=config.seed)
    lasting, identical = lasting_rows(book, yardstick, judged), control_rows(book, identities)
    changed = sum(row["changed"] for row in identical) if config.controls else None
    return {
        "reference": {"arm": reference, "return": yardstick.one, "zero_return": yardstick.zero},
        "clean": clean_rows(book, yardstick),
        "bursts": burst_rows(book, yardstick, judged),
        "pooled": pooled_rows(book, yardstick, judged),
        "lasting": lasting,
        "controls": identical,
        "targets": [one.facts() for one in targets(book, yardstick, judged, lasting, changed)],
        "episodes": book.export([CLEAN, *judged]),
        "config": to_plain(config),
        "seconds": round(time.monotonic() - begin, 1),
    }


def to_csv(result: Mapping[str, Any], path: Path) -> Path:
    """Write a line an episode: who, under what, and what came of it.

    Args:
        result: of `judge_loop`.
        path: the file.

    Returns:
        `path`.
    """
    text = StringIO(newline="")
    out = csv.DictWriter(text, list(result["episodes"][0]))
    out.writeheader()
    out.writerows(result["episodes"])
    return write_text(path, text.getvalue())


def _play(crew: Crew, book: Book, wanted: list[Condition], workers: int, on_part: OnPart | None) -> None:
    tell, jobs = on_part or (lambda *part: None), book.jobs(wanted)
    for done, (job, played) in enumerate(
        zip(jobs, crew.play(jobs, book.config.steps, workers), strict=True), 1
    ):
        book.enter(job, played)
        tell(done, len(jobs), str(job.condition))


def _check(arms: Mapping[str, Any]) -> None:
    missing = [name for name in NEEDED if name not in arms]
    if missing or not {"nominal", "filter"} & set(arms):
        raise ClosedLoopError(
            f"arms: expected zero, fallback, and nominal or filter, received {', '.join(arms) or 'none'}; "
            "run `robovae policy RUN` first"
        )
