"""Measure latents: what mu holds, how much, and how predictable it is, on runs or on tasks from nothing.

    python launch/benchmarks/latents.py                               # four tasks: collect, train, measure
    python launch/benchmarks/latents.py --tasks Reacher-v5 --quick    # minutes, and worse figures
    python launch/benchmarks/latents.py --runs runs/reacher --data data/reacher
    python launch/benchmarks/latents.py --runs runs/reacher --data data/reacher --train-frames 5100

What is finished is skipped, so that the same command goes on after an interruption. Every figure is of test
episodes, with 95 % bootstrap intervals by episode in the JSON; the table says where a target is missed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from robovae import provenance
from robovae.cli.collect import stage_factory
from robovae.cli.console import log, show, table_of
from robovae.cli.events import Watcher, log_stage
from robovae.collect import CollectConfig
from robovae.config import to_plain
from robovae.errors import RobovaeError
from robovae.evaluate import EvaluateConfig, evaluate_run
from robovae.records import file_digest, write_json
from robovae.run import CollectStage, Stage, collect_stage, dataset_digest, run_stage, train_stage
from robovae.train import TrainConfig

RESULTS = Path(__file__).parent / "results"
Record = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """How much of a task is collected, and what its latents should reach."""

    episodes: int
    """Of the train split."""
    max_steps: int | None
    """Steps after which an episode is cut; None: the task's own limit."""
    ev: float | None
    """Explained variance to reach."""


TASKS = {
    "Reacher-v5": Task(1000, None, 0.93),
    "InvertedPendulum-v5": Task(1000, None, 0.97),
    "HalfCheetah-v5": Task(800, 50, 0.97),
    "Pusher-v5": Task(600, None, None),
}
OTHER = Task(800, 100, None)
"""A task that is not listed."""
TEST_EPISODES = 60
QUICK_EPISODES = {"train": 150, "test": 20}
QUICK_STEPS = 500
"""Updates of each phase with --quick."""
SMALL_THINGS = ("target", "obj")
"""Joints of these names move objects of 2-4 pixels."""
R2, SMALL_R2 = 0.98, 0.95
"""Probe R² to reach: of the robot's joints, and of small objects' positions."""


@dataclass(frozen=True)
class Latents:
    """Print a table of what latents are worth."""

    runs: tuple[Path, ...] = ()
    """Trained run directories to measure, in place of tasks."""
    data: tuple[Path, ...] = ()
    """The dataset of each run."""
    tasks: tuple[str, ...] = tuple(TASKS)
    """Tasks to collect, train and measure."""
    root: Path = Path("runs/latents")
    """Where their datasets and runs go: ROOT/data/TASK and ROOT/TASK."""
    train_frames: int = EvaluateConfig.train_frames
    """Frames, in whole episodes, that probe and GRU learn from; few tell how easily mu is read: a policy
    meets no more targets than it has episodes."""
    quick: bool = False
    """Few episodes and updates: shows that everything works; the figures come out low."""
    json: bool = False
    """Print one JSON object."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the JSON is written; launch/benchmarks/results/latents[-quick].json."""

    def __post_init__(self) -> None:
        if len(self.runs) != len(self.data):
            raise RobovaeError(
                f"--data: expected the dataset of each of {len(self.runs)} runs, received {len(self.data)}; "
                "give them in the order of --runs"
            )


def main(options: Latents) -> None:
    """Measure, write the JSON, and print the tables."""
    pairs = list(zip(options.runs, options.data, strict=True))
    if not pairs:
        root = options.root.with_name(f"{options.root.name}-quick") if options.quick else options.root
        pairs = [trained(task, root, options.quick) for task in options.tasks]
    config = replace(EvaluateConfig(), train_frames=options.train_frames)
    runs = [measured(run, data, config) for run, data in pairs]
    found = {
        "quick": options.quick,
        "runs": runs,
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "git": provenance.git_state(Path(__file__).parents[2]),
    }
    name = "latents-quick.json" if options.quick else "latents.json"
    log(f"written to {write_json(options.out or RESULTS / name, found)}")
    rows = [summary(one) for one in runs]
    joints = [row for one in runs for row in joint_rows(one)]
    title = "quick: few episodes and updates, figures come out low" if options.quick else None
    show(found, options.json, table_of(rows, title), "", table_of(joints, "read off mu by a small MLP"))


