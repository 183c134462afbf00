"""Joint angles: how much of their range was visited."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 36

Joint = Mapping[str, Any]


def hinges(joints: Sequence[Joint]) -> list[Joint]:
    """The hinge joints among the descriptions in an episode's metadata."""
    return [joint for joint in joints if joint["type"] == "hinge"]


def visited_bins(qpos: NDArray[np.float64], joints: Sequence[Joint]) -> NDArray[np.bool_]:
    """Which bins of its range each hinge visited.

    Args:
        qpos: (T+1, nq) positions, radians.
        joints: descriptions with "type", "qpos_index", "limited", "range" in radians.

    Returns:
        (hinges, 36) booleans. The range of an unlimited hinge is the full turn, angles taken modulo 2 pi.
    """
    chosen = hinges(joints)
    visited = np.zeros((len(chosen), BINS), np.bool_)
    for row, joint in enumerate(chosen):
        low, high = _range(joint)
        share = (qpos[:, joint["qpos_index"]] - low) / (high - low)
        share = np.clip(share, 0.0, 1.0) if joint["limited"] else share % 1.0
        visited[row, np.minimum((share * BINS).astype(int), BINS - 1)] = True
    return visited


def _range(joint: Joint) -> tuple[float, float]:
    """Limits in radians; the full turn for an unlimited hinge."""
    return tuple(joint["range"]) if joint["limited"] else (-math.pi, math.pi)
