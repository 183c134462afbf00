"""Memory maps of episode files, opened when first needed and bounded in number."""

import mmap
import os
import resource
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robovae.episodes.episode import EpisodeError


def default_limit() -> int:
    """How many files to keep mapped: Python before 3.13 keeps a file descriptor with each."""
    if sys.version_info >= (3, 13):
        return 16_384  # a quarter of the usual vm.max_map_count
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 16_384 if soft == resource.RLIM_INFINITY else max(16, min(16_384, soft // 2))


class FileMaps:
    """The bytes of many files by index; at most `limit` stay mapped, the oldest map goes first.

    Arrays that still look at a map keep it alive after it has left here. Pickles without its maps.
    """

    def __init__(self, files: Sequence[tuple[Path, int]], limit: int | None = None) -> None:
        self.files = tuple(files)
        self.limit = limit or default_limit()
        self.open: list[memoryview | None] = [None] * len(self.files)
        self._order: deque[int] = deque()

    def __getitem__(self, index: int) -> memoryview:
        return self.open[index] or self._map(index)

    def __reduce__(self) -> tuple[Any, ...]:
        return FileMaps, (self.files, self.limit)

    def _map(self, index: int) -> memoryview:
        path, size = self.files[index]
        try:
            with path.open("rb") as file:
                received = os.fstat(file.fileno()).st_size
                if received != size:  # reading past the end of a map would kill the process
                    raise EpisodeError(
                        f"{path}: changed since it was opened: expected {size} bytes, received {received}"
                    )
                view = memoryview(_map_file(file.fileno()))
        except OSError as error:
            raise EpisodeError(
                f"{path}: cannot be read: {error.strerror}; check the path and its permissions"
            ) from error
        if len(self._order) >= self.limit:
            self.open[self._order.popleft()] = None
        self._order.append(index)
        self.open[index] = view
        return view


if sys.version_info >= (3, 13):

    def _map_file(descriptor: int) -> mmap.mmap:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ, trackfd=False)

else:

    def _map_file(descriptor: int) -> mmap.mmap:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
