"""The evidence lower bound in nats a frame: summed over pixels and latents, never averaged over them.

log p(x) >= E_q[log p(x|grid)] - E_q[KL(q(grid|x) || p(grid|z))] - KL(q(z|x) || p(z))

(Kingma & Welling, 1312.6114, eq. 3, with two levels of latents.) No training code: `train/` optimises these.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from robovae.gaussian import Gaussian, kl
from robovae.vae import MIN_PIXEL_STD, VAE


class Terms(NamedTuple):
    """The bound of each frame in its three parts, (B,) each, in nats."""

    reconstruction: Tensor
    """log p(x | grid) of one drawn grid."""
    local_kl: Tensor
    """KL(q(grid|x) || p(grid|z)) for one drawn z."""
    global_kl: Tensor
    """KL(q(z|x) || p(z))."""

    @property
    def elbo(self) -> Tensor:
        """The bound itself, (B,): a density over [0, 1] pixels, so it may exceed 0."""
        return self.reconstruction - self.local_kl - self.global_kl


def log_likelihood(images: Tensor, decoded: Tensor, pixel_std: Tensor) -> Tensor:
    """Log N(x; decoded, pixel_std^2) summed over pixels.

    Args:
        images: (B, 3, H, W) in [0, 1].
        decoded: (B, 3, H, W), the decoder's mean.
        pixel_std: scalar standard deviation in units of [0, 1] pixels.

    Returns:
        (B,) nats.
    """
    error = (images - decoded).square().flatten(1).sum(1)
    constant = images[0].numel() * (pixel_std.log() + 0.5 * math.log(2.0 * math.pi))
    return -0.5 * error / pixel_std.square() - constant


def optimal_log_likelihood(images: Tensor, decoded: Tensor) -> Tensor:
    """The mean log likelihood of a batch at the pixel_std that is best for it: -N/2 (log(2 pi MSE) + 1).

    Its gradient weighs pixels against latents without a knob (Rybkin et al., 2006.13202, eq. 10). pixel_std
    is floored at what rounding to uint8 leaves.

    Returns:
        Scalar, nats a frame.
    """
    mse = (images - decoded).square().mean().clamp_min(MIN_PIXEL_STD**2)
    return -0.5 * images[0].numel() * (torch.log(2.0 * math.pi * mse) + 1.0)


def free_bits(nats: Tensor, floor: float) -> Tensor:
    """Charge no dimension less than `floor` nats (Kingma et al., 1606.04934, eq. 15).

    Args:
        nats: KL by frame and dimension, (B, ...).
        floor: nats a dimension, on average over the batch.

    Returns:
        Scalar, nats a frame.
    """
    return nats.mean(0).clamp_min(floor).sum()


def lone_frame_terms(model: VAE, images: Tensor, generator: torch.Generator) -> Terms:
    """One draw of the bound for frames on their own, whose prior is p(z) = N(0, I).

    Args:
        model: the VAE.
        images: (B, 3, H, W) in [0, 1].
        generator: source of the noise.
    """
    local, belief = model(images)
    grid = local.sample(_noise(local.mu, generator))
    z = belief.sample(_noise(belief.mu, generator))
    return Terms(
        log_likelihood(images, model.decode_grid(grid), model.pixel_std),
        kl(local, model.predict_grid(z)).flatten(1).sum(1),
        kl(belief, Gaussian.standard(belief.mu)).sum(1),
    )


def iwae(model: VAE, images: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Importance-weighted bound: log of the mean weight of `samples` draws (Burda et al., 1509.00519, eq. 8).

    Args:
        model: the VAE.
        images: (B, 3, H, W) in [0, 1].
        samples: K; the bound rises with it to log p(x), and is the ELBO in expectation at K = 1.
        generator: source of the noise.

    Returns:
        (B,) nats.
    """
    local, belief = model(images)
    weights = []
    for _ in range(samples):
        grid = local.sample(_noise(local.mu, generator))
        z = belief.sample(_noise(belief.mu, generator))
        joint = (
            log_likelihood(images, model.decode_grid(grid), model.pixel_std)
            + model.predict_grid(z).log_prob(grid).flatten(1).sum(1)
            + Gaussian.standard(z).log_prob(z).sum(1)
        )
        weights.append(joint - local.log_prob(grid).flatten(1).sum(1) - belief.log_prob(z).sum(1))
    return torch.logsumexp(torch.stack(weights), 0) - math.log(samples)


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device)
