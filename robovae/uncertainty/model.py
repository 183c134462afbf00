"""What calibration adds to a run: a denoising encoder, trust and scores, one file beside the model's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from robovae.gaussian import Gaussian
from robovae.uncertainty.denoising import DenoisingEncoder
from robovae.uncertainty.look import Look, look
from robovae.uncertainty.part import Part
from robovae.uncertainty.scores import SCORES, Strangeness
from robovae.uncertainty.trust import Trust, disagreement, trusted
from robovae.vae import VAE

FILE = "uncertainty.safetensors"
FORM = "6"
"""Version of the names in it."""
_PART = Part(FILE, FORM, "a calibrated run", "the calibration of these weights, received another's")
TRUST_SCORES = (*SCORES[:-1], "disagreement", "foreignness")
"""What trust is read from: the scores but for sigma, which is what comes of it, how far the two encoders
disagree, and how far the frame is from what the denoising one has learnt from."""


@dataclass(frozen=True)
class Insight:
    """All that is known of B frames on their own."""

    look: Look
    """Of the encoder."""
    total: Gaussian
    """The calibrated belief, (B, D): what either encoder says, by how far it is trusted."""
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
    """Denoising encoder, trust and scores of one VAE.

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
        self.denoising = DenoisingEncoder(vae)
        self.trust = Trust(len(TRUST_SCORES), vae.config.latent_dim, TRUST_SCORES.index("statistics"))

    def forward(self, vae: VAE, images: Tensor) -> Insight:
        """Images (B, 3, H, W) in [0, 1] -> Insight."""
        seen = look(vae, images)
        denoised, strange = self.evidence(vae, images, seen)
        total = trusted(seen.lone, denoised, *self.trust(strange))
        scores = torch.cat([strange[:, : len(SCORES) - 1], total.log_sigma.mean(1, keepdim=True)], 1)
        return Insight(seen, total, scores)

    def evidence(self, vae: VAE, images: Tensor, seen: Look) -> tuple[Gaussian, Tensor]:
        """What the denoising encoder says, (B, D), and `TRUST_SCORES`, (B, len(TRUST_SCORES))."""
        denoised, foreign = self.denoising(vae, images)
        joint = torch.stack([disagreement(seen.lone, denoised), foreign], 1)
        return denoised, torch.cat([self.strangeness(seen), joint], 1)


def _cat(parts: Sequence[Any]) -> Any:
    """Tensors, or Gaussians, one after the other."""
    if isinstance(parts[0], Gaussian):
        return Gaussian.joined(parts)
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
