"""Merge episodes into large shards, for datasets of millions of frames."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from robovae.episodes.episode import EpisodeError
from robovae.episodes.layout import Record, read_records
from robovae.episodes.loading import SUFFIX, check_alike, load_records
from robovae.episodes.maps import FileMaps
from robovae.episodes.writing import remove_stale, write_whole

SHARD_BYTES = 512 * 1024 * 1024
_MOST_EPISODES = 2000  # keeps a shard's header far below the 100 MB that safetensors allows


def pack(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    shard_bytes: int = SHARD_BYTES,
    on_progress: Callable[[int, int, Path], None] | None = None,
) -> list[Path]:
    """Merge the episodes of `path` into shards `out/shard-00000.safetensors`, ..., in the order of seeds.

    Each shard is written aside, verified and only then counted; run again after a kill, finished shards are
    verified and kept. The sources stay: when `pack` has returned, every byte of them is also in the shards.

    Args:
        path: A directory of episodes or shards.
        out: Another directory, empty or holding shards of an earlier run on the same episodes.
        shard_bytes: A shard is closed before it outgrows this; it holds one episode at least.
        on_progress: Called with shards done, shards in all, and the shard just finished.

    Returns:
        The shards.

    Raises:
        EpisodeError: if the episodes are damaged or do not belong together, or `out` holds something else.
    """
    source, target = Path(path), Path(out)
    records = load_records(source)
    check_alike(records)
    plan = list(_group(records, shard_bytes))
    shards = [target / f"shard-{index:05d}{SUFFIX}" for index in range(len(plan))]
    _check_target(source, target, shards)
    for done, (shard, group) in enumerate(zip(shards, plan, strict=True), 1):
        if not _is_finished(shard, group):
            _write_shard(shard, group)
        if on_progress is not None:
            on_progress(done, len(shards), shard)
    return shards


def _group(records: Sequence[Record], shard_bytes: int) -> Iterator[list[Record]]:
    group: list[Record] = []
    size = 0
    for record in records:
        if group and (size + record.nbytes > shard_bytes or len(group) == _MOST_EPISODES):
            yield group
            group, size = [], 0
        group.append(record)
        size += record.nbytes
    yield group


def _check_target(source: Path, target: Path, shards: list[Path]) -> None:
    if not target.is_dir():
        return
    remove_stale(target)
    if target.resolve() == source.resolve():
        raise EpisodeError(f"{target}: expected another directory than the episodes' own; choose a new one")
    if other := sorted(set(target.glob(f"*{SUFFIX}")) - set(shards)):
        raise EpisodeError(
            f"{target}: expected only shards of these episodes, found {other[0].name}; choose another"
        )


def _is_finished(shard: Path, group: list[Record]) -> bool:
    """Whether a shard holds exactly these episodes, every byte of them."""
    if not shard.exists():
        return False
    try:
        records = read_records(shard)
    except EpisodeError:
        return False
    buffer = _buffer(records[0])
    same = [record.sha256 for record in records] == [record.sha256 for record in group]
    return same and all(record.is_whole(buffer) for record in records)


def _write_shard(shard: Path, group: list[Record]) -> None:
    arrays: dict[str, NDArray[Any]] = {}
    for index, record in enumerate(group):
        buffer = _buffer(record)
        if not record.is_whole(buffer):
            raise EpisodeError(f"{record.path}: seed {record.seed} is damaged; remove it or collect it again")
        # copied, so that a shard of thousands of files does not hold thousands of maps
        arrays |= {f"{index}/{name}": view.copy() for name, view in record.views(buffer).items()}
    rows = {f"{index}/": (record.meta_json, record.sha256) for index, record in enumerate(group)}
    write_whole(shard, rows, arrays)
    if not _is_finished(shard, group):
        shard.unlink()
        raise EpisodeError(f"{shard}: what was read back is not what was written; check the disk")


def _buffer(record: Record) -> memoryview:
    return FileMaps([(record.path, record.file_size)])[0]
