"""What watching costs: one frame at a time on one thread, beside the encoder alone."""

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from robovae.device import threads
from robovae.judge.footage import Doubles, Footage, Frames

SHARE = 0.25
"""Of the encoder's own time that watching may add."""
WARM_UP = 10


class Updates(Protocol):
    """What is timed of a `FrameMonitor`."""

    def reset(self) -> None:
        """Begin an episode."""

    def update(self, frame: Frames, action: Any = None) -> object:
        """Judge the next frame (H, W, 3)."""


def watching_cost(
    encode: Callable[[Frames], object], monitor: Updates, footage: Footage, frames: int = 300
) -> dict[str, Any]:
    """Time encoding and watching of the same frames, in turns, so that a busy machine slows both alike.

    Args:
        encode: one frame (1, H, W, 3) to its belief.
        monitor: its `update` encodes the frame itself, filters, scores and decides.
        footage: nominal, gone through in its order, again if it is short; a faulted frame also costs reasons.
        frames: timed, after a warm-up.

    Returns:
        JSON-able: "encode_ms" and "update_ms" as {"p50", "p99"}; "share", the median of the differences over
        the encoder's median; "target"; "frames".
    """
    with threads(1):
        encoded, updated = _take_turns(encode, monitor, footage, frames)
    return {
        "encode_ms": _percentiles(encoded),
        "update_ms": _percentiles(updated),
        "share": float(np.median(updated - encoded) / np.median(encoded)),
        "target": SHARE,
        "frames": frames,
    }


def _take_turns(
    encode: Callable[[Frames], object], monitor: Updates, footage: Footage, frames: int
) -> tuple[Doubles, Doubles]:
    """Seconds of each frame, (frames,) twice."""
    first = set((np.cumsum(footage.lengths) - footage.lengths).tolist())
    marks = np.empty((frames + WARM_UP, 3))
    for turn in range(len(marks)):
        number = turn % len(footage)
        frame = footage.frames[number].copy()
        if number in first:
            monitor.reset()
        action = None if number in first else footage.action[number - 1]
        marks[turn, 0] = time.perf_counter()
        encode(frame[None])
        marks[turn, 1] = time.perf_counter()
        monitor.update(frame, action)
        marks[turn, 2] = time.perf_counter()
    encoded, updated = np.diff(marks, axis=1)[WARM_UP:].T
    return encoded, updated


def _percentiles(seconds: Doubles) -> dict[str, float]:
    middle, high = 1000 * np.quantile(seconds, [0.5, 0.99])
    return {"p50": round(float(middle), 4), "p99": round(float(high), 4)}
