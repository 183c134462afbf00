"""Judge the belief filter of calibrated runs: what it predicts, how it coasts, and what faults do to it.

    python launch/benchmarks/filter.py --runs runs/reacher --data data/reacher
    python launch/benchmarks/filter.py --runs runs/reacher --data data/reacher --full

With --full more episodes, frames and severities. Faults are those of TEST that leave the physics alone, in
bursts of 1 to 11 steps on 40 % of the frames. What is finished is skipped, so that the same command goes on
after an interruption. Every figure is of episodes that nothing was fitted on, with 95 % bootstrap intervals
by episode in the JSON.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

import robovae
from robovae import provenance
from robovae.cli.console import log, progress, show
from robovae.cli.events import log_stage
from robovae.cli.trial import Trial
from robovae.cli.verdicts import titled
from robovae.config import to_plain
from robovae.control.bursts import Bursts
from robovae.dynamics import FilterDynamics
from robovae.episodes import EpisodeStore
from robovae.errors import RobovaeError
from robovae.evaluate import ProbeConfig
from robovae.evaluate.codes import spread
from robovae.filter.beliefs import Beliefs, Ruler
from robovae.filter.failing import Failing
from robovae.filter.judging import (
    Facts,
    Sums,
    coasted,
    compared,
    joint_velocities,
    pooled,
    predicted,
    velocities,
)
from robovae.judge import Footage, plan
from robovae.judge.cells import SAME_PHYSICS, Twins
from robovae.judge.targets import Target
from robovae.records import file_digest, write_json
from robovae.run import Stage, dataset_digest, run_stage
from robovae_envs.errors import EnvError
from robovae_envs.faults import FAULTS

RESULTS = Path(__file__).parent / "results"
FORMAT = 2
"""Of a run's record; raise it when a figure changes its meaning."""
FIRST_SEED = 40_000
"""Of the episodes that fail."""
FILES = ("model.safetensors", "uncertainty.safetensors", "filter.safetensors")
"""What a run's figures follow from."""
BURSTS = Bursts(share=0.4, longest=11)
ALL, NONE = "all faults", "no fault"
"""Rows that are of no single fault."""
VAE = "VAE's own"
"""Name of the temporal prior that the VAE was trained with."""


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    train_frames: int = 50_000
    """For the probes and the latents' deviations."""
    episodes: int = 200
    """Of test at most."""
    failing: int = 40
    """Episodes in a cell of the fault suite."""
    steps: int = 100
    """After how many these are cut."""
    severities: tuple[int, ...] = (3, 4, 5)
    probe: ProbeConfig = field(default_factory=ProbeConfig)


QUICK = Effort(8000, 40, 10, 50, (4,), ProbeConfig(steps=1500))


@dataclass(frozen=True)
class Filter:
    """Print tables of what the belief filter is worth."""

    runs: tuple[Path, ...]
    """Calibrated run directories."""
    data: tuple[Path, ...]
    """The dataset of each run, or one of all."""
    full: bool = False
    """All severities from 3 on and more episodes; without it, wide intervals."""
    json: bool = False
    """Print one JSON object."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the JSON is written; launch/benchmarks/results/filter[-quick].json."""

    def __post_init__(self) -> None:
        if not self.runs or len(self.data) not in (1, len(self.runs)):
            raise RobovaeError(
                f"--data: expected the dataset of each of {len(self.runs)} runs, or one of all, received "
                f"{len(self.data)}; give them in the order of --runs"
            )


def main(options: Filter) -> None:
    """Measure, write the JSON, and print the tables."""
    sources = options.data if len(options.data) > 1 else options.data * len(options.runs)
    trials = [Trial(run, data) for run, data in zip(options.runs, sources, strict=True)]
    runs = [measured(trial, Effort() if options.full else QUICK, options.full) for trial in trials]
    found = {
        "quick": not options.full,
        "runs": runs,
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "git": provenance.git_state(Path(__file__).parents[2]),
    }
    name = "filter.json" if options.full else "filter-quick.json"
    log(f"written to {write_json(options.out or RESULTS / name, found)}")
    tables = [item for one in runs for item in ("", f"== {one['run']}, {one['env_id']}", *tables_of(one))]
    show(found, options.json, *([] if options.full else ["quick: the intervals are wide"]), *tables)


def measured(trial: Trial, effort: Effort, full: bool) -> Facts:
    """Figures of a run; from its record if they are of these weights and this dataset."""
    stage = Stage(
        name="filter",
        artefact=trial.run,
        record=trial.run / "judge" / ("filter.json" if full else "filter-quick.json"),
        config={**to_plain(effort), "version": robovae.__version__, "format": FORMAT},
        inputs={
            "data": dataset_digest(trial.store.path),
            **{name: file_digest(trial.run / name) for name in FILES},
        },
        run=lambda: Judge(trial, effort).facts(),
        is_there=lambda: True,
        sets_aside=False,
    )
    return {"run": trial.run.name, **run_stage(stage, log_stage)["result"]}


