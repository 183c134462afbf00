"""Trust: which of two encoders a frame's belief comes from, and how much measurement noise is on top.

The ELBO gives the width that nominal frames justify. Of a strange frame the denoising encoder knows more;
the two are joined by the share w(x) that it is heard with, and noise of variance R(x) is on top.
A belief is N(0, I) times a message of variance v = sigma^2 / (1 - sigma^2); noise is added to the message's
variance, so that what comes out falls back to the prior when the frame says nothing: R -> oo gives mu -> 0,
sigma -> 1, 0 nats.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from robovae.dynamics import widen
from robovae.gaussian import Gaussian

_LEAST, _MOST = -12.0, 9.0
"""Log of R: from less than any message's own variance but the surest to far above the prior's."""
_SHARE, _NOISE = -3.0, -4.0
"""Where learning starts: the first word is the VAE's, and there is little noise beside the prior."""
_SMALL = 0.01


class Trust(nn.Module):
    """w(x) and R(x) of each latent, by how strange a frame is.

    Read from a few scores alone: networks that see all of a frame's features are at a loss where a
    fault takes them to where no corruption was, and trust nothing there. One part of R never falls with the
    distance from nominal frames, since how a network goes on is anybody's guess.

    Args:
        scores: S, how many of them.
        latent_dim: D.
        distance: which of them is that distance.
        hidden: width of the network.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, scores: int, latent_dim: int, distance: int, hidden: int = 64) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(scores))
        self.register_buffer("scale", torch.ones(scores))
        self._distance = distance
        self.body = nn.Sequential(nn.Linear(scores, hidden), nn.SiLU(), nn.Linear(hidden, 2 * latent_dim))
        self.caution = nn.Parameter(torch.full((latent_dim,), -2.0))

    def standardise(self, scores: Tensor) -> None:
        """Fix the scale of the scores from those of nominal frames (N, S)."""
        self.shift.copy_(scores.mean(0))
        self.scale.copy_(scores.std(0).clamp_min(1e-4))

    def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B, S) -> w (B, D), from 0 to 1, and R (B, D), > 0."""
        # asinh: near zero as it is, far out still growing, so that a stranger frame never looks less strange.
        x = torch.asinh((scores - self.shift) / self.scale)
        share, log_noise = self.body(x).chunk(2, dim=1)
        far = x[:, self._distance, None].clamp_min(0.0)
        log_noise = log_noise + functional.softplus(self.caution) * far
        return torch.sigmoid(share + _SHARE), (log_noise + _NOISE).clamp(_LEAST, _MOST).exp()


def trusted(lone: Gaussian, denoised: Gaussian, share: Tensor, noise: Tensor) -> Gaussian:
    """The calibrated belief of frames.

    Args:
        lone: what the VAE's encoder says, (B, D).
        denoised: what the denoising encoder says, (B, D).
        share: w, (B, D); 0 leaves `denoised` unheard.
        noise: R, (B, D), on top of the joint message.
    """
    return widen(intersection(lone, denoised, share), noise)


def intersection(a: Gaussian, b: Gaussian, share: Tensor) -> Gaussian:
    """Join two estimates of one thing, whatever their errors have in common, by covariance intersection.

    Precisions and precision-weighted means are averaged by weights that add up to 1 (Julier & Uhlmann 1997,
    "A non-divergent estimation algorithm in the presence of unknown correlations", eq. 7 and 8): two
    encoders that err alike are no surer together.

    Args:
        a: (B, D).
        b: (B, D).
        share: weight of b, (B, D), from 0 to 1.
    """
    p, q = (1.0 - share) * torch.exp(-2.0 * a.log_sigma), share * torch.exp(-2.0 * b.log_sigma)
    return Gaussian((p * a.mu + q * b.mu) / (p + q), -0.5 * torch.log(p + q))


def disagreement(a: Gaussian, b: Gaussian) -> Tensor:
    """Log of the mean squared distance of two beliefs in the widths of both, (B,)."""
    squares = (a.mu - b.mu).square() / (a.sigma.square() + b.sigma.square())
    return torch.log(squares.mean(1) + _SMALL)


def misfit(truth: Gaussian, belief: Gaussian) -> Tensor:
    """Minus the expected log density of draws from `truth` under `belief`, less the constant: (B,) nats."""
    return (0.5 * misses(truth, belief) + belief.log_sigma).sum(1)


def misses(truth: Gaussian, belief: Gaussian) -> Tensor:
    """Expected squared distance of draws from `truth` to the mean of `belief`, in its widths, (B, D)."""
    squares = (truth.mu - belief.mu).square() + truth.sigma.square()
    return squares * torch.exp(-2.0 * belief.log_sigma)
