"""Read a directory of episodes: whole ones, random batches of frames, and windows of sequences."""

import hashlib
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robovae.episodes.episode import SPLITS, Episode, EpisodeError, split_of
from robovae.episodes.gather import copy_pieces
from robovae.episodes.layout import Record, dtype_of
from robovae.episodes.loading import OnDamaged, check_alike, load_records
from robovae.episodes.maps import FileMaps


class EpisodeStore(Sequence[Episode]):
    """The episodes of one directory, sorted by seed; files and shards read alike, nothing copied on opening.

    Frames are numbered through the store: episode 0's T+1 frames first, then episode 1's, and so on.
    Subsets (`split`, `holdout`, `select`) number their own frames from 0. Stores can be pickled.

    Args:
        path: A directory written by `write_episode`, `robovae collect` or `pack`.
        skip_damaged: Leave damaged files out instead of raising.
        on_skip: Told of each file left out; by default a warning.
        max_maps: How many files to keep mapped; by default what the process may open.

    Raises:
        EpisodeError: if the directory is missing or holds no episodes, a file is damaged, a seed occurs
            twice, or two episodes differ in environment, RenderSpec or array widths.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        skip_damaged: bool = False,
        on_skip: OnDamaged | None = None,
        max_maps: int | None = None,
    ) -> None:
        self.path = Path(path)
        skip = (on_skip or _warn) if skip_damaged else None
        records = load_records(self.path, skip)
        check_alike(records)
        files = {record.path: record.file_size for record in records}
        self._setup(records, FileMaps(tuple(files.items()), max_maps))

    def _setup(self, records: Sequence[Record], maps: FileMaps) -> None:
        if not records:
            raise EpisodeError(
                f"{self.path}: expected at least one episode, received none; widen the selection"
            )
        self._records = tuple(records)
        self._maps = maps
        index_of = {path: index for index, (path, _) in enumerate(maps.files)}
        self._file = np.array([index_of[record.path] for record in records])
        lengths = np.array([record.steps + 1 for record in records])
        self._start = np.concatenate(([0], np.cumsum(lengths)))
        # where each frame is, looked up by its number: finding its episode first would take longer
        size = math.prod(records[0].spans["image"].shape[1:])
        self._frame_file = np.repeat(self._file.astype(np.int32), lengths)
        self._frame_source = np.concatenate(
            [record.spans["image"].offset + size * np.arange(record.steps + 1) for record in records]
        )

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Episode: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> "Episode | Self":
        """Episode `index`, its arrays read-only views on the file; a slice gives a store of its episodes."""
        if isinstance(index, slice):
            return self.select(range(len(self))[index])
        record = self._records[index]
        return record.episode(self._maps[int(self._file[index])])

    def is_whole(self, index: int) -> bool:
        """Whether the bytes of episode `index` match their digest; opening a store checks headers alone."""
        return self._records[index].is_whole(self._maps[int(self._file[index])])

    def __repr__(self) -> str:
        return f"EpisodeStore({self.path}: {len(self)} episodes of {self.env_id}, {self.num_frames} frames)"

    @property
    def records(self) -> tuple[Record, ...]:
        """Metadata, digests and places of the episodes, without opening them."""
        return self._records

    @property
    def seeds(self) -> list[int]:
        """Seeds of the episodes, ascending."""
        return [record.seed for record in self._records]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) frames of each episode, T+1."""
        return np.diff(self._start)

    @property
    def num_frames(self) -> int:
        """Frames in all episodes."""
        return int(self._start[-1])

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, 3)."""
        height, width, channels = self._records[0].spans["image"].shape[1:]
        return height, width, channels

    @property
    def env_id(self) -> str:
        """The environment all episodes come from."""
        return str(self._records[0].meta["env_id"])

    @property
    def render_spec(self) -> dict[str, Any] | None:
        """How all frames were rendered, or None where the environment did not say."""
        spec: dict[str, Any] | None = self._records[0].meta.get("render_spec")
        return spec

    def select(self, indices: Sequence[int]) -> Self:
        """The store of some episodes, by their index here; they share the files' maps.

        Raises:
            EpisodeError: if `indices` is empty.
        """
        subset = object.__new__(type(self))
        subset.path = self.path
        subset._setup([self._records[index] for index in sorted(indices)], self._maps)
        return subset

    def split(self, name: str) -> Self:
        """The episodes whose seeds belong to a split.

        Raises:
            EpisodeError: if there is no such split, or no episode of it.
        """
        if name not in SPLITS:
            raise EpisodeError(f"expected a split of {', '.join(SPLITS)}, received {name!r}")
        chosen = [index for index, seed in enumerate(self.seeds) if split_of(seed) == name]
        if not chosen:
            first, end = SPLITS[name]
            raise EpisodeError(
                f"{self.path}: expected episodes of split {name!r} (seeds {first} to {end - 1}), "
                f"received seeds {self.seeds[0]} to {self.seeds[-1]}; collect some with --seed {first}"
            )
        return self.select(chosen)

    def holdout(self, fraction: float, seed: int) -> tuple[Self, Self]:
        """Part the episodes into (train, validation), the same way wherever and in whatever order they lie.

        An episode's place depends on its own seed and `seed` alone, so that a growing dataset moves few.

        Raises:
            EpisodeError: if `fraction` is not between 0 and 1, or there are fewer than two episodes.
        """
        if not 0 < fraction < 1 or len(self) < 2:
            raise EpisodeError(
                "expected a fraction between 0 and 1 of at least 2 episodes, "
                f"received {fraction} of {len(self)}; collect more"
            )
        keys = [hashlib.sha256(f"{seed}/{own}".encode()).digest() for own in self.seeds]
        order = sorted(range(len(self)), key=keys.__getitem__)
        count = min(max(round(fraction * len(self)), 1), len(self) - 1)
        return self.select(order[count:]), self.select(order[:count])

    def locate(self, indices: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Episode index and frame within it, (B,) each, of global frame numbers (B,).

        Raises:
            IndexError: if a number is outside of the store.
        """
        numbers = self._numbers(indices)
        episodes = np.searchsorted(self._start, numbers, side="right") - 1
        return episodes, numbers - self._start[episodes]

    def frames(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """Copy frames by their global numbers (B,) into one new array (B, H, W, 3).

        Raises:
            IndexError: if a number is outside of the store.
        """
        numbers = self._numbers(indices)
        files, sources = self._frame_file[numbers], self._frame_source[numbers]
        rows = copy_pieces(self._maps, files, sources, math.prod(self.frame_shape))
        return rows.reshape(len(numbers), *self.frame_shape)

    def _numbers(self, indices: ArrayLike) -> NDArray[np.int64]:
        numbers = np.asarray(indices, np.int64)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= self.num_frames):
            raise IndexError(f"expected frame numbers from 0 to {self.num_frames - 1}, received {numbers}")
        return numbers

    def batches(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """All frames once in their order, (size, H, W, 3) at a time, the last batch shorter."""
        for start in range(0, self.num_frames, size):
            yield self.frames(np.arange(start, min(start + size, self.num_frames)))

    def array(self, name: str, episode: int) -> NDArray[Any]:
        """One array of one episode, a read-only view.

        Raises:
            EpisodeError: if the episode has no such array.
        """
        record = self._records[episode]
        if name not in record.spans:
            raise EpisodeError(
                f"{record.path}: expected an array of {sorted(record.spans)}, received {name!r}"
            )
        span = record.spans[name]
        return np.ndarray(span.shape, dtype_of(span.code), self._maps[int(self._file[episode])], span.offset)


def _warn(error: EpisodeError) -> None:
    warnings.warn(f"skipped {error}", RuntimeWarning, stacklevel=4)
