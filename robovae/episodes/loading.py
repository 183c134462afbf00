"""Find the episode files of a directory, read their headers, and check that they belong together."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from robovae.episodes.episode import EpisodeError
from robovae.episodes.layout import Record, read_records

SUFFIX = ".safetensors"
OnDamaged = Callable[[EpisodeError], None]


def episode_files(path: Path) -> list[Path]:
    """Episode files and shards of a directory, sorted by name; or the one file that `path` is.

    Raises:
        EpisodeError: if there are none, or the directory cannot be read.
    """
    if not path.exists():
        raise EpisodeError(f"{path}: expected a directory of episodes, found nothing; collect some first")
    try:
        names = list(path.iterdir()) if path.is_dir() else [path]
    except OSError as error:
        raise EpisodeError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error
    files = sorted(
        name for name in names if name.suffix == SUFFIX and name.name.startswith(("episode-", "shard-"))
    )
    if not files:
        raise EpisodeError(f"{path}: expected episode files, found {len(names)} others; collect some first")
    return files


def load_records(path: Path, on_damaged: OnDamaged | None = None) -> list[Record]:
    """Read the headers of all episode files under `path`, sorted by seed.

    Raises:
        EpisodeError: if there are none, or one is damaged and `on_damaged` is None.
    """
    records: list[Record] = []
    for file in episode_files(path):
        try:
            records += read_records(file)
        except EpisodeError as error:
            if on_damaged is None:
                raise
            on_damaged(error)
    if not records:
        raise EpisodeError(f"{path}: expected episodes, received damaged files only; collect them again")
    return sorted(records, key=lambda record: record.seed)


def check_alike(records: Sequence[Record]) -> None:
    """Check that episodes can be trained on together.

    Raises:
        EpisodeError: naming two files of one seed, or two files that differ, and in what.
    """
    first = records[0]
    kind = _kind(first)
    by_seed: dict[int, Record] = {}
    for record in records:
        if (twin := by_seed.setdefault(record.seed, record)) is not record:
            raise EpisodeError(f"seed {record.seed} is in {twin.path} and in {record.path}; remove one")
        for name, value in _kind(record).items():
            if value != kind[name]:
                raise EpisodeError(
                    f"{first.path} and {record.path} differ in {name}: {kind[name]} and {value}; "
                    "keep them in separate directories"
                )


def _kind(record: Record) -> dict[str, Any]:
    meta = record.meta
    rows = {name: (span.code, span.shape[1:]) for name, span in sorted(record.spans.items())}
    return {
        "env_id": meta["env_id"],
        "frame shape": rows["image"][1],
        "render_spec": meta.get("render_spec"),
        "fault": meta.get("fault"),
        "arrays": rows,
    }
