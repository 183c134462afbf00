"""A second encoder, which sees through corruption: what would the clean frame have said?

The VAE's own encoder has met nominal frames alone: a lamp a little dimmer moves its belief by a deviation. A
copy of it is fitted to say of a corrupted frame what the original says of the clean one (Vincent et al. 2008
corrupt what an autoencoder sees in the same way; here the target is a belief and no picture). It learns from
corruptions of our own, none of a kind with a fault that robovae is judged by, and sees through those better
too. Of nominal frames the original knows more, so neither replaces the other: see `Trust`.
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from robovae.gaussian import Gaussian
from robovae.monitor import CalibrationError
from robovae.train.muon import Muon
from robovae.train.objectives import learning_rate
from robovae.uncertainty.scores import Mahalanobis
from robovae.uncertainty.trust import misses
from robovae.vae import VAE

TAIL = 3.0
"""Widths from which on a miss costs its distance, no more its square."""
_LR, _CLIP = 4e-3, 100.0

Batch = tuple[Tensor, Gaussian]
"""Images (B, 3, H, W), and the beliefs (B, D) that their clean twins give."""


class DenoisingEncoder(nn.Module):
    """q(z | x~): what a corrupted frame x~ leaves of the belief about the clean one.

    Its grid draws nothing, and says nothing to anyone but its own upper half.

    Args:
        vae: whose encoder it begins as.
    """

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.local_encoder = deepcopy(vae.local_encoder).requires_grad_(True)
        self.global_encoder = deepcopy(vae.global_encoder).requires_grad_(True)
        self.learnt = Mahalanobis(vae.config.hidden)
        """Of the features that beliefs are read off, on frames like those that it learns from."""

    def forward(self, vae: VAE, images: Tensor) -> tuple[Gaussian, Tensor]:
        """What a frame leaves of the belief, and how foreign it is.

        Args:
            vae: whose latents they are.
            images: (B, 3, H, W) in [0, 1].

        Returns:
            Gaussian of (B, D) with sigma < 1; and log distance of the features from all that was learnt
            from, (B,): where that is far, its word is a guess.
        """
        features = self.features(vae, images)
        return self.read(features), self.learnt(features)

    def features(self, vae: VAE, images: Tensor) -> Tensor:
        """What the belief is read off, (B, hidden)."""
        grid = self.local_encoder(images - vae.mean_frame).mu
        found: Tensor = self.global_encoder.features(vae.standardised(grid))
        return found

    def read(self, features: Tensor) -> Gaussian:
        """The belief in features (B, hidden)."""
        found: Gaussian = self.global_encoder.read(features)
        return found


def fit_denoising(
    encoder: DenoisingEncoder,
    vae: VAE,
    batches: Callable[[], Batch],
    steps: int,
    tell: Callable[[int], None],
) -> None:
    """Fit the encoder to what the VAE's own says of clean frames.

    Args:
        encoder: is trained.
        vae: stays as it is.
        batches: gives the next one.
        steps: updates.
        tell: told of each.

    Raises:
        CalibrationError: the loss is not finite.
    """
    trained = list(encoder.parameters())
    optimizer = Muon(trained, _LR)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, _LR)
        images, goal = batches()
        loss = tailed_misfit(goal, encoder.read(encoder.features(vae, images))).mean()
        if not torch.isfinite(loss):
            raise CalibrationError(
                f"denoising encoder: expected a finite loss, received {loss.item()} in update {step}; check "
                "the data with `robovae data verify`, or do without: --denoising-steps 0"
            )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, _CLIP)
        optimizer.step()
        tell(step + 1)


def tailed_misfit(truth: Gaussian, belief: Gaussian) -> Tensor:
    """The misfit of a belief with heavy tails, (B,) nats: the pseudo-Huber loss in the place of the square.

    Where a piece of another frame hides all that matters, nothing tells. By the square such frames would
    drown what can be learnt from the others; here what they cost grows with the distance alone, from `TAIL`
    widths on. (From one width on, the best sigma of a Gaussian error would be 0.65 of its deviation.)

    Args:
        truth: (B, D).
        belief: (B, D).
    """
    return (TAIL**2 * torch.sqrt(1.0 + misses(truth, belief) / TAIL**2) + belief.log_sigma).sum(1)
