"""Detectors of pytorch-ood, where it is installed, on mu."""

import importlib
from typing import Any

import numpy as np
import torch

from robovae.judge.detector import Detector, Sees
from robovae.judge.errors import JudgeError
from robovae.judge.footage import Doubles, Frames

METHODS = ("Mahalanobis", "KNN")
"""Those that work on features alone. ViM and most others need a classifier's last layer or logits."""


class PytorchOod(Detector):
    """A feature detector of pytorch-ood; its scores are higher = stranger as well.

    Its `fit_features(features, labels)` demands class labels: all frames are of class 0. Its KNN scales mu to
    unit length unless told `normalize=False`, so that only directions count.

    Args:
        sees: whose mu are the features.
        method: one of `METHODS`.
        options: handed to it.

    Raises:
        JudgeError: another method, or pytorch-ood is not installed.
    """

    def __init__(self, sees: Sees, method: str = "Mahalanobis", **options: Any) -> None:
        if method not in METHODS:
            raise JudgeError(f"expected one of {', '.join(METHODS)}, received {method!r}")
        try:
            module = importlib.import_module("pytorch_ood.detector")
        except ImportError as error:
            raise JudgeError("expected pytorch-ood, received none; pip install pytorch-ood") from error
        self.sees, self.name = sees, f"pytorch_ood_{method.lower()}"  # type: ignore[misc]  # by method
        self._detector = getattr(module, method)(None, **options)

    def fit(self, frames: Frames) -> None:
        """Fit on the mu of training frames."""
        mu = torch.from_numpy(self.sees(frames).mu)
        self._detector.fit_features(mu, torch.zeros(len(mu), dtype=torch.long))

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,)."""
        found = self._detector.predict_features(torch.from_numpy(self.sees(frames).mu))
        return np.asarray(found, np.float64)
