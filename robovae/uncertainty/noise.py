"""Measurement noise: what corruption and novelty take away from the message of a frame.

The ELBO gives the width that nominal frames justify. A frame's message has the variance
v = sigma^2 / (1 - sigma^2); noise of variance R(x) is added to it, message and prior N(0, I) are multiplied
again, and what comes out falls back to the prior when the frame says nothing: R -> oo gives mu -> 0,
sigma -> 1, 0 nats.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from robovae.gaussian import Gaussian

_LEAST, _MOST = -8.0, 9.0
"""Log of R: from far below any message's own variance to far above the prior's."""
HEADS = 4


class _Heads(nn.Module):
    """A linear layer of each head, all in one product: one frame is a matter of calls, not of sums."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(HEADS, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(HEADS, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(HEADS, B, inputs) -> (HEADS, B, outputs)."""
        return torch.baddbmm(self.bias, x, self.weight)


class MeasurementNoise(nn.Module):
    """R(x): the variance that frame x deserves on top of its message, for each latent.

    Several small networks of different first weights are averaged: where they disagree, the widest decides.
    The last feature, the distance from nominal frames, is hidden from them and enters by a weight that is
    never negative: how a network goes on past all that it was trained on is anybody's guess, but further away
    is never surer.

    Args:
        features: S of `describe`.
        latent_dim: D.
        hidden: width of each network.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, features: int, latent_dim: int, hidden: int = 128) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.layers = nn.ModuleList(
            [_Heads(features - 1, hidden), _Heads(hidden, hidden), _Heads(hidden, latent_dim)]
        )
        self.caution = nn.Parameter(torch.full((HEADS, 1, latent_dim), -2.0))

    def standardise(self, features: Tensor) -> None:
        """Fix the scale of the features from those of nominal frames (N, S)."""
        self.shift.copy_(features.mean(0))
        self.scale.copy_(features.std(0).clamp_min(1e-4))

    def each(self, features: Tensor) -> Tensor:
        """Log of R by every head, (B, S) -> (HEADS, B, D)."""
        # asinh: near zero as it is, far out still growing, so that a stranger frame never looks less strange.
        x = torch.asinh((features - self.shift) / self.scale).expand(HEADS, -1, -1)
        first, second, last = self.layers
        raw = last(functional.silu(second(functional.silu(first(x[..., :-1])))))
        raw = raw + functional.softplus(self.caution) * x[..., -1:].clamp_min(0.0)
        out: Tensor = _LEAST + (_MOST - _LEAST) * torch.sigmoid(raw - 1.0)
        return out

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, S) -> R (B, D), > 0."""
        return self.each(features).exp().mean(0)


def describe(
    statistics: Tensor, spectrum: Tensor, surprise: Tensor, lone: Gaussian, distance: Tensor
) -> Tensor:
    """What R is read from, of B frames.

    Args:
        statistics: of the feature maps (`Look.statistics`), (B, S').
        spectrum: of the frames (`Look.spectrum`), (B, P).
        surprise: of each cell, (B, h, w) nats.
        lone: the encoder's belief, (B, D).
        distance: log distance of the statistics from nominal ones (`Strangeness.statistics`), (B,).

    Returns:
        (B, S), the distance last.
    """
    return torch.cat([statistics, spectrum, torch.log1p(surprise.flatten(1)), *lone, distance[:, None]], 1)


def widen(lone: Gaussian, noise: Tensor) -> Gaussian:
    """Add measurement noise to the message in a lone belief.

    Args:
        lone: N(0, I) times a message, (B, D), sigma < 1.
        noise: R, (B, D), >= 0; 0 leaves the belief as it is.

    Returns:
        N(0, I) times the noisier message: nearer to 0 and wider, sigma < 1.
    """
    variance = torch.exp(2.0 * lone.log_sigma)
    # With v = variance / (1 - variance): mu' = mu (1 + v) / (1 + v + R), sigma'^2 = (v + R) / (1 + v + R).
    silence = 1.0 - variance
    whole = 1.0 + noise * silence
    return Gaussian(lone.mu / whole, 0.5 * torch.log((variance + noise * silence) / whole))


def misfit(truth: Gaussian, belief: Gaussian) -> Tensor:
    """Minus the expected log density of draws from `truth` under `belief`, less the constant: (B,) nats."""
    squares = (truth.mu - belief.mu).square() + truth.sigma.square()
    return (0.5 * squares * torch.exp(-2.0 * belief.log_sigma) + belief.log_sigma).sum(1)
