"""Detectors of pytorch-ood, where it is installed, on the encoder's features."""

import importlib
import importlib.metadata
import importlib.util
import sys
from types import ModuleType
from typing import Any

import numpy as np
import torch

from robovae.judge.detector import Detector, evenly
from robovae.judge.errors import JudgeError
from robovae.judge.feature_detectors import Features
from robovae.judge.footage import Doubles, Frames

METHODS = ("Mahalanobis", "KNN")
"""Those that work on features alone."""
PACKAGE = "pytorch_ood"
FRAMES = 10_000
"""Training frames that they are fitted on, at most."""
NO_CLASSES = {"pytorch_ood_vim": "needs a classifier's last layer; feature_residual is what is left of it"}
"""Others that were asked for, and why there is none."""


class PytorchOod(Detector):
    """A feature detector of pytorch-ood; its scores are higher = stranger as well.

    Its `fit_features(features, labels)` demands class labels: all frames are of class 0. Its KNN scales
    features to unit length unless told `normalize=False`, so that only directions count.

    Args:
        features: what gives them.
        method: one of `METHODS`.
        options: handed to it.

    Raises:
        JudgeError: another method, or pytorch-ood or what it needs is not installed.
    """

    def __init__(self, features: Features, method: str = "Mahalanobis", **options: Any) -> None:
        if method not in METHODS:
            raise JudgeError(f"expected one of {', '.join(METHODS)}, received {method!r}")
        try:
            self._detector = getattr(_detectors(), method)(None, **options)
        except ImportError as error:
            raise JudgeError(f'expected pytorch-ood, {error}; pip install "robovae[bench]"') from error
        self.features, self.name = features, name_of(method)  # type: ignore[misc]  # by method

    def fit(self, frames: Frames) -> None:
        """Fit on at most 10 000 training frames, evenly spread.

        Raises:
            JudgeError: the detector refuses them, because they are too few.
        """
        features = self._of(frames)[evenly(len(frames), FRAMES)]
        try:
            self._detector.fit_features(features, torch.zeros(len(features), dtype=torch.long))
        except ValueError as error:
            raise JudgeError(
                f"{self.name}: expected training frames that suffice, received {len(features)}: {error}"
            ) from error

    def score(self, frames: Frames) -> Doubles:
        """Frames (B, H, W, 3) -> (B,)."""
        return np.asarray(self._detector.predict_features(self._of(frames)), np.float64)

    def _of(self, frames: Frames) -> torch.Tensor:
        return torch.from_numpy(np.array(self.features(frames), np.float32))


def outside(features: Features) -> tuple[list[Detector], dict[str, str]]:
    """Every detector of pytorch-ood that can be had here; names of the others, and why not."""
    found: list[Detector] = []
    skipped = dict(NO_CLASSES)
    for method in METHODS:
        try:
            found.append(PytorchOod(features, method))
        except JudgeError as error:
            skipped[name_of(method)] = str(error)
    return found, skipped


def name_of(method: str) -> str:
    """The score's name."""
    return f"pytorch_ood_{method.lower()}"


def version() -> str | None:
    """Which pytorch-ood is installed; None without one."""
    try:
        return importlib.metadata.version("pytorch-ood")
    except importlib.metadata.PackageNotFoundError:
        return None


def _detectors() -> ModuleType:
    """The module `pytorch_ood.detector`, without running the package's own `__init__`.

    That one also imports datasets and pretrained models, and with them torchvision, which must be a build of
    the very same torch; no detector needs any of it.

    Raises:
        ImportError: the package, or something that the detectors do need, is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise ImportError("received none")
    bare = PACKAGE not in sys.modules
    if bare:
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module(f"{PACKAGE}.detector")
    finally:
        if bare:  # whoever imports the package itself is to get the whole of it
            del sys.modules[PACKAGE]
