"""Corrupter: frames spoilt on purpose, so that a policy learns to act on what they leave of a belief."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from robovae.control.bursts import Bursts
from robovae.frames import to_frames, to_tensor
from robovae.uncertainty.corruptions import corrupt

Frames = NDArray[np.uint8]


class Corrupter:
    """Corrupts the frames of n environments in bursts, each burst in one way and at one strength throughout.

    The ways are those that calibration learns from, none of a kind with a fault that robovae is judged by.

    Args:
        bursts: when frames fail.
        rngs: of each environment: decide its bursts and its ways.
    """

    def __init__(self, bursts: Bursts, rngs: Sequence[np.random.Generator]) -> None:
        self._rngs = rngs
        self._failing = [bursts.stream(rng) for rng in rngs]
        self._ways: list[int | None] = [None] * len(rngs)  # of the bursts under way

    def __call__(self, frames: Frames) -> Frames:
        """The next frame of each environment, those that fail now corrupted.

        Args:
            frames: (n, H, W, 3) uint8; pieces and ghosts are taken of the neighbour's.

        Returns:
            (n, H, W, 3) uint8, a copy.
        """
        out = frames.copy()
        for row, failing in enumerate(map(next, self._failing)):
            way = self._ways[row]
            if failing:
                way = int(self._rngs[row].integers(2**32)) if way is None else way
                out[row] = corrupted(frames[row], frames[row - 1], way)
            self._ways[row] = way if failing else None
        return out


def corrupted(frame: NDArray[np.uint8], other: NDArray[np.uint8], way: int) -> NDArray[np.uint8]:
    """One frame (H, W, 3) uint8 corrupted, with pieces of another; the same `way`, the same corruption."""
    image, piece = to_tensor(frame[None]), to_tensor(other[None])
    spoilt: NDArray[np.uint8] = to_frames(corrupt(image, piece, torch.Generator().manual_seed(way)))[0]
    return spoilt
