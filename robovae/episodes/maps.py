"""Memory maps of episode files, opened when first needed and bounded in number."""

import errno
import mmap
import os
import resource
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    when `limit` of those are alive, further files are read into memory instead. Safe among threads.
    """

    def __init__(self, files: Sequence[tuple[Path, int]], limit: int | None = None) -> None:
        self.files = tuple(files)
        self.limit = limit or default_limit()
        self._open: dict[int, memoryview] = {}  # in the order of mapping
        self._address = np.zeros(len(self.files), np.int64)  # 0 where not mapped
        self._alive: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        return FileMaps, (self.files, self.limit)

    def __getitem__(self, index: int) -> memoryview:
        with self._lock:
            if index not in self._open:
                if len(self._open) >= self.limit:
                    oldest = next(iter(self._open))
                    del self._open[oldest]
                    self._address[oldest] = 0
                view = self._open[index] = self._map(*self.files[index])
                self._address[index] = np.frombuffer(view, np.uint8).ctypes.data
            return self._open[index]

    @contextmanager
    def pinned(self, files: NDArray[np.integer[Any]]) -> Iterator[NDArray[np.int64]]:
        """Where in memory the files (B,) start, (B,); they stay there inside of the `with` block."""
        with self._lock:
            addresses = self._address[files]
            if addresses.all():
                yield addresses
                return
            unique, inverse = np.unique(files, return_inverse=True)
            for index in unique.tolist():  # what this batch has already is not to make room for the rest
                if index in self._open:
                    self._open[index] = self._open.pop(index)
            held = []  # mapping one of them may push out another
            starts = np.empty(len(unique), np.int64)
            for row, index in enumerate(unique.tolist()):
                held.append(self[index])
                starts[row] = self._address[index]
            yield starts[inverse]
            held.clear()

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
            if error.errno == errno.EMFILE and self._open:  # other stores hold files too: make do with fewer
                self._open.clear()
                self._address[:] = 0
                return self._map(path, size)
            mend = "raise `ulimit -n`" if error.errno == errno.EMFILE else "check the file"
            raise EpisodeError(f"{path}: cannot be read: {error.strerror}; {mend}") from error
        self._alive.add(mapped)
        return memoryview(mapped)


if sys.version_info >= (3, 13):

    def _map_file(descriptor: int) -> mmap.mmap:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ, trackfd=False)

else:

    def _map_file(descriptor: int) -> mmap.mmap:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
