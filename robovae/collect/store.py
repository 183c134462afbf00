"""What collecting needs to know of the store it writes into."""

import json
import os
from collections.abc import Sequence
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
        CollectError: if they come from another environment or RenderSpec, or if one of the seeds that would
            be skipped was collected in another way (spread, policy, steps).
    """
    wanted = set(config.seeds())
    for record in records:
        now = {name: facts[name] for name in ("env_id", "render_spec")}
        if record.seed in wanted:
            now |= {"spread": facts.get("spread"), **config.remembered()}
        for name, value in now.items():
            there = record.meta.get(name)
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


def _normal(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
