"""What calibration adds to a run: measurement noise and scores, one file beside the model's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from robovae.gaussian import Gaussian
from robovae.uncertainty.look import Look, look
from robovae.uncertainty.noise import MeasurementNoise, describe, widen
from robovae.uncertainty.part import Part
from robovae.uncertainty.scores import Strangeness
from robovae.vae import VAE

FILE = "uncertainty.safetensors"
FORM = "4"
"""Version of the names in it."""
_PART = Part(FILE, FORM, "a calibrated run", "the calibration of these weights, received another's")


@dataclass(frozen=True)
class Insight:
    """All that is known of B frames on their own."""

    look: Look
    """Of the encoder."""
    total: Gaussian
    """The calibrated belief, (B, D): what the encoder says, less what the frame is trusted for."""
    scores: Tensor
    """(B, len(SCORES))."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Those of all frames, from at least one part after the other."""
        looks = zip(*(part.look for part in parts), strict=True)
        return cls(
            Look(*map(_cat, looks)),
            _cat([part.total for part in parts]),
            _cat([part.scores for part in parts]),
        )


class Uncertainty(nn.Module):
    """Measurement noise and scores of one VAE.

    Args:
        vae: the model they belong to; it is not part of this module.
    """

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        with torch.no_grad():
            height, width, _ = vae.frame_shape
            seen = look(vae, torch.zeros(1, 3, height, width, device=vae.mean_frame.device))
        cells = (seen.surprise.shape[1], seen.surprise.shape[2])
        self.strangeness = Strangeness(cells, seen.statistics.shape[1])
        features = self._features(seen, self._distance(seen))
        self.noise = MeasurementNoise(features.shape[1], vae.config.latent_dim)

    def forward(self, vae: VAE, images: Tensor) -> Insight:
        """Images (B, 3, H, W) in [0, 1] -> Insight."""
        seen = look(vae, images)
        distance = self._distance(seen)
        total = widen(seen.lone, self.noise(self._features(seen, distance)))
        return Insight(seen, total, self.strangeness(seen, distance, total))

    def _distance(self, seen: Look) -> Tensor:
        out: Tensor = self.strangeness.statistics(seen.statistics)
        return out

    @staticmethod
    def _features(seen: Look, distance: Tensor) -> Tensor:
        return describe(seen.statistics, seen.spectrum, seen.surprise, seen.lone, distance)


def _cat(parts: Sequence[Any]) -> Any:
    """Tensors, or Gaussians, one after the other."""
    if isinstance(parts[0], Gaussian):
        return Gaussian(*(torch.cat(column) for column in zip(*parts, strict=True)))
    return torch.cat(list(parts))


def save_uncertainty(run: Path, uncertainty: Uncertainty) -> Path:
    """Write RUN/uncertainty.safetensors, bound to the weights beside it."""
    return _PART.save(run, uncertainty)


def load_uncertainty(run: Path, vae: VAE) -> Uncertainty:
    """Read what `save_uncertainty` wrote, strictly.

    Raises:
        NotCalibratedError: there is none, or it is of another format or other weights.
        RunError: it is damaged.
    """
    return _PART.load(run, lambda tensors: Uncertainty(vae))
