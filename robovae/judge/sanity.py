"""Pictures that are no robot frames at all: sigma must fall back to the prior, and the monitor must see it.

Rows of their own, left out of every mean: what tells a photograph from a robot need not tell a dirty lens.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from robovae.belief import Belief
from robovae.judge.footage import Footage, Frames
from robovae.judge.metrics import Doubles
from robovae.judge.traces import Watches, watch

SILENT = 1.0
"""Nats below which a picture says nothing."""


def made_up_pictures(shape: tuple[int, int, int], count: int, rng: np.random.Generator) -> dict[str, Frames]:
    """White noise, (count, H, W, 3), and one black frame."""
    return {
        "white noise": rng.integers(0, 256, (count, *shape), dtype=np.uint8),
        "black": np.zeros((1, *shape), np.uint8),
    }


def sanity(
    monitor: Watches, total: Callable[[Frames], Belief], pictures: Mapping[str, Frames]
) -> list[dict[str, Any]]:
    """What beliefs and monitor make of pictures, each the only frame of an episode.

    Args:
        monitor: calibrated.
        total: the belief that controllers take.
        pictures: (N, H, W, 3) by name; a row of nominal frames among them shows what is usual.

    Returns:
        By name "pictures", "sigma" (mean over pictures and latents; the prior's is 1), "information" (mean
        nats) and "most_information", "alarmed" and "untrusted", shares of the pictures.
    """
    return [_row(name, frames, monitor, total(frames)) for name, frames in pictures.items()]


def _row(name: str, frames: Frames, monitor: Watches, belief: Belief) -> dict[str, Any]:
    count = len(frames)
    footage = Footage(frames, np.ones(count, np.int64), np.zeros((count, 1), np.float32))
    traces = watch(monitor, footage)
    nats: Doubles = belief.information.astype(np.float64)
    return {
        "picture": name,
        "pictures": count,
        "sigma": float(belief.sigma.mean()),
        "information": float(nats.mean()),
        "most_information": float(nats.max()),
        "alarmed": float(np.mean([trace.alarm is not None for trace in traces])),
        "untrusted": float(np.mean([trace.distrusted[0] for trace in traces])),
    }
