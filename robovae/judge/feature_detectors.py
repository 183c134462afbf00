"""Baselines on the encoder's own features, the layer that classifiers' detectors look at."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from robovae.belief import Floats, Perceiver
from robovae.frames import batched, to_tensor
from robovae.judge.detector import Detector
from robovae.judge.footage import Doubles, Frames

Features = Callable[[Frames], NDArray[np.floating]]
"""Frames (B, H, W, 3) -> (B, F)."""


def pooled_features(perceiver: Perceiver) -> Features:
    """What gives the last feature maps of the local encoder, each its mean over the image."""
    vae, device = perceiver.model.vae, perceiver.device

    @torch.inference_mode()
    def pooled(frames: Frames) -> Floats:
        maps = (vae.local_encoder.body(to_tensor(some, device) - vae.mean_frame) for some in batched(frames))
        found: Floats = torch.cat([one.mean((2, 3)) for one in maps]).float().cpu().numpy()
        return found

    return pooled


class FeatureResidual(Detector):
    """Length of what the principal half of the training features' directions leaves of a frame's features.

    The "Residual" of Wang et al., 2203.10807, section 4.1. Their ViM adds the energy of class logits to it,
    which a VAE does not have.

    Args:
        features: what gives them.
    """

    name = "feature_residual"

    def __init__(self, features: Features) -> None:
        self.features = features

    def fit(self, frames: Frames) -> None:
        """Mean, and the lesser half of the principal directions, of training features."""
        values = self.features(frames).astype(np.float64)
        self._mean = values.mean(axis=0)
        centred = values - self._mean
        rising = np.linalg.eigh(centred.T @ centred / len(centred))[1]
        self._lesser = rising[:, : (values.shape[1] + 1) // 2]

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,)."""
        length: Doubles = np.linalg.norm((self.features(frames) - self._mean) @ self._lesser, axis=1)
        return length
