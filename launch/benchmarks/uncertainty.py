"""Judge sigma, scores and monitor of calibrated runs: strangeness, truth, alarms, sanity and cost.

    python launch/benchmarks/uncertainty.py --runs runs/reacher --data data/reacher            # minutes a run
    python launch/benchmarks/uncertainty.py --runs runs/reacher --data data/reacher --full     # hours

Runs of one environment and camera are also told together, by task over seeds. The first three of them are an
ensemble; it says the same whichever of them is judged, so that it stands once, among the baselines of the
first. Runs that shall only be members of it, and need no calibration, are given by --members.

What is finished is skipped, cell by cell, so that the same command goes on after an interruption.
Negative controls (severity 0, shuffled labels, a random score) are part of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

import robovae
from robovae import Perceiver, provenance
from robovae.cli.console import log, show
from robovae.cli.evaluate import judged
from robovae.cli.events import log_stage
from robovae.cli.task_tables import task_tables
from robovae.cli.trial import WEIGHTS, Scale, Trial
from robovae.cli.verdicts import (
    SILENCE,
    battery_tables,
    brief,
    cost_rows,
    judge_tables,
    nominal_rows,
    silence_rows,
    titled,
)
from robovae.cli.watching import pictures, usual, watched
from robovae.config import to_plain
from robovae.errors import RobovaeError
from robovae.judge import JudgeConfig, Panel, Subject, judge
from robovae.judge.battery import BatteryConfig
from robovae.judge.bound_detectors import LikelihoodRegret
from robovae.judge.cells import SAME_PHYSICS
from robovae.judge.outside import version
from robovae.judge.speed import watching_cost
from robovae.judge.summary import SEVERE
from robovae.judge.targets import BRIEFLY
from robovae.judge.tasks import by_task, task_of
from robovae.records import file_digest, write_json
from robovae.run import Stage, dataset_digest, run_stage
from robovae_envs.errors import EnvError
from robovae_envs.faults import FAULTS, Fault

RESULTS = Path(__file__).parent / "results"
FORMAT = 5
"""Of a run's records; raise it when a figure changes its meaning."""
ENSEMBLE = 3
"""Runs of one task that are an ensemble."""
CALIBRATED = (WEIGHTS, "uncertainty.safetensors", "monitor.json")
"""What a run's figures follow from."""
Record = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    scale: Scale
    battery: BatteryConfig
    regret: JudgeConfig
    """Likelihood regret costs an optimisation a frame: few frames, and our score on the same ones."""
    regret_steps: int


FULL = Effort(Scale(), BatteryConfig(), JudgeConfig(episodes=8, steps=8, severities=(3, 5)), 20)
QUICK = Effort(
    Scale.quick(), BatteryConfig.quick(), JudgeConfig(episodes=3, steps=4, severities=(5,), draws=50), 10
)


@dataclass(frozen=True)
class Uncertainty:
    """Print tables of what sigma, scores and monitor are worth."""

    runs: tuple[Path, ...]
    """Calibrated run directories."""
    data: tuple[Path, ...]
    """The dataset of each run, or one of all."""
    members: tuple[Path, ...] = ()
    """Trained runs that are not judged: they fill up the ensembles of runs of their task."""
    full: bool = False
    """200 episodes a cell and 500 nominal ones a policy; without it minutes a run, and wide intervals."""
    json: bool = False
    """Print one JSON object."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the JSON is written; launch/benchmarks/results/uncertainty[-quick].json."""

    def __post_init__(self) -> None:
        if not self.runs or len(self.data) not in (1, len(self.runs)):
            raise RobovaeError(
                f"--data: expected the dataset of each of {len(self.runs)} runs, or one of all, received "
                f"{len(self.data)}; give them in the order of --runs"
            )


def main(options: Uncertainty) -> None:
    """Measure, write the JSON, and print the tables."""
    effort = FULL if options.full else QUICK
    sources = options.data if len(options.data) > 1 else options.data * len(options.runs)
    trials = [Trial(run, data) for run, data in zip(options.runs, sources, strict=True)]
    seen = {one.run: one.total for one in trials}
    seen |= {run: Perceiver.load(run, calibrated=False) for run in options.members}
    tasks = {run: task_of(one.env_id, one.render_spec) for run, one in seen.items()}
    for run in options.members:
        if tasks[run] not in {tasks[one] for one in options.runs}:
            judged = ", ".join(sorted({seen[one].env_id for one in options.runs}))
            raise RobovaeError(
                f"--members: expected runs of {judged} with a camera of the judged, received {run} of "
                f"{seen[run].env_id} with its own; leave it out"
            )
    runs = [measured(trial, effort, options.full, others_of(trial.run, tasks)) for trial in trials]
    found: Record = {
        "quick": not options.full,
        "runs": runs,
        "tasks": by_task(runs),
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "git": provenance.git_state(Path(__file__).parents[2]),
    }
    name = "uncertainty.json" if options.full else "uncertainty-quick.json"
    log(f"written to {write_json(options.out or RESULTS / name, found)}")
    tables = [item for one in runs for item in ("", f"== {one['run']}, {one['env_id']}", *tables_of(one))]
    title = "all runs" if options.full else "all runs; quick: the intervals are wide"
    rows = titled([summary(one) for one in runs], title)
    show(found, options.json, *tables, *rows, *task_tables(found["tasks"]))


