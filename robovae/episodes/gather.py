"""Copy many pieces of many mapped files into one array, as fast as Python can say it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robovae.episodes.episode import EpisodeError
from robovae.episodes.maps import FileMaps


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


def checked_out(out: NDArray[np.uint8] | None, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A new array of `shape`, or `out` if it is fit to be filled.

    Raises:
        EpisodeError: if `out` is not a C-contiguous writable uint8 array of `shape`.
    """
    if out is None:
        return np.empty(shape, np.uint8)
    if out.shape != shape or out.dtype != np.uint8 or not (out.flags.c_contiguous and out.flags.writeable):
        raise EpisodeError(
            f"out: expected a C-contiguous uint8 array {shape}, received {out.dtype} {out.shape}"
        )
    return out


def copy_rows(
    maps: FileMaps,
    files: NDArray[np.int64],
    sources: NDArray[np.int64],
    sizes: NDArray[np.int64],
    out: NDArray[Any],
) -> None:
    """Fill the start of each row out[i] with sizes[i] bytes of files[i] from byte sources[i] on.

    In the order of the files, so that the disk and the processor's address cache are asked for neighbours.
    """
    if not out.size:
        return
    order = np.lexsort((sources, files))
    starts = order * (out.nbytes // len(out))
    target = out.data.cast("B")
    mapped = maps.open
    pieces = zip(
        *(column.tolist() for column in (files[order], sources[order], sizes[order], starts)), strict=True
    )
    for file, source, size, start in pieces:
        view = mapped[file] or maps[file]
        target[start : start + size] = view[source : source + size]
