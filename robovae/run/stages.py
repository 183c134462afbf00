"""Stages that are run once: a finished one is skipped by the digest of its config and inputs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from robovae.records import digest, read_json, write_json

StageState = Literal["start", "resume", "skip", "done", "aside"]


@dataclass(frozen=True)
class StageEvent:
    """A stage begins, goes on, is skipped, is done, or an older artefact was set aside."""

    stage: str
    state: StageState
    message: str


OnStage = Callable[[StageEvent], None]


@dataclass(frozen=True)
class Stage:
    """One step of a pipeline: config and inputs in, an artefact out."""

    name: str
    """ "collect", "train", "report"."""
    artefact: Path
    """The directory it fills."""
    record: Path
    """JSON file in it that remembers config, inputs, state and result."""
    config: Mapping[str, Any]
    """The resolved config, JSON-able: all that decides what the artefact holds."""
    inputs: Mapping[str, str]
    """Digest of everything it reads, by name."""
    run: Callable[[], Mapping[str, Any]]
    """Fill the artefact, or go on filling it; returns a JSON-able result."""
    is_there: Callable[[], bool]
    """Whether the artefact, once finished, still is."""
    grows_with: tuple[str, ...] = ()
    """Keys of the config that may change without making what is there useless."""
    sets_aside: bool = True
    """Whether an artefact of another config is kept, under another name, instead of being written over."""
    is_other: Callable[[], bool] = lambda: False
    """Whether the place is taken by what is not this stage's, asked where there is no record."""

    @property
    def key(self) -> str:
        """Digest of config and inputs."""
        return digest({"config": dict(self.config), "inputs": dict(self.inputs)})

    @property
    def base(self) -> str:
        """Digest of what has to be equal for going on with an artefact."""
        config = {name: value for name, value in self.config.items() if name not in self.grows_with}
        return digest({"config": config, "inputs": dict(self.inputs)})


def run_stage(stage: Stage, on_stage: OnStage) -> dict[str, Any]:
    """Run a stage, go on with it, or skip it.

    Returns:
        Its record: stage, key, config, inputs, state, seconds (of all attempts), result.
    """
    old = read_json(stage.record) or {}
    if old.get("state") == "finished" and old.get("key") == stage.key and stage.is_there():
        on_stage(StageEvent(stage.name, "skip", f"{stage.artefact} is finished"))
        return old
    resumes = bool(old) and old.get("base") == stage.base
    is_other = not resumes if old else stage.is_other()
    if is_other and stage.sets_aside:
        aside = _set_aside(stage.artefact)
        message = f"{stage.artefact} was made with another config or other data; it is kept as {aside}"
        on_stage(StageEvent(stage.name, "aside", message))
    on_stage(StageEvent(stage.name, "resume" if resumes else "start", str(stage.artefact)))
    record: dict[str, Any] = {
        "stage": stage.name,
        "key": stage.key,
        "base": stage.base,
        "config": dict(stage.config),
        "inputs": dict(stage.inputs),
        "state": "running",
        "seconds": float(old.get("seconds", 0.0)) if resumes else 0.0,
    }
    write_json(stage.record, record)
    result = _timed(stage, record)
    # A stage that counts for itself also knows of attempts that were killed.
    seconds = max(record["seconds"], float(result.get("seconds", 0.0)))
    record |= {"result": result, "seconds": seconds, "state": "finished"}
    write_json(stage.record, record)
    on_stage(StageEvent(stage.name, "done", f"{stage.artefact} in {record['seconds']:.0f} s"))
    return record


def _timed(stage: Stage, record: dict[str, Any]) -> dict[str, Any]:
    """Run the stage, adding its seconds to the record, also when it is interrupted."""
    begin = time.monotonic()
    try:
        return dict(stage.run())
    finally:
        record["seconds"] += time.monotonic() - begin
        write_json(stage.record, record)


def _set_aside(path: Path) -> Path:
    """Rename a directory to the first free name of the form NAME.old-1."""
    number = 1
    while (aside := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    return path.rename(aside)