def others_of(run: Path, tasks: Mapping[Path, str]) -> list[Path]:
    """The runs that make an ensemble with a run, which is the first of its task; none with the others."""
    alike = [one for one, task in tasks.items() if task == tasks[run]][:ENSEMBLE]
    return alike[1:] if len(alike) == ENSEMBLE and alike[0] == run else []


def measured(trial: Trial, effort: Effort, full: bool, others: Sequence[Path]) -> Record:
    """Figures of a run, each part from its record if that is of these weights, dataset and ensemble."""
    members = {f"ensemble {number}": file_digest(run / WEIGHTS) for number, run in enumerate(others)}
    known = {"pytorch-ood": version()}

    def part(name: str, run: Callable[[], Record], config: Record, more: Mapping[str, str] = {}) -> Record:
        record = run_stage(_stage(trial, full, name, run, config, more), log_stage)
        found: Record = record["result"]
        return found

    plain = to_plain(effort)
    return {
        "run": trial.run.name,
        "env_id": trial.store.env_id,
        "render_spec": trial.total.render_spec,
        "ensemble": [run.name for run in others],
        "judge": part("scores", lambda: scores(trial, effort, others), {**plain["scale"], **known}, members),
        "regret": part("regret", lambda: {"rows": regret(trial, effort)}, plain)["rows"],
        "battery": part("battery", lambda: watched(trial, tested(), effort.battery), plain["battery"]),
        **part("pictures and cost", lambda: pictures_and_cost(trial), {}),
    }


def _stage(
    trial: Trial,
    full: bool,
    name: str,
    run: Callable[[], Record],
    config: Mapping[str, Any],
    more: Mapping[str, str],
) -> Stage:
    folder = trial.run / "judge" / ("benchmark" if full else "benchmark-quick")
    own = {each: file_digest(trial.run / each) for each in CALIBRATED}
    return Stage(
        name=name,
        artefact=trial.run,
        record=folder / f"{name.replace(' ', '-')}.json",
        config={**config, "version": robovae.__version__, "format": FORMAT},
        inputs={"data": dataset_digest(trial.store.path), **own, **more},
        run=run,
        is_there=lambda: True,
        sets_aside=False,
    )


def scores(trial: Trial, effort: Effort, others: Sequence[Path]) -> Record:
    """Scores and sigma over the fault suite."""
    scale = effort.scale
    subject = trial.subject(scale, trial.members(others))
    return brief(judged(trial, subject, scale, trial.config(scale)))


def pictures_and_cost(trial: Trial) -> Record:
    """Sanity rows, and what watching adds to encoding."""
    test = usual(trial)
    return {
        "sanity": pictures(trial),
        "cost": {
            "encoder": watching_cost(trial.raw, trial.monitor, test),
            "calibrated belief": watching_cost(trial.total, trial.monitor, test),
        },
    }


def regret(trial: Trial, effort: Effort) -> list[Record]:
    """Likelihood regret beside the monitor's score, on few frames of TEST faults."""
    scale = replace(effort.scale, judge=effort.regret, episodes=effort.regret.episodes)
    panel = Panel([LikelihoodRegret(trial.raw, steps=effort.regret_steps)])
    subject = Subject([trial.monitor, panel], trial.total, trial.raw)
    names = [name for name, fault in tested().items() if fault.kind != "timing"]
    ground = replace(trial.ground(scale), calibration=None)
    cache = trial.run / "judge" / "regret"
    config = trial.config(scale, names)
    found = judge(subject, ground, trial.cells(config.steps), FAULTS, config, cache=cache)
    means, ms = found["summary"]["means"]["TEST"], subject.costs(ground.test)
    return [{"score": name, **means[name], "ms": ms[name]} for name in ("monitor", "likelihood_regret")]


def tested() -> dict[str, Fault]:
    """The faults of TEST."""
    return {name: fault for name, fault in FAULTS.items() if fault.split == "TEST"}


def tables_of(one: Mapping[str, Any]) -> list[Any]:
    """The tables of a run."""
    return [
        *judge_tables(one["judge"]),
        *titled(one["regret"], "mean AUROC of likelihood regret and of our score, on few frames"),
        *battery_tables(one["battery"]),
        *titled(silence_rows(one["sanity"]), SILENCE),
        *titled(
            cost_rows(one["cost"]),
            "the monitor's update of one frame on one thread, ms, beside encoding alone",
        ),
    ]


def summary(one: Mapping[str, Any]) -> Record:
    """The row of a run."""
    cells, added = one["battery"]["cells"], one["cost"]["encoder"]["share"]
    seen = nominal_rows(one["battery"])[0]
    severe = [row["alarm"] for row in cells if row["severity"] >= SEVERE and row["kind"] in SAME_PHYSICS]
    words = [
        row[""]
        for row in (*one["judge"]["targets"], *silence_rows(one["sanity"]), seen, *cost_rows(one["cost"]))
    ]
    reached = (row["reached"] for row in one["judge"]["targets"])
    return {
        "run": one["run"],
        **dict(zip(BRIEFLY, reached, strict=True)),
        "alarms/episode": seen["alarms/episode"],
        "TPR": float(np.mean([row["tpr"]["value"] for row in severe if row["tpr"]])),
        "delay": float(np.mean([row["delay"]["restricted_mean"] for row in severe if row["delay"]])),
        "added time": f"{added:.0%}",
        "missed": sum(word.startswith("missed") for word in words),
    }


if __name__ == "__main__":
    try:
        main(tyro.cli(Uncertainty))
    except (RobovaeError, EnvError) as error:
        raise SystemExit(str(error)) from error
