"""`robovae evaluate`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from robovae.cli.console import facts, number, progress, show
from robovae.cli.trial import Scale, Trial
from robovae.cli.verdicts import SILENCE, battery_tables, brief, judge_tables, silence_rows, titled
from robovae.cli.watching import pictures, watched
from robovae.judge import Cell, JudgeConfig, Subject, judge, to_csv
from robovae.judge.battery import BatteryConfig
from robovae.records import write_json
from robovae.report.films import save_films

FILMS = (("occluder", 4), ("jpeg", 5), ("freeze", 5))
"""A rendered, a sensor and a timing fault, each at a severity, that the report shows as films."""
FEW_EPISODES = BatteryConfig(nominal=100, faulted=4, severities=(1, 3, 5))
"""That the monitor watches in a quick judgement; launch/benchmarks/uncertainty.py watches 500."""


@dataclass(frozen=True)
class Evaluate:
    """Judge a calibrated run over the fault suite: is sigma true, what are scores and alarms worth?

    Nominal frames are the test and the rare split of the dataset; the figure of a cell is the lower of both.
    The monitor is also watched on fresh episodes, with and without faults, and on pictures that are no robot.
    Interrupted, the same command goes on. Writes judge.json, judge.csv (a line an episode and score), and
    films of three faults for the report.

    Examples:
      robovae evaluate runs/reacher --data data/reacher
      robovae evaluate runs/reacher --data data/reacher --full
      robovae evaluate runs/reacher --data data/reacher --faults defocus occluder
      robovae evaluate runs/reacher --data data/reacher --ensemble runs/reacher-1 --ensemble runs/reacher-2
    """

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run directory."""
    data: Path
    """Its dataset, with episodes of the train, calibrate and test splits; rare ones where it has some."""
    full: bool = False
    """200 episodes a cell, severities 1 to 5: hours. Without it 10, severities 1, 3 and 5: minutes."""
    faults: tuple[str, ...] = ()
    """Names, see `robovae faults`; all if none is given."""
    ensemble: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="RUN")] = ()
    """Another run of the same task, once for each: their disagreement with this one is a baseline."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where judge.json and judge.csv go; RUN/judge."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Judge, with progress, and print what was found."""
        folder = self.out or self.run_dir / "judge"
        found, written = evaluated(
            self.run_dir, self.data, folder, full=self.full, faults=self.faults, ensemble=self.ensemble
        )
        how = facts(
            {
                "run": self.run_dir,
                "how much": "full" if self.full else "quick: the intervals are wide, --full narrows them",
                "seconds": number(found["seconds"]),
                "written": " ".join(map(str, written)),
            }
        )
        tables = [
            *judge_tables(found),
            *battery_tables(found["battery"]),
            *titled(silence_rows(found["sanity"]), SILENCE),
        ]
        show({"run": str(self.run_dir), "full": self.full, **found}, self.json, how, *tables)
        return 0


def evaluated(
    run: Path,
    data: Path,
    folder: Path,
    *,
    full: bool,
    faults: Sequence[str] = (),
    ensemble: Sequence[Path] = (),
) -> tuple[dict[str, Any], list[Path]]:
    """Judge a run and write judge.json, judge.csv and films.safetensors.

    Args:
        run: a calibrated run.
        data: its dataset.
        folder: where the files go.
        full: hours instead of minutes.
        faults: names; all if there are none.
        ensemble: other runs of the same task.

    Returns:
        The small figures, see `brief`, with "battery" and "sanity", and the files.
    """
    from robovae_envs.faults import FAULTS

    trial, scale = Trial(run, data), Scale() if full else Scale.quick()
    members, names = trial.members(ensemble), tuple(faults) or trial.faults()
    config = trial.config(scale, names)
    tested = {name: FAULTS[name] for name in names if FAULTS[name].split == "TEST"}
    at_work = {
        "battery": watched(trial, tested, BatteryConfig() if full else FEW_EPISODES),
        "sanity": pictures(trial),
    }
    result = judged(trial, trial.subject(scale, members), scale, config) | at_work
    written = [write_json(folder / "judge.json", result), to_csv(result, folder / "judge.csv")]
    films = [trial.film(*one) for one in FILMS if one[0] in names]
    return brief(result) | at_work, [*written, save_films(folder / "films.safetensors", films)]


def judge_run(run: Path, data: Path, scale: str) -> dict[str, Any]:
    """Judge the run of a recipe; see `robovae.run.Judge`."""
    found, written = evaluated(run, data, run / "judge", full=scale == "full")
    return {**found, "written": list(map(str, written))}


def judged(trial: Trial, subject: Subject, scale: Scale, config: JudgeConfig) -> dict[str, Any]:
    """Judge a run, with progress; cells that were judged before are read from RUN/judge/cells.

    Args:
        trial: the run.
        subject: what of it is judged.
        scale: how much nominal footage.
        config: of the judge.

    Returns:
        What `judge` returns, and "ms", what each score costs a frame, and "skipped", the baselines that are
        left out and why.
    """
    from robovae_envs.faults import FAULTS

    cells = len(config.faults or FAULTS) * len(config.severities)
    with progress("judging") as update:
        update(0, cells, "nominal frames")
        done = 0

        def on_cell(cell: Cell, row: Mapping[str, Any], cached: bool) -> None:
            nonlocal done
            done += 1
            update(done, cells, f"{cell}{' (was there)' if cached else ''}")

        ground = trial.ground(scale)
        found = judge(
            subject,
            ground,
            trial.cells(config.steps),
            FAULTS,
            config,
            cache=trial.run / "judge" / "cells",
            on_cell=on_cell,
        )
    return {**found, "ms": subject.costs(ground.test), "skipped": dict(subject.skipped)}
