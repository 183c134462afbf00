"""Memory maps of episode files, opened when first needed and bounded in number."""

import mmap
import os
import resource
import sys
import weakref
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robovae.episodes.episode import EpisodeError

_MOST = 16_384  # a quarter of Linux's usual vm.max_map_count


def default_limit() -> int:
    """How many files to keep mapped: Python before 3.13 keeps a file descriptor with each."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if sys.version_info >= (3, 13) or soft == resource.RLIM_INFINITY:
        return _MOST
    return max(16, min(_MOST, soft // 2))


class FileMaps:
    """The bytes of many files by index, mapped when first asked for; it pickles without its maps.

    At most `limit` files are mapped; the oldest map goes first. A map that arrays still look at lives on:
    when `limit` of those are alive, further files are read into memory instead.
    """

    def __init__(self, files: Sequence[tuple[Path, int]], limit: int | None = None) -> None:
        self.files = tuple(files)
        self.limit = limit or default_limit()
        self.open: list[memoryview | None] = [None] * len(self.files)
        self._order: deque[int] = deque()
        self._alive: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()

    def __getitem__(self, index: int) -> memoryview:
        view = self.open[index]
        if view is None:
            if len(self._order) >= self.limit:
                self.open[self._order.popleft()] = None
            view = self.open[index] = self._map(*self.files[index])
            self._order.append(index)
        return view

    def __reduce__(self) -> tuple[Any, ...]:
        return FileMaps, (self.files, self.limit)

    def _map(self, path: Path, size: int) -> memoryview:
        try:
            with path.open("rb") as file:
                received = os.fstat(file.fileno()).st_size
                if received != size:  # reading past the end of a map would kill the process
                    raise EpisodeError(
                        f"{path}: changed since it was opened: expected {size} bytes, "
                        f"received {received}; open the store again"
                    )
                if len(self._alive) >= self.limit:
                    return memoryview(file.read())
                mapped = _map_file(file.fileno())
        except OSError as error:
            raise EpisodeError(f"{path}: cannot be read: {error.strerror}; check the file") from error
        self._alive.add(mapped)
        return memoryview(mapped)


if sys.version_info >= (3, 13):

    def _map_file(descriptor: int) -> mmap.mmap:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ, trackfd=False)

else:

    def _map_file(descriptor: int) -> mmap.mmap:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
