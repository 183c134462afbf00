"""Baselines on one pass of the model: beliefs and reconstructions of single frames."""

import numpy as np

from robovae.belief import Belief
from robovae.frames import batched
from robovae.judge.detector import Detector, Sees, evenly
from robovae.judge.errors import JudgeError
from robovae.judge.footage import Doubles, Frames

KNN_FRAMES = 10_000
"""Training frames among which neighbours are looked for, at most."""


def mean_log_sigma(belief: Belief) -> Doubles:
    """Mean of log sigma over the latents, (B,)."""
    mean: Doubles = np.log(belief.sigma.astype(np.float64)).reshape(len(belief), -1).mean(axis=1)
    return mean


class _OnSees(Detector):
    """A detector that looks through a perceiver."""

    def __init__(self, sees: Sees) -> None:
        self.sees = sees

    def mu(self, frames: Frames) -> Doubles:
        """(B, D)."""
        return self.sees(frames).mu.astype(np.float64)


class RawSigma(_OnSees):
    """Mean log sigma of the encoder: the signal that one would wish to work."""

    name = "raw_sigma"

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,)."""
        return mean_log_sigma(self.sees(frames))


class Information(_OnSees):
    """KL(q(z|x) || N(0, I)), nats."""

    name = "information"

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,)."""
        return self.sees(frames).information.astype(np.float64)


class Reconstruction(_OnSees):
    """Mean squared error of the reconstruction, in [0, 1] pixels."""

    name = "reconstruction"

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,)."""
        pairs = zip(batched(frames), batched(self.sees.reconstruct(frames)), strict=True)
        return np.concatenate([_mse(some, kept) for some, kept in pairs])


class MahalanobisMu(_OnSees):
    """Squared Mahalanobis distance of mu to training mu (Lee et al., 1807.03888, one class)."""

    name = "mahalanobis_mu"

    def fit(self, frames: Frames) -> None:
        """Mean and covariance of training mu; a ridge of 1e-6 of its trace keeps dead latents in check."""
        mu = self.mu(frames)
        covariance = np.atleast_2d(np.cov(mu.T))
        ridge = 1e-6 * max(float(np.trace(covariance)), 1e-12) * np.eye(len(covariance))
        self._mean, self._root = mu.mean(axis=0), np.linalg.cholesky(covariance + ridge)

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,)."""
        white = np.linalg.solve(self._root, (self.mu(frames) - self._mean).T)
        distance: Doubles = np.square(white).sum(axis=0)
        return distance


class KnnMu(_OnSees):
    """Distance of mu to the k-th nearest of training (Sun et al., 2204.06507, without normalising).

    Args:
        sees: whose mu.
        k: the neighbour that counts.
    """

    name = "knn_mu"

    def __init__(self, sees: Sees, k: int = 10) -> None:
        super().__init__(sees)
        self.k = k

    def fit(self, frames: Frames) -> None:
        """Remember at most 10 000 training mu, evenly spread.

        Raises:
            JudgeError: there are fewer than k.
        """
        if len(frames) < self.k:
            raise JudgeError(f"knn_mu: expected at least {self.k} training frames, received {len(frames)}")
        self._known = self.mu(frames)[evenly(len(frames), KNN_FRAMES)]
        self._size = np.square(self._known).sum(axis=1)

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,)."""
        mu = self.mu(frames)
        parts = [self._distance(mu[first : first + 512]) for first in range(0, len(mu), 512)]
        return np.concatenate(parts)

    def _distance(self, mu: Doubles) -> Doubles:
        squares = np.square(mu).sum(axis=1)[:, None] + self._size - 2.0 * mu @ self._known.T
        nearest: Doubles = np.sqrt(np.partition(squares, self.k - 1, axis=1)[:, self.k - 1].clip(0.0))
        return nearest


def _mse(frames: Frames, kept: Frames) -> Doubles:
    error = (frames.astype(np.float32) - kept) / np.float32(255.0)
    mse: Doubles = np.square(error).mean(axis=(1, 2, 3), dtype=np.float64)
    return mse
