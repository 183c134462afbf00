"""What a monitor says of a frame, in numbers and in one line."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from robovae.monitor.conformal import MonitorError

Region = tuple[int, int, int, int]
"""First row, row after the last, first column, column after the last."""

_MOST_DIMS = 3
_WIDE = 0.75
"""A region that spans more of the frame than this in both directions has no place in it."""


@dataclass(frozen=True)
class Why:
    """The score that decided, and where it looks."""

    score: str
    """Its name."""
    ratio: float
    """How many times its limit it reached: the alarm's if this frame raised it, else the gate's."""
    lasting: bool = False
    """Whether it is the mean over the last frames and not this frame alone."""
    dims: tuple[int, ...] = ()
    """The strangest latent dimensions, strangest first."""
    region: Region | None = None
    """The strangest part of the image."""
    place: str = ""
    """The same in words: "upper left"."""

    def __str__(self) -> str:
        text = f"{self.score} {self.ratio:.1f}x its limit" + (" for some time" if self.lasting else "")
        if self.region:
            top, bottom, left, right = self.region
            cells = f"rows {top}-{bottom - 1}, columns {left}-{right - 1}"
            text += f", {self.place} ({cells})" if self.place else f", {cells}"
        return text + (f"; latents {', '.join(map(str, self.dims))}" if self.dims else "")


@dataclass(frozen=True)
class Verdict:
    """The three decisions after one frame, and what they rest on."""

    score: float
    """Strongest evidence in this frame alone; 1 is what few nominal episodes exceed, higher = stranger."""
    p_value: float
    """Of this frame alone, among nominal frames."""
    trusted: bool
    """Gate: whether to act on this frame."""
    lost: int
    """Frames since trust was lost, this one included; 0 while it holds."""
    level: float
    """The episode's evidence so far over the threshold of the alarm; it never falls within an episode."""
    alarm: bool
    """Alarm: level > 1, from the frame that raised it to the end of the episode."""
    drift: bool
    """Drift: the episodes before this one have become stranger than those of calibration."""
    why: Why
    """Of this frame; once the alarm stands and this frame alone would not raise it, of the frame that did."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `why` holds its line as "text" too."""
        data = asdict(self)
        data["why"]["text"] = str(self.why)
        return data


def strangest_region(where: ArrayLike, frame: tuple[int, int] | None = None) -> Region:
    """The box around the cells of a map that stand out: more than half-way from its median to its maximum.

    Args:
        where: (h, w), strangeness of each cell.
        frame: (H, W) of the image the map covers; None counts in cells.

    Raises:
        MonitorError: it is no such map.
    """
    cells = np.asarray(where, np.float64)
    if cells.ndim != 2 or not cells.size or not np.isfinite(cells).all():
        raise MonitorError(f"where: expected a finite map (h, w), received the shape {cells.shape} or NaN")
    rows, columns = np.nonzero(cells >= (np.median(cells) + cells.max()) / 2)
    height, width = frame or cells.shape
    tall, wide = height / cells.shape[0], width / cells.shape[1]
    top, bottom = int(rows.min() * tall), int(np.ceil((rows.max() + 1) * tall))
    return top, bottom, int(columns.min() * wide), int(np.ceil((columns.max() + 1) * wide))


def place_of(region: Region, frame: tuple[int, int]) -> str:
    """A region of a frame (H, W) in words: "upper left", "centre", "everywhere"."""
    top, bottom, left, right = region
    height, width = frame
    if (bottom - top) / height > _WIDE and (right - left) / width > _WIDE:
        return "everywhere"
    row = _third(("upper", "middle", "lower"), (top + bottom) / 2 / height)
    column = _third(("left", "centre", "right"), (left + right) / 2 / width)
    return "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"


def strangest_dims(dims: ArrayLike) -> tuple[int, ...]:
    """The latent dimensions that stand out, at most three: half as strange as the strangest at least.

    Args:
        dims: (D,), strangeness of each latent dimension, >= 0; one of 0 does not stand out.

    Raises:
        MonitorError: it is no such list.
    """
    values = np.asarray(dims, np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise MonitorError(
            f"dims: expected a finite number a latent, received the shape {values.shape} or NaN"
        )
    falling = np.argsort(-values, kind="stable")[:_MOST_DIMS]
    return tuple(int(dim) for dim in falling if values[dim] > 0.0 and values[dim] >= values.max() / 2)


def _third(words: tuple[str, str, str], share: float) -> str:
    return words[min(int(3 * share), 2)]
