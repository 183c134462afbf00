"""Run a recipe: collect -> train -> calibrate -> evaluate -> policy -> control -> report, each stage once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robovae import provenance
from robovae.collect import collect
from robovae.config import from_mapping, to_plain
from robovae.episodes import EpisodeError, EpisodeStore
from robovae.records import file_digest, read_json
from robovae.run.acting import Loop, MakeEnv, OnEvent, acting_stages, policy_configs
from robovae.run.files import CALIBRATION, MODEL, SHOWN, dataset_digest, policy_files, run_digest
from robovae.run.recipe import CollectStage, Recipe
from robovae.run.stages import OnStage, Stage, run_stage

if TYPE_CHECKING:
    from robovae.train import TrainConfig
    from robovae.uncertainty import CalibrateConfig

Judge = Callable[[Path, Path, str], Mapping[str, Any]]
"""(run, dataset, "quick" or "full") -> a JSON-able result; it knows the fault suite, `robovae` does not."""

HOW_NOT_COLLECTED = ("workers", "watchdog", "fallback", "retries")
"""Fields of CollectConfig that leave the episodes as they are."""


@dataclass(frozen=True)
class Listeners:
    """Who is told what."""

    on_stage: OnStage
    """Of stages that begin and end."""
    on_event: OnEvent
    """Of events within a stage."""


def run_recipe(
    recipe: Recipe,
    env_factory: Callable[[CollectStage], MakeEnv],
    listeners: Listeners,
    judge: Judge | None = None,
    loop: Loop | None = None,
) -> dict[str, Any]:
    """Run every stage that is not finished.

    Args:
        recipe: what to do.
        env_factory: gives the picklable factory of environments for a collect stage.
        listeners: told of progress.
        judge: judges the calibrated run, where the recipe asks for it.
        loop: judges its policies in the closed loop, where the recipe asks for it.

    Returns:
        The records of the stages by name, "run", "data", and "report", the page's path.

    Raises:
        RobovaeError: a stage cannot be done; what is finished stays, and running again goes on.
    """
    from robovae.train import TrainConfig

    config = from_mapping(TrainConfig, recipe.train, f"{recipe.path}: train")
    ae, calibration, policies = _autoencoder(recipe), _calibration(recipe), policy_configs(recipe)
    data, run = recipe.collect.out, recipe.run
    on_stage, on_event = listeners.on_stage, listeners.on_event
    collecting = collect_stage(recipe.collect, env_factory(recipe.collect), on_event)
    records = {"collect": run_stage(collecting, on_stage)}
    records["train"] = run_stage(train_stage(data, run, config, on_event), on_stage)
    if ae is not None:
        records["ae"] = run_stage(train_stage(data, run / "ae", ae, on_event, "ae"), on_stage)
    if calibration is not None:
        records["calibrate"] = run_stage(calibrate_stage(data, run, calibration, on_event), on_stage)
    _remember(run, records)  # not before: only now is the run directory this run's
    if recipe.evaluate is not None and judge is not None:
        records["evaluate"] = run_stage(evaluate_stage(data, run, recipe.evaluate, judge), on_stage)
    for stage in acting_stages(recipe, policies, env_factory, loop, on_event):
        records[stage.name] = run_stage(stage, on_stage)
    records["report"] = run_stage(report_stage(data, run), on_stage)
    page = records["report"]["result"]["page"]
    return {"run": str(run), "data": str(data), "report": page, "stages": records}


def collect_stage(settings: CollectStage, make_env: MakeEnv, on_event: OnEvent) -> Stage:
    """The stage that collects every split of a recipe into one dataset."""
    plain = to_plain(settings)
    config = {name: value for name, value in plain.pop("settings").items() if name not in HOW_NOT_COLLECTED}
    config = {**config, **{name: plain[name] for name in ("env", "episodes", "size", "quality", "spread")}}
    del config["seed"]

    def run() -> dict[str, Any]:
        return {
            split: collect(make_env, settings.out, one, lambda event: on_event("collect", event)).to_dict()
            for split, one in settings.configs().items()
        }

    return Stage(
        name="collect",
        artefact=settings.out,
        record=settings.out / "collect.json",
        config=config,
        inputs={},
        run=run,
        is_there=lambda: _has_seeds(settings),
        grows_with=("episodes",),
    )


def train_stage(
    data: Path, run: Path, config: "TrainConfig", on_event: OnEvent, name: str = "train"
) -> Stage:
    """The stage that trains on a dataset into a run directory."""
    from robovae.train import HOW_NOT_WHAT, is_finished, train

    def fit() -> dict[str, Any]:
        return train(data, run, config, on_event=lambda event: on_event(name, event))

    return Stage(
        name=name,
        artefact=run,
        record=run / f"{name}.json",
        config={name: value for name, value in to_plain(config).items() if name not in HOW_NOT_WHAT},
        inputs={"data": dataset_digest(data, "train")},
        run=fit,
        is_there=lambda: is_finished(run),
    )


def calibrate_stage(data: Path, run: Path, config: "CalibrateConfig", on_event: OnEvent) -> Stage:
    """The stage that makes sigma true and sets the limits of the monitor."""
    from robovae.filter import FORM
    from robovae.uncertainty import FORMATS, calibrate_run

    def fit() -> dict[str, Any]:
        found = calibrate_run(run, data, config, lambda event: on_event("calibrate", event))
        return {**found, "digest": run_digest(run, CALIBRATION)}

    record = run / "calibrate.json"
    return Stage(
        name="calibrate",
        artefact=run,
        record=record,
        config={**to_plain(config), "formats": {**FORMATS, "filter": FORM}},
        inputs={
            "train": dataset_digest(data, "train"),
            "calibrate": dataset_digest(data, "calibrate"),
            "weights": run_digest(run, MODEL),
        },
        run=fit,
        is_there=lambda: run_digest(run, CALIBRATION) == _result(record).get("digest"),
        sets_aside=False,
    )


def evaluate_stage(data: Path, run: Path, scale: str, judge: Judge) -> Stage:
    """The stage that judges a calibrated run over the fault suite."""
    from robovae.judge import FORMAT

    found, record = run / "judge" / "judge.json", run / "judge" / "evaluate.json"
    return Stage(
        name="evaluate",
        artefact=run / "judge",
        record=record,
        config={"scale": scale, "format": FORMAT},
        inputs={"data": dataset_digest(data), "run": run_digest(run, MODEL + CALIBRATION)},
        run=lambda: {**judge(run, data, scale), "digest": file_digest(found)},
        is_there=lambda: found.is_file() and file_digest(found) == _result(record).get("digest"),
        sets_aside=False,
    )


def report_stage(data: Path, run: Path) -> Stage:
    """The stage that draws the report of a run."""

    def draw() -> dict[str, Any]:
        from robovae import report

        page = report.write(run, data)
        return {"page": str(page), "figures": str(page.with_name("figures.json"))}

    page = run / "report" / "index.html"
    shown = (*MODEL, *CALIBRATION, *SHOWN, *policy_files(run))
    return Stage(
        name="report",
        artefact=page.parent,
        record=page.parent / "report.json",
        config={},
        inputs={"data": dataset_digest(data), "run": run_digest(run, shown)},
        run=draw,
        is_there=page.is_file,
        sets_aside=False,
    )


def _result(record: Path) -> Mapping[str, Any]:
    """What a finished stage gave; empty without one."""
    result: Mapping[str, Any] = (read_json(record) or {}).get("result") or {}
    return result


def _autoencoder(recipe: Recipe) -> "TrainConfig | None":
    if recipe.ae is None:
        return None
    from robovae.train import TrainConfig

    return from_mapping(TrainConfig, recipe.ae_config(), f"{recipe.path}: ae")


def _calibration(recipe: Recipe) -> "CalibrateConfig | None":
    if recipe.calibrate is None:
        return None
    from robovae.uncertainty import CalibrateConfig

    return from_mapping(CalibrateConfig, recipe.calibrate, f"{recipe.path}: calibrate")


def _has_seeds(settings: CollectStage) -> bool:
    try:
        there = set(EpisodeStore(settings.out).seeds)
    except EpisodeError:
        return False
    return all(there.issuperset(config.seeds()) for config in settings.configs().values())


def _remember(run: Path, records: Mapping[str, Any]) -> None:
    """Write seconds, configs and the renderer of the stages into the provenance of the run."""
    for name, record in records.items():
        facts = {name: record[name] for name in ("seconds", "config", "inputs")}
        if name == "collect":
            facts["gl_backend"] = next(iter(record["result"].values()))["backend"]
        provenance.record(run, name, facts)
