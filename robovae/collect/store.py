"""What collecting needs to know of the store it writes into."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robovae.collect.config import CollectConfig, CollectError
from robovae.episodes import EpisodeError, Record, remove_stale
from robovae.episodes.loading import load_records
from robovae.records import write_json

NOTE = "collection.json"


def open_directory(out: Path) -> None:
    """Make the directory, see that it can be written, and clear what killed runs left there.

    Raises:
        CollectError: if it is a file, or cannot be made or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        remove_stale(out)
    except OSError as error:
        raise CollectError(f"{out} cannot be used: {error.strerror}; choose another --out") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise CollectError(f"{out} cannot be written: choose another --out, or change its permissions")


def finished_records(out: Path) -> list[Record]:
    """The whole episodes in `out`; damaged files count as missing and are collected again."""
    try:
        return load_records(out, on_damaged=lambda _: None)
    except EpisodeError:  # none yet
        return []


def check_same_source(
    records: Sequence[Record], facts: dict[str, Any], config: CollectConfig, out: Path
) -> None:
    """See that new episodes belong with those that are there.

    Raises:
        CollectError: if they come from another environment, RenderSpec, fault or OpenGL, or if one of the
            seeds that would be skipped was collected in another way (spread, policy, steps).
    """
    wanted, how = set(config.seeds()), config.remembered()
    source = {
        "env_id": facts["env_id"],
        "render_spec": facts["render_spec"],
        "fault": facts.get("fault"),
        "MUJOCO_GL": _gl(facts),
    }
    for record in records:
        meta = record.meta
        meta["MUJOCO_GL"] = _gl(meta)
        now = {**source, "spread": facts.get("spread"), **how} if record.seed in wanted else source
        for name, value in now.items():
            there = meta.get(name)
            if _normal(there) != _normal(value):
                raise CollectError(
                    f"{record.path} has {name} {there}, this collection {value}: choose another directory "
                    f"than {out}, or another seed"
                )


def write_note(out: Path, note: dict[str, Any]) -> None:
    """Leave the resolved settings beside the episodes, as JSON for people.

    Raises:
        CollectError: if the disk does not take it.
    """
    try:
        write_json(out / NOTE, note)
    except OSError as error:
        raise CollectError(f"{out / NOTE} cannot be written: {error.strerror}") from error


def _gl(facts: Mapping[str, Any]) -> str | None:
    """MUJOCO_GL as the facts of an environment tell it: another OpenGL is another camera."""
    name: str | None = facts.get("versions", {}).get("gl")
    return name


def _normal(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