class Judge:
    """Measures the filter of one run."""

    def __init__(self, trial: Trial, effort: Effort) -> None:
        self.trial, self.effort = trial, effort
        self.scorer = trial.monitor.scorer
        self.dynamics = self.scorer.dynamics
        self.train = spread(trial.store.split("train"), effort.train_frames)
        self.footage = Footage.of(self.train)
        self.nominal = Beliefs.of(self.scorer, self.footage)

    def facts(self) -> Facts:
        """All that is measured."""
        test = self.trial.store.split("test")
        test = test.select(range(min(self.effort.episodes, len(test))))
        seen = Beliefs.of(self.scorer, Footage.of(test))
        ruler = Ruler(self.nominal.raw.mu[self.nominal.here])
        every = {"filter": self.dynamics, VAE: FilterDynamics.of(self.scorer.model.dynamics)}
        return {
            "env_id": test.env_id,
            "prediction": {name: predicted(one, seen, ruler) for name, one in every.items()},
            "gaps": {name: coasted(one, seen, ruler) for name, one in every.items()},
            "velocities": self.velocities(seen, test),
            "bursts": self.bursts(),
        }

    def velocities(self, seen: Beliefs, test: EpisodeStore) -> list[Facts]:
        """Rows of joints, if the dataset describes them."""
        parts = (self.nominal, joint_velocities(self.train)), (seen, joint_velocities(test))
        return velocities(self.dynamics, *parts, self.effort.probe)

    def bursts(self) -> list[Facts]:
        """A row of all faults together, one of each, and one without any."""
        effort, trial = self.effort, self.trial
        seeds = range(FIRST_SEED, FIRST_SEED + effort.failing)
        steps = min(effort.steps, trial.steps)
        twins = Twins(trial.cells(steps), seeds, steps=steps)
        joints = self.train.records[0].meta.get("joints") or []
        failing = Failing(
            self.dynamics, self.scorer, twins, BURSTS, self.nominal, self.footage, joints, effort.probe
        )
        names = [name for name, one in FAULTS.items() if one.split == "TEST" and one.kind in SAME_PHYSICS]
        cells = plan(FAULTS, names, effort.severities)
        sums: dict[str, list[dict[str, Sums]]] = {name: [] for name in names}
        with progress("faults") as update:
            for number, faulted in enumerate(twins.each(cells)):
                sums[faulted.cell.fault].append(failing.sums(faulted))
                update(number + 1, len(cells), str(faulted.cell))
        rows = {ALL: [cell for some in sums.values() for cell in some], **sums, NONE: [failing.nominal()]}
        return [
            {"fault": name, **{key: compared(pooled(cell[key] for cell in some)) for key in some[0]}}
            for name, some in rows.items()
        ]


def tables_of(one: Facts) -> list[Any]:
    """The tables of a run."""
    return [
        *titled([target.facts() for target in targets(one)], "targets"),
        *titled(prediction_rows(one), "the next frame, against holding the last; nis: 1 where sigma is true"),
        *titled(gap_rows(one), "error at the end of a gap; frame: what the encoder's sigma allows the frame"),
        *titled(one["velocities"], "R² of joint velocities, off the filter; mu: off a lone frame"),
        *[item for key in one["bursts"][0] if key != "fault" for item in titled(arm_rows(one, key), key)],
    ]


def targets(one: Facts) -> list[Target]:
    """What the filter should reach, and what it does."""
    rows = {row["fault"]: row for row in one["bursts"]}
    lost, quiet = rows[ALL]["latents, failing"], rows[NONE].get("joints, others")
    r2 = [row["r2"] for row in one["velocities"] if "r2" in row]
    return [
        Target("next frame, of hold-last", one["prediction"]["filter"]["ratio"]["value"], most=0.25),
        Target("R² of the worst velocity", min(r2, default=None), least=0.95),
        Target("failing frames, of unfiltered", lost["filtered/raw"]["value"], most=1 / 3),
        Target("failing frames, of oracle", lost["filtered/oracle"]["value"], most=1.3),
        Target(
            "constant sigma, of filtered", lost["constant/filtered"]["low"], least=1.0, note="(lower end)"
        ),
        Target("clean frames, joints, of unfiltered", quiet and quiet["filtered/raw"]["value"], most=1.0),
    ]


def prediction_rows(one: Facts) -> list[Facts]:
    """A row for each dynamics."""
    names = ("rmse", "hold_rmse", "ratio", "nis")
    return [
        {
            "dynamics": name,
            **{key: facts[key]["value"] for key in names},
            **{f"coverage {level}": share["value"] for level, share in facts["coverage"].items()},
        }
        for name, facts in one["prediction"].items()
    ]


def gap_rows(one: Facts) -> list[Facts]:
    """A row for each gap, the VAE's own prior beside the filter's."""
    own = {row["gap"]: row["rmse"]["value"] for row in one["gaps"][VAE]}
    return [
        {
            "gap": row["gap"],
            **{key.removesuffix("_rmse"): value["value"] for key, value in row.items() if key != "gap"},
            VAE: own[row["gap"]],
        }
        for row in one["gaps"]["filter"]
    ]


def arm_rows(one: Facts, key: str) -> list[Facts]:
    """A row for each fault."""
    return [
        {"fault": row["fault"], **{name: facts and facts["value"] for name, facts in row[key].items()}}
        for row in one["bursts"]
        if key in row
    ]


if __name__ == "__main__":
    try:
        main(tyro.cli(Filter))
    except (RobovaeError, EnvError) as error:
        raise SystemExit(str(error)) from error
