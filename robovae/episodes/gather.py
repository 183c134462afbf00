"""Copy many pieces of many mapped files into one array, at the speed of a plain array in memory."""

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovae.episodes.episode import EpisodeError
from robovae.episodes.maps import FileMaps

_Memory = ctypes.c_ubyte * 2**47
"""All memory a process can have; only ever looked at where files are mapped."""
_BLOCK = 32
"""Pieces that pass through the processor's cache on their way to a given array."""


@dataclass(frozen=True, eq=False)
class Windows:
    """A batch of B windows of L consecutive frames."""

    image: NDArray[np.uint8]
    """(B, L, H, W, 3), zeros where `mask` is False."""
    action: NDArray[np.float32]
    """(B, L, A); action[b, l] leads from image[b, l] to the frame after it; zeros after the last frame."""
    mask: NDArray[np.bool_]
    """(B, L), True where there is a frame."""
    episode: NDArray[np.int64]
    """(B,) index of the episode in the store."""
    start: NDArray[np.int64]
    """(B,) first frame within the episode."""

    def __repr__(self) -> str:
        return f"Windows(image {self.image.shape}, action {self.action.shape}, {self.mask.mean():.0%} frames)"


def copy_pieces(
    maps: FileMaps,
    files: NDArray[np.integer[Any]],
    sources: NDArray[np.int64],
    size: int,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Copy `size` bytes of each files[i] from byte sources[i] on; the caller has checked that they exist.

    A Python loop over the pieces takes half as long again as the copying. So all pieces are one index into
    one array of overlapping items, an item from every byte on, that spans the memory of all maps.

    Args:
        maps: Where the files are.
        files: (B,) indices of files.
        sources: (B,) bytes from the start of the file.
        size: Bytes of a piece.
        out: C-contiguous, B * size bytes, filled if given.

    Returns:
        (B, size), new or a view on `out`.
    """
    rows = None if out is None else out.reshape(len(files), size)
    if not len(files):
        return np.empty((0, size), np.uint8) if rows is None else rows
    item = np.dtype((np.void, size))
    with maps.pinned(files) as starts:
        places = starts + sources
        low = int(places.min())
        places -= low
        memory = memoryview(_Memory.from_address(low))
        items = np.ndarray((int(places.max()) + 1,), item, memory, strides=(1,))
        if rows is None:
            new: NDArray[np.uint8] = items[places].view(np.uint8)
            return new.reshape(-1, size)
        for first in range(0, len(rows), _BLOCK):
            block = items[places[first : first + _BLOCK]]
            rows[first : first + _BLOCK] = block.view(np.uint8).reshape(-1, size)
    return rows


def check_out(out: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    """Check that an array can be filled with frames.

    Raises:
        EpisodeError: if `out` is not a C-contiguous writable uint8 array of `shape`.
    """
    if out.shape != shape or out.dtype != np.uint8 or not (out.flags.c_contiguous and out.flags.writeable):
        raise EpisodeError(
            f"out: expected a C-contiguous uint8 array {shape}, received {out.dtype} {out.shape}"
        )
