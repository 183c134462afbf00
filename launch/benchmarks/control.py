"""Judge the closed loop: what is left of the return when the camera fails, with and without filter and guard.

    python launch/benchmarks/control.py --runs runs/reacher            # minutes a run
    python launch/benchmarks/control.py --runs runs/reacher --full --workers 2   # hours

A run needs a calibration, a filter, and policies, which are told apart by what they see: filtered beliefs,
beliefs as they come (mu, mu_sigma), and the true state.
Every episode is written down in RUN/control as soon as it was played, by the content of all that
it follows from, so that the same command goes on after an interruption. Negative controls are part of it:
severity 0 of every fault must give the returns of clean episodes, to the bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from robovae import provenance
from robovae.cli.console import log, show
from robovae.cli.control import loop_config, looped
from robovae.cli.control_tables import loop_tables
from robovae.cli.verdicts import titled
from robovae.closed_loop import Cast
from robovae.closed_loop.summary import ALL
from robovae.errors import RobovaeError
from robovae.records import write_json
from robovae.run.directory import load_model
from robovae_envs.errors import EnvError

RESULTS = Path(__file__).parent / "results"
Record = dict[str, Any]


@dataclass(frozen=True)
class Loop:
    """Print tables of what policies are worth under a camera that fails."""

    runs: tuple[Path, ...]
    """Run directories with policies."""
    full: bool = False
    """50 episodes of 200 steps and all TEST faults; without it minutes a run, and wide intervals."""
    faults: tuple[str, ...] = ()
    """Names, see `robovae faults`."""
    episodes: int | None = None
    """Of every arm in every condition."""
    steps: int | None = None
    """After how many an episode is cut."""
    fallback: Literal["hold", "zero"] = "hold"
    """What the guard does when it can coast no longer."""
    workers: int = 1
    """Processes that play."""
    again: bool = False
    """Play all episodes anew, as after a change of code."""
    json: bool = False
    """Print one JSON object."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the JSON is written; launch/benchmarks/results/control[-quick].json."""

    def __post_init__(self) -> None:
        if not self.runs or self.workers < 1:
            raise RobovaeError(
                f"expected a run and a worker at least, received {len(self.runs)} and {self.workers}"
            )


def main(options: Loop) -> None:
    """Judge, write the JSON, and print the tables."""
    config = loop_config(options.full, options.faults, options.episodes, options.steps)
    runs = []
    for run in options.runs:
        cast = Cast.find(run, options.fallback)
        result, written = looped(cast, config, options.workers, again=options.again)
        log(f"{run}: {result['seconds']:.0f} s; {' '.join(map(str, written))}")
        runs.append({"run": run.name, "env_id": load_model(run).facts.env_id, **result})
    found = {
        "quick": not options.full,
        "runs": runs,
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "git": provenance.git_state(Path(__file__).parents[2]),
    }
    name = "control.json" if options.full else "control-quick.json"
    log(f"written to {write_json(options.out or RESULTS / name, found)}")
    tables = [item for one in runs for item in ("", f"== {one['run']}, {one['env_id']}", *loop_tables(one))]
    title = "all runs, score kept under bursts" + ("" if options.full else "; quick: the intervals are wide")
    rows = [row for one in runs for row in summary(one)]
    show(found, options.json, *tables, *titled(rows, title))


def summary(one: Mapping[str, Any]) -> list[Record]:
    """A row an arm: the share of the unguarded policy's clean score that it keeps, by share of bursts."""
    rows: dict[str, Record] = {}
    for row in one["pooled"]:
        if row["pool"] == ALL:
            kept = row["kept_plain"]
            place = rows.setdefault(row["arm"], {"run": one["run"], "arm": row["arm"]})
            place[f"{row['share']:.0%}"] = "" if kept is None else f"{kept['value']:.3f}"
    return list(rows.values())


if __name__ == "__main__":
    try:
        main(tyro.cli(Loop))
    except (RobovaeError, EnvError) as error:
        raise SystemExit(str(error)) from error