def trained(task: str, root: Path, quick: bool) -> tuple[Path, Path]:
    """Collect and train where that is not done yet; the run and the dataset."""
    plan = TASKS.get(task, OTHER)
    collecting = CollectStage(
        env=task,
        out=root / "data" / task,
        episodes=QUICK_EPISODES if quick else {"train": plan.episodes, "test": TEST_EPISODES},
        spread=1.0,
        settings=CollectConfig(max_steps=plan.max_steps),
    )
    config = TrainConfig()
    if quick:
        config = replace(config, local_steps=QUICK_STEPS, global_steps=QUICK_STEPS)
    with Watcher() as watcher:
        run_stage(collect_stage(collecting, stage_factory(collecting), watcher), log_stage)
        run_stage(train_stage(collecting.out, root / task, config, watcher), log_stage)
    return root / task, collecting.out


def measured(run: Path, data: Path, config: EvaluateConfig) -> Record:
    """Figures of a run; from its `latents.json` if they are of these weights, this data and config."""

    def measure() -> Record:
        return evaluate_run(run, data, config)

    weights = run / "model.safetensors"
    if not weights.is_file():
        raise RobovaeError(f"{run}: expected a trained run, received none; run `robovae train` first")
    stage = Stage(
        name="measure",
        artefact=run,
        record=run / "latents.json",
        config=to_plain(config),
        inputs={"data": dataset_digest(data), "weights": file_digest(weights)},
        run=measure,
        is_there=lambda: True,
        sets_aside=False,
    )
    record = run_stage(stage, log_stage)
    return {"run": run.name, **record["result"]}


def summary(one: Mapping[str, Any]) -> Record:
    """The row of a run."""
    read = [row for row in one["probe"] if "r2" in row]
    worst = min(read, key=lambda row: float(row["r2"]), default=None)
    iwae, sequence = one["iwae"] or {}, one["sequence"] or {}
    return {
        "run": one["run"],
        "EV": one["ev"],
        "EV_target": getattr(TASKS.get(one["env_id"]), "ev", None),
        "EV_of_mu": one["ev_global"],
        "worst_R²": worst and worst["r2"],
        "joint": worst and worst["name"],
        "active": f"{one['active_dims']}/{one['latent_dim']}",
        "nats": one["information"],
        "nats_in_sequence": sequence.get("global_kl"),
        "grid_nats": one["local_kl"],
        "ELBO": one["elbo"],
        "sequence_ELBO": sequence.get("elbo"),
        f"IWAE-{iwae.get('samples', '')}_gain": iwae and iwae["bound"] - iwae["elbo"],
        "GRU/hold": one["smoothness"]["ratio"],
        "own/hold": sequence.get("prediction_ratio"),
        "seconds": one["seconds"],
    }


def joint_rows(one: Mapping[str, Any]) -> list[Record]:
    """A row for each joint of a run."""
    rows = []
    for row in one["probe"]:
        target = SMALL_R2 if row["name"].startswith(SMALL_THINGS) else R2
        r2 = row.get("r2")
        remark = f"left out: {row['skipped']}" if r2 is None else "" if r2 >= target else "missed"
        figures = {"R²": r2, "low": row.get("low"), "high": row.get("high"), "target": r2 and target}
        rows.append({"run": one["run"], "joint": row["name"], **figures, "": remark})
    return rows


if __name__ == "__main__":
    try:
        main(tyro.cli(Latents))
    except RobovaeError as error:
        raise SystemExit(str(error)) from error
