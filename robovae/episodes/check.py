"""Find damage in a directory of episodes, and sum up what it holds."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovae.episodes.episode import EpisodeError, find_nonfinite, split_of
from robovae.episodes.layout import Record, read_records
from robovae.episodes.loading import check_alike, episode_files
from robovae.episodes.maps import FileMaps
from robovae.episodes.store import EpisodeStore

OnProgress = Callable[[int, int, Path], None]
"""Called with files done, files in all, and the file just finished."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one file."""

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def verify(path: str | os.PathLike[str], on_progress: OnProgress | None = None) -> list[Problem]:
    """Read every byte of an episode file, a shard or a directory of them, and list what is wrong.

    Finds any changed or missing byte, headers that are not as written, NaN and infinity, a seed that
    occurs twice, and episodes that do not belong together.

    Raises:
        EpisodeError: if there is nothing to verify.
    """
    files = episode_files(Path(path))
    problems: list[Problem] = []
    sound: list[Record] = []
    for done, file in enumerate(files, 1):
        try:
            records = read_records(file)
            problems += _check_contents(records)
            sound += records
        except EpisodeError as error:
            problems.append(Problem(file, str(error).removeprefix(f"{file}: ")))
        if on_progress is not None:
            on_progress(done, len(files), file)
    return problems + _check_together(sound)


def _check_contents(records: list[Record]) -> Iterable[Problem]:
    buffer = FileMaps([(records[0].path, records[0].file_size)])[0]
    for record in records:
        if not record.is_whole(buffer):
            yield Problem(record.path, f"damaged: the bytes of seed {record.seed} do not match their digest")
        elif where := find_nonfinite(record.episode(buffer)):
            yield Problem(record.path, f"seed {record.seed}: expected finite numbers, received {where}")


def _check_together(records: list[Record]) -> list[Problem]:
    try:
        if records:
            check_alike(records)
    except EpisodeError as error:
        return [Problem(records[0].path.parent, str(error))]
    return []


def info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Sum up a directory of episodes as a JSON-able dict.

    Raises:
        EpisodeError: if the directory cannot be opened as an `EpisodeStore`.
    """
    store = EpisodeStore(path)
    returns = np.array([store.array("reward", index).sum(dtype=np.float64) for index in range(len(store))])
    metas = [record.meta for record in store.records]
    splits = [split_of(seed) for seed in store.seeds]
    files = {record.path: record.file_size for record in store.records}
    return {
        "path": str(store.path),
        "env_id": store.env_id,
        "episodes": len(store),
        "frames": store.num_frames,
        "bytes": sum(files.values()),
        "files": len(files),
        "frame_shape": list(store.frame_shape),
        "arrays": {name: [span.code, *span.shape[1:]] for name, span in store.records[0].spans.items()},
        "seeds": [store.seeds[0], store.seeds[-1]],
        "splits": {name: splits.count(name) for name in sorted(set(splits))},
        "steps": _summary(store.lengths - 1),
        "returns": _summary(returns),
        "policy": _distinct(meta.get("policy") for meta in metas),
        "versions": _distinct(meta.get("versions") for meta in metas),
        "render_spec": store.render_spec,
    }


def _summary(values: NDArray[Any]) -> dict[str, float | None]:
    """None for what is not finite, which JSON cannot say."""
    numbers = {
        "mean": values.mean(),
        "std": values.std(),
        "min": values.min(),
        "median": np.median(values),
        "max": values.max(),
    }
    return {
        name: round(float(number), 6) if np.isfinite(number) else None for name, number in numbers.items()
    }


def _distinct(values: Iterable[Any]) -> Any:
    """The one value that all episodes share, or the list of those that occur."""
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct[0] if len(distinct) == 1 else distinct
