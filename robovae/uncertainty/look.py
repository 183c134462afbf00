"""One forward pass of the VAE over frames: everything that the scores but for sigma are computed from."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from robovae.gaussian import Gaussian, kl
from robovae.vae import VAE


class Look(NamedTuple):
    """What one pass of the encoder, and one of p(grid | z), tell of B frames."""

    statistics: Tensor
    """Mean and deviation of each colour, of its slope along both axes, and of each feature map, (B, S)."""
    spectrum: Tensor
    """Power of the frame itself by fineness of its structure, (B, 2 ORDERS); see `power`."""
    local: Gaussian
    """q(grid | x), (B, c, h, w)."""
    lone: Gaussian
    """q(z | x) under N(0, I), as the encoder has it, (B, D)."""
    surprise: Tensor
    """KL(q(grid|x) || p(grid|mu)) of each cell, (B, h, w) nats: what the belief does not account for."""


def look(vae: VAE, images: Tensor) -> Look:
    """Images (B, 3, H, W) in [0, 1] -> Look."""
    x = images - vae.mean_frame
    # Slopes, because the encoder learns to overlook how sharp a picture is.
    statistics = [part for maps in (x, x.diff(dim=2), x.diff(dim=3)) for part in _mean_and_std(maps)]
    for layer in vae.local_encoder.body:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            statistics += _mean_and_std(x)
    local = vae.local_encoder.read(x)
    lone = vae.encode_global(local.mu)
    surprise = kl(local, vae.predict_grid(lone.mu)).sum(1)
    return Look(torch.cat(statistics, 1).float(), power(images), local, lone, surprise)


ORDERS = 3
"""Differences that are taken of a frame: slope, curvature, and what changes from pixel to pixel."""
_ROUNDING = 1.0 / 255.0**2 / 12.0
"""Mean square of what rounding to uint8 leaves: no structure is finer."""


def power(images: Tensor) -> Tensor:
    """How much fine structure frames have, order by order and axis by axis.

    The n-th difference of neighbours weighs a spatial frequency w by (2 sin(w / 2))^2n, so that each order
    looks at finer structure than the one before. Of the frame itself and not of its distance from the mean
    frame: what is there whatever the robot does has a power that hardly varies, until lens or sensor fail.

    Args:
        images: (B, 3, H, W) in [0, 1].

    Returns:
        Log of the mean squares over colours and pixels, down the rows before along them: (B, 2 ORDERS).
    """
    found, laid = [], images.contiguous()  # the way sums are quickest
    for axis in (2, 3):
        maps = laid
        for _ in range(ORDERS):
            maps = maps.diff(dim=axis)
            found.append(torch.linalg.vector_norm(maps, dim=(1, 2, 3)) * maps[0].numel() ** -0.5)
    return torch.log(torch.stack(found, 1).square() + _ROUNDING)


def _mean_and_std(maps: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, h, w) -> (B, C) each; each map laid end to end, the way sums are quickest."""
    pixels = maps.contiguous().flatten(2)
    mean = pixels.mean(2, keepdim=True)
    return mean[..., 0], (pixels - mean).norm(dim=2) / (pixels.shape[2] - 1) ** 0.5
