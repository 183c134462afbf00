"""Baselines that look at pixels alone: what a learned score must beat to be worth its cost."""

import zlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robovae.frames import batched
from robovae.judge.detector import Detector, evenly
from robovae.judge.footage import Doubles, Frames

PCA_FRAMES = 4000
"""Training frames of the principal components at most."""


class Brightness(Detector):
    """How far the mean pixel is from that of training, in its deviations; darker and brighter alike."""

    name = "brightness"

    def fit(self, frames: Frames) -> None:
        """Mean and deviation over training frames."""
        self._mean, self._std = _location(_brightness(frames))

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,)."""
        distance: Doubles = np.abs(_brightness(frames) - self._mean) / self._std
        return distance


class LaplacianVariance(Detector):
    """How far the log variance of the Laplacian is from that of training; blur and noise alike.

    The variance itself is the usual measure of focus (Pech-Pacheco et al. 2000).
    """

    name = "laplacian"

    def fit(self, frames: Frames) -> None:
        """Mean and deviation over training frames."""
        self._mean, self._std = _location(_log_sharpness(frames))

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,)."""
        distance: Doubles = np.abs(_log_sharpness(frames) - self._mean) / self._std
        return distance


class MeanFrame(Detector):
    """Mean squared distance to the mean training frame, in [0, 1] pixels."""

    name = "mean_frame"

    def fit(self, frames: Frames) -> None:
        """The mean frame."""
        self._mean = (frames.mean(axis=0, dtype=np.float64) / 255.0).astype(np.float32)

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,)."""
        parts = [
            np.square(some / np.float32(255.0) - self._mean).mean(axis=(1, 2, 3)) for some in batched(frames)
        ]
        return np.concatenate(parts).astype(np.float64)


class PcaReconstruction(Detector):
    """Mean squared error of what principal components of the pixels leave, in [0, 1] pixels.

    The components come from a randomised SVD (Halko et al., 0909.4061, algorithm 4.4).

    Args:
        components: how many.
        seed: of the start of the iteration.
    """

    name = "pca"

    def __init__(self, components: int = 32, seed: int = 0) -> None:
        self.components, self.seed = components, seed

    def fit(self, frames: Frames) -> None:
        """Components of at most 4000 training frames, evenly spread."""
        chosen = evenly(len(frames), PCA_FRAMES)
        rows = frames[chosen].reshape(len(chosen), -1) / np.float32(255.0)
        self._mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        rows -= self._mean
        width = min(self.components + 8, *rows.shape)
        rng = np.random.default_rng(self.seed)
        basis = rng.standard_normal((rows.shape[1], width), dtype=np.float32)
        for _ in range(4):
            basis = np.linalg.qr(rows.T @ (rows @ basis))[0]
        turn = np.linalg.svd(rows @ basis, full_matrices=False)[2]
        self._basis: NDArray[np.float32] = basis @ turn[: self.components].T

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,)."""
        return np.concatenate([self._residual(some) for some in batched(frames)])

    def _residual(self, frames: Frames) -> Doubles:
        rows = frames.reshape(len(frames), -1) / np.float32(255.0) - self._mean
        rows -= (rows @ self._basis) @ self._basis.T
        error: Doubles = np.square(rows).mean(axis=1, dtype=np.float64)
        return error


class Chance(Detector):
    """A number from 0 to 1 that means nothing, from a checksum of the frame: the table's negative control."""

    name = "chance"

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,)."""
        return np.array([zlib.crc32(frame.tobytes()) / 2**32 for frame in frames])


def _brightness(frames: Frames) -> Doubles:
    mean: Doubles = frames.mean(axis=(1, 2, 3), dtype=np.float64)
    return mean


def _log_sharpness(frames: Frames) -> Doubles:
    grey = (cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames)
    return np.log(np.array([cv2.Laplacian(one, cv2.CV_64F).var() for one in grey]) + 1.0)


def _location(values: NDArray[Any]) -> tuple[float, float]:
    return float(values.mean()), float(values.std()) + 1e-9
